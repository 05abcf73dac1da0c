"""Which prompts are put aside into a split ``test``: all rows of a prompt are in the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def in_test(prompt_ids: Iterable[str], share: float) -> np.ndarray:
    """Whether each prompt belongs to ``test``: by a hash of its id, so that every export of a run agrees."""
    limit = int(share * 2**64)
    return np.array([_position(prompt_id) < limit for prompt_id in prompt_ids], dtype=bool)


def _position(prompt_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(prompt_id.encode(), digest_size=8, person=b"test split").digest(), "big")

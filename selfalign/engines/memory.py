"""What to do when memory runs out: half as many rows at a time, the same results."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

from selfalign.errors import StageFailed

T = TypeVar("T")
R = TypeVar("R")

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


class Backoff:
    """Runs rows together, halves on out-of-memory, and remembers the size that failed.

    ``on_event`` is told of every halving as ("oom_backoff", message).
    """

    def __init__(self, on_event: Callable[[str, str], None]) -> None:
        self._on_event = on_event
        #: Resident tokens that may be tried at once; None: no failure yet.
        self._limit: int | None = None

    def run(
        self, rows: Sequence[T], work: Callable[[Sequence[T]], list[R]], size: Callable[[Sequence[T]], int]
    ) -> list[R]:
        """``work(rows)``, in as many pieces as memory needs. ``size`` counts the tokens rows keep resident.

        Raises:
            StageFailed: a single row does not fit.
        """
        tokens = size(rows)
        if len(rows) == 1 or self._limit is None or tokens <= self._limit:
            # The exception must be gone before the retry: its frames hold the tensors that filled the memory.
            if (done := self._attempt(rows, work)) is not None:
                return done
            if len(rows) == 1:
                raise StageFailed(
                    f"out of memory with a single sequence of up to {tokens} tokens; lower generate.max_tokens, use a "
                    f"smaller model or dtype, or a device with more memory"
                )
            self._limit = tokens // 2
            self._on_event(
                "oom_backoff",
                f"out of memory with {len(rows)} rows of {tokens} tokens together; going on with half as many",
            )
        half = (len(rows) + 1) // 2
        return self.run(rows[:half], work, size) + self.run(rows[half:], work, size)

    @staticmethod
    def _attempt(rows: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R] | None:
        try:
            return work(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release_memory()
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA raises its own class (a RuntimeError), the CPU allocator a plain RuntimeError, Python a MemoryError."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


def release_memory() -> None:
    """Collect garbage and hand cached device memory back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

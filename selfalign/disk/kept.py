"""What is left of a checkpoint whose weights are not there as they were trained, and how to say so.

The folder of M_t keeps its config, tokenizer and manifest whatever happens to its weights; a file
``kept.json`` in it says what became of them. No such file: the weights are whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from selfalign.durable import write_atomic
from selfalign.errors import StoreError

RECORD = "kept.json"
#: removed: nothing left; adapter: rebuilt bit for bit from the parent; bitdelta: rebuilt approximately from M0;
#: approximate: rebuilt from bitdelta, and lying in the folder.
Form = Literal["removed", "adapter", "bitdelta", "approximate"]


@dataclass(frozen=True)
class Kept:
    """``weights_hash`` is M_round's own, ``restored_hash`` that of the approximation where the form is lossy."""

    round: int
    form: Form
    why: str
    weights_hash: str
    restored_hash: str | None = None


def read(folder: Path) -> Kept | None:
    """The record in ``folder``, or None where its weights are whole.

    Raises:
        StoreError: there is a record, but it cannot be read.
    """
    path = folder / RECORD
    try:
        return Kept(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it from a copy") from None


def write(folder: Path, kept: Kept) -> None:
    """Durable before it returns: from here on the weights count as gone."""
    write_atomic(folder / RECORD, json.dumps(asdict(kept), indent=2))


def explain(kept: Kept, workspace: Path) -> str:
    """One line: what became of the weights of M_round, why, and how to have them again."""
    name = f"the weights of M{kept.round}"
    restore = f"selfalign checkpoints restore {workspace} {kept.round}"
    if kept.form == "removed":
        return (
            f"{name} were removed ({kept.why}) and cannot be restored; train them again with: "
            f"selfalign resume {workspace} --from-round {kept.round - 1}"
        )
    if kept.form == "adapter":
        return f"{name} were reduced to their adapter ({kept.why}); restore them, bit for bit, with: {restore}"
    if kept.form == "bitdelta":
        return f"{name} were compressed to one bit each ({kept.why}); restore them, approximately, with: {restore}"
    return (
        f"{name} were restored from a one-bit copy and are not exactly those of M{kept.round} (hash "
        f"{(kept.restored_hash or '')[:12]}, M{kept.round} had {kept.weights_hash[:12]}); set keep.allow_lossy: true "
        f"to let a round start from them"
    )

"""An exponential moving average of checkpoints as a model folder of its own, for a loss to compare with.

    E_0 = M_0,   E_i = ema * E_{i-1} + (1 - ema) * M_i

It is written in float32, whatever the models' own format: in 16 bits a round's small change would be rounded away again
and again. Two products and a sum in float32, each rounded once, give the same bits on any processor, and the same
whether the average goes on from an earlier one or from M_0.

    model.safetensors, config.json, tokenizer ...   a whole folder, as of any model
    average.json                                    written last: what it is an average of, and the hash of its weights
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfalign.durable import write_atomic
from selfalign.errors import ModelError, WeightsMismatch
from selfalign.identity import content_id, hash_weights
from selfalign.training import tensors
from selfalign.training.checkpoints import check_disk, headers, out_of_space_is_clear, publish
from selfalign.training.tensors import Spec, Weights

MANIFEST = "average.json"
_FORMATS = ("F32", "BF16", "F16")


@dataclass(frozen=True)
class Manifest:
    """``identity`` is that of :func:`identity`; ``weights_hash`` of the average itself."""

    identity: str
    ema: float
    models: tuple[str, ...]
    weights_hash: str


@dataclass(frozen=True)
class Source:
    """A folder with weights, and their hash."""

    folder: Path
    weights_hash: str


def identity(ema: float, models: Sequence[str]) -> str:
    """What an average is, by the hashes of M_0, M_1 ... that it is of."""
    return content_id("average", ema, list(models))


def folder_name(round: int, ema: float, models: Sequence[str]) -> str:
    """Name of the folder with the average for ``round``."""
    return f"round-{round}-{identity(ema, models)[:8]}"


def read_manifest(folder: Path) -> Manifest | None:
    """What ``folder`` is an average of; None where that is not written, or not readable."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(found["identity"], float(found["ema"]), tuple(found["models"]), found["weights_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_formats(folder: Path) -> None:
    """Raise ModelError where ``folder`` has tensors that cannot be averaged; only headers are read."""
    for name, entry in headers(folder):
        if entry["dtype"] not in _FORMATS:
            raise ModelError(
                f"{folder}: {name} is stored as {entry['dtype']}, of which no average can be made; set train.reference to "
                "previous or initial"
            )


def size(folder: Path) -> int:
    """Bytes of an average's weights, of models like the one in ``folder``."""
    return sum(4 * math.prod(entry["shape"]) for _, entry in headers(folder))


def build(below: Source, added: Sequence[Source], ema: float, models: Sequence[str], target: Path) -> str:
    """Make the average of ``models`` (hashes) in the folder ``target``, unless it is there; returns its weights' hash.

    ``below`` is M_0 or an earlier average, to which the models ``added`` are added in this order; none where it is
    ``target`` already.

    Raises:
        WeightsMismatch: a source is not what its hash says.
        ModelError: the sources are not of one architecture.
        DiskFull: no room.
    """
    wanted = identity(ema, models)
    found = read_manifest(target)
    if found is not None and found.identity == wanted and _whole(target, found):
        return found.weights_hash
    if not added:  # it was there, and is damaged by now: only the caller knows of what to make it again
        raise WeightsMismatch(f"{target}: the average changed since this round began; run again, and it is made again")
    for source in (below, *added):
        if hash_weights(source.folder) != source.weights_hash:
            raise WeightsMismatch(
                f"{source.folder}: the weights changed since this round began; put the original files back"
            )
    check_disk(target, size(added[-1].folder))
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with out_of_space_is_clear(target, discard=aside):
        _write(below.folder, [source.folder for source in added], ema, aside / "model.safetensors")
        _copy_rest(added[-1].folder, aside)
        made = hash_weights(aside)
        write_atomic(aside / MANIFEST, json.dumps(asdict(Manifest(wanted, ema, tuple(models), made)), indent=2))
        shutil.rmtree(target, ignore_errors=True)  # what is there is damaged, and all of it can be made again
        publish(aside, target)
    return made


def _whole(folder: Path, manifest: Manifest) -> bool:
    try:
        return hash_weights(folder) == manifest.weights_hash
    except (ModelError, OSError):
        return False


def _copy_rest(folder: Path, output: Path) -> None:
    from selfalign.training.policy import copy_rest

    copy_rest(folder, output)


def _write(below: Path, added: Sequence[Path], ema: float, target: Path) -> None:
    import torch

    with ExitStack() as stack:
        opened = [stack.enter_context(tensors.opened(folder)) for folder in (below, *added)]
        specs = _specs(opened, below)

        def tensor(name: str) -> Any:
            value = opened[0][name].to(torch.float32)
            for weights in opened[1:]:
                # Not in one operation: a fused one rounds otherwise on some processors.
                kept, new = value * ema, weights[name].to(torch.float32) * (1.0 - ema)
                value = kept + new
            return value

        tensors.write(target, specs, tensor, {"kind": "average"})


def _specs(opened: Sequence[Weights], below: Path) -> Mapping[str, Spec]:
    """Tensors of the newest model; a tied head that another folder stores a second time is left out."""
    for weights in opened[:-1]:
        for name, spec in opened[-1].specs.items():
            if name not in weights.specs or weights.specs[name].shape != spec.shape:
                raise ModelError(f"{below}: {name} is not there, or of another shape: no average with other models")
    return {name: Spec("F32", spec.shape) for name, spec in opened[-1].specs.items()}

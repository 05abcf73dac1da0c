"""What a stage process is going to import, so that it is loaded once, before it is forked (preloader.py).

Only what this package knows of: a plug-in of another one is imported by the stage itself, as nobody can say whether
a fork after that is a clean start. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfalign.config import RunConfig
from selfalign.errors import ConfigError
from selfalign.registry import find
from selfalign.stages.worker import WORK

_LLAMA = "llama"
_CHECKERS = ("if_verifiable.ifeval", "langdetect")
#: Module -> what its functions import.
_LATER: Mapping[str, tuple[str, ...]] = {
    "selfalign.engines.transformers_engine": (
        "selfalign.engines.loading", "selfalign.engines.decoding", "selfalign.engines.scoring",
    ),
    "selfalign.judges.verifier": _CHECKERS,
    "selfalign.training.pairwise": ("selfalign.training.pairwise_run",),
    "selfalign.training.kto": ("selfalign.training.kto_run",),
    "selfalign.training.listwise": ("selfalign.training.listwise_run",),
    "selfalign.training.sft": ("selfalign.training.sft_run",),
}  # fmt: skip


def of_job(spec: Mapping[str, Any]) -> list[str]:
    """Modules that the stage process of ``spec`` (see jobs.py) imports, in order."""
    return list(dict.fromkeys(_of_job(spec)))


def of_run(config: RunConfig) -> list[str]:
    """Modules that stages of a run import, those of the first stage first."""
    engine = {"engine": {"id": config.generate.engine.id}, "model": config.model}
    judge = config.judge and {"judge": config.judge.model_dump(mode="json")}
    trainers = [config.train, *([config.teach.train] if config.teach.rounds else [])]
    jobs: Sequence[Mapping[str, Any]] = [
        {"kind": "generate", **engine},
        *([{"kind": "judge", **judge}] if judge else []),
        *({"kind": "train", "model": config.model, "train": {"id": trainer.id}} for trainer in trainers),
        *([{"kind": "log_ratio", **engine}] if config.evaluate.log_ratio else []),
        {"kind": "judge", "judge": {"id": "verifier"}},  # of held-out answers
    ]
    return list(dict.fromkeys(name for job in jobs for name in _of_job(job)))


def _of_job(spec: Mapping[str, Any]) -> Iterator[str]:
    yield WORK[spec["kind"]].partition(":")[0]
    for kind in ("engine", "judge", "train"):
        for name in _ids(spec.get(kind)):
            yield from _of_plugin(kind, name)
    if architecture := _architecture(spec.get("model") or spec.get("parent")):
        yield f"transformers.models.{architecture}.modeling_{architecture}"
        yield f"transformers.models.{architecture}.tokenization_{architecture}"


def _ids(settings: Any) -> Iterator[str]:
    """The names in a plug-in's settings: its own, and those of the judges that it is made of."""
    if isinstance(settings, Mapping):
        if isinstance(settings.get("id"), str):
            yield settings["id"]
        for value in settings.values():
            yield from _ids(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _ids(value)


def _of_plugin(kind: str, name: str) -> Iterator[str]:
    try:
        module = find(kind, name).target.partition(":")[0]
    except ConfigError:
        return  # an id of something else inside a judge's settings
    if module.startswith("selfalign."):
        yield module
        yield from _LATER.get(module, ())


def _architecture(model: str | None) -> str | None:
    """What transformers calls the kind of model in the folder ``model``; Llama's where it is no folder (yet)."""
    if model is None:
        return None
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        name = str(config["model_type"]).replace("-", "_")
    except (OSError, ValueError, KeyError, TypeError):
        return _LLAMA
    return name if name.isidentifier() else None

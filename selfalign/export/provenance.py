"""Where a run's rows come from, as its card says it: facts of the store, and what is not known as not known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import BadInput, ConfigError, PromptFileError
from selfalign.export import licences
from selfalign.models.resolve import local_model
from selfalign.sources.files import find_file
from selfalign.store.store import Store

#: Versions that a reader of the data may ask for.
_PACKAGES = ("torch", "transformers", "trl", "vllm", "datasets")


@dataclass(frozen=True)
class Provenance:
    """Of the run, or of one of its branches; ``rounds`` has a mapping a round: parent, yields, judge and its accuracy."""

    run: str
    branch: str | None
    seed: int
    config_hash: str
    version: str
    packages: Mapping[str, str]
    created: str
    model: str
    model_hash: str | None
    model_licence: str
    prompt_files: Sequence[Mapping[str, str]]
    system_prompt: str | None
    judge: str
    builder: str
    trainer: str
    rounds: Sequence[Mapping[str, Any]]


def provenance(store: Store, branch: str | None, prompt_licence: str | None) -> Provenance:
    """The facts.

    Raises:
        BadInput: the run has no such branch, or nothing yet.
    """
    run = store.get_run()
    if run is None:
        raise BadInput(f"{store.path}: holds no run yet; 'selfalign run CONFIG' makes one")
    config = json.loads(run["config"] if branch is None else _config_of(store, branch))
    environment = json.loads(run["environment"])
    known = environment.get("packages") or {}
    first = store.query("SELECT weights_hash FROM rounds WHERE round = 0").to_pylist()
    return Provenance(
        run=run["run"],
        branch=branch,
        seed=int(run["seed"]),
        config_hash=run["config_hash"],
        version=run["version"],
        packages={name: known[name] for name in _PACKAGES if known.get(name)},
        created=f"{run['created_at']:%Y-%m-%d}",
        model=_name(config.get("model")),
        model_hash=first[0]["weights_hash"] if first else None,
        model_licence=licences.of_model(str(config.get("model")), local_model(str(config.get("model")))),
        prompt_files=[_prompt_file(source, prompt_licence) for source in config.get("prompts", {}).get("sources", [])],
        system_prompt=config.get("generate", {}).get("system_prompt"),
        judge=_settings(config.get("judge")),
        builder=_settings(config.get("pair")),
        trainer=_settings(config.get("train")),
        rounds=store.query(_ROUNDS).to_pylist(),
    )


def _config_of(store: Store, branch: str) -> str:
    found = store.query("SELECT branch, config FROM branches ORDER BY created_at, branch").to_pylist()
    configs = {row["branch"]: row["config"] for row in found}
    if branch not in configs:
        raise BadInput(f"--branch {branch}: the run has no such branch; known: {', '.join(configs) or 'none'}")
    return str(configs[branch])


def _name(model: Any) -> str:
    """A hub name as it is; of a folder only its name: where it lay is nobody's business."""
    path = Path(str(model))
    return path.name if path.is_absolute() or str(model).startswith((".", "~")) else str(model)


def _prompt_file(source: Mapping[str, Any], licence: str | None) -> Mapping[str, str]:
    name = str(source.get("path") or source.get("id"))
    try:
        found = licences.of_prompt_file(find_file(name, Path.cwd()))
    except (PromptFileError, ConfigError, OSError):
        found = licences.UNKNOWN
    return {"name": Path(name).name, "licence": licence or found}


def _settings(section: Any) -> str:
    """A plug-in's section of the config in one line: its id, then what else is set, as JSON."""
    if section is None:
        return "none"
    told = _told(section)
    if not isinstance(told, Mapping):
        return json.dumps(told, ensure_ascii=False)
    rest = {key: value for key, value in told.items() if key != "id"}
    return f"{told.get('id')} {json.dumps(rest, ensure_ascii=False)}" if rest else str(told.get("id"))


def _told(value: Any, key: str = "") -> Any:
    """Settings without what is empty, and without texts that may be an address, a path or a name of this place."""
    if isinstance(value, Mapping):
        told = {name: _told(member, name) for name, member in value.items()}
        return {name: member for name, member in told.items() if member not in (None, [], {})}
    if isinstance(value, list):
        return [told for member in value if (told := _told(member, key)) is not None]
    return value if not isinstance(value, str) or key in _TOLD else None


_TOLD = frozenset({"id", "rubric", "mode", "method", "reference", "loss", "schedule", "aggregate"})
_ROUNDS = """
    SELECT r.round, r.parent_hash, r.weights_hash, r.status,
        (SELECT count(*) FROM prompts p WHERE p.round = r.round AND p.split = 'train') AS prompts,
        (SELECT count(*) FROM candidates c WHERE c.round = r.round AND c.split = 'train') AS candidates,
        (SELECT count(*) FROM pairs p WHERE p.round = r.round) AS pairs,
        (SELECT count(*) FROM unary_labels u WHERE u.round = r.round) AS labels,
        (SELECT count(DISTINCT e.subject_id) FROM events e WHERE e.round = r.round AND e.kind = 'no_pair') AS unpaired,
        a.value AS accuracy, a.low AS accuracy_low, a.high AS accuracy_high, a.n AS accuracy_n
    FROM rounds r
    LEFT JOIN (
        SELECT * FROM evaluations WHERE metric = 'judge_pairwise_accuracy' AND split IN ('gold_test', 'gold_calibrate')
        QUALIFY row_number() OVER (PARTITION BY round ORDER BY split = 'gold_test' DESC) = 1
    ) a ON a.round = r.round
    ORDER BY r.round"""

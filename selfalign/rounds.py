"""The only module that names every stage and their order.

    round 0   prompts(held-out) -> answer -> evaluate
    round t   prompts -> generate -> judge -> pair -> train -> answer -> log_ratio -> evaluate

Round t starts from M_{t-1} and ends with M_t. Calling :func:`run_round_stage` for a stage that is done
does nothing, so running everything again is how a run is resumed.
"""

from __future__ import annotations

import json

import selfalign
from selfalign.config import RunConfig
from selfalign.environment import environment, start_event
from selfalign.errors import ConfigError
from selfalign.stages import evaluate, generate, judge, log_ratio, pair, prompts, train
from selfalign.stages.context import RunContext
from selfalign.stages.ledger import StageOutcome, run_stage

#: What may differ between two starts of one run: more rounds do not change those already made.
_FREE_TO_CHANGE = {"rounds", "workspace", "device"}


def stages_of(round: int, config: RunConfig) -> list[str]:
    """Names of a round's stages, in order."""
    if round == 0:
        return ["prompts", "answer", "evaluate"]
    divergence = ["log_ratio"] if config.evaluate.log_ratio else []
    return ["prompts", "generate", "judge", "pair", "train", "answer", *divergence, "evaluate"]


def run_round_stage(context: RunContext, round: int, name: str) -> StageOutcome | None:
    """Run one stage unless it is done; returns None where there was nothing to do."""
    if name in ("generate", "answer"):
        sampling = (generate.training_candidates if name == "generate" else generate.held_out_answers)(context, round)
        fingerprint = generate.fingerprint(context, round, sampling)
        return run_stage(context, round, name, fingerprint, lambda: generate.run(context, round, sampling))
    module = {
        "prompts": prompts, "judge": judge, "pair": pair, "train": train, "log_ratio": log_ratio, "evaluate": evaluate
    }[name]  # fmt: skip
    return run_stage(context, round, name, module.fingerprint(context, round), lambda: module.run(context, round))


def begin_round(context: RunContext, round: int) -> None:
    """Write the round's row, unless it is finished; M_0's weights are recorded before anything is made with them."""
    if _status(context, round) == "done":
        return
    if round == 0:
        context.store.put_round(0, weights_hash=context.model(0).weights_hash, status="running")
    else:
        context.store.put_round(round, parent_hash=context.model(round - 1).weights_hash, status="running")


def end_round(context: RunContext, round: int) -> None:
    if _status(context, round) != "done":
        context.store.put_round(round, status="done")


def _status(context: RunContext, round: int) -> str | None:
    found = context.store.query("select status from rounds where round = ?", (round,)).to_pylist()
    return found[0]["status"] if found else None


def open_run(context: RunContext) -> None:
    """Create or reopen the workspace's store and hold the config against the one the run began with.

    Raises:
        ConfigError: a setting that earlier rounds depend on has changed.
        StoreError: the store is foreign, corrupt or from a newer version.
    """
    config, workspace, store = context.config, context.workspace, context.store
    store.create()
    begun = store.get_run()
    here = environment(config=config.snapshot())
    if begun is None:
        store.put_run(
            config.name, seed=config.seed, config=json.dumps(config.snapshot()), config_hash=config.config_hash(),
            environment=json.dumps(here), version=selfalign.__version__,
        )  # fmt: skip
    else:
        changed = _changed(json.loads(begun["config"]), config.snapshot())
        if changed:
            raise ConfigError(
                f"{workspace.path}: the config changed since this run began: {'; '.join(changed[:4])}; put it back, or "
                f"start a run under another name"
            )
    store.insert([start_event(here)])
    workspace.save_config(config)


def _changed(before: dict[str, object], after: dict[str, object], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted({*before, *after}):
        if not prefix and key in _FREE_TO_CHANGE:
            continue
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _changed(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key} {json.dumps(old)} -> {json.dumps(new)}")
    return lines

"""A run's past: opening it, setting stages aside, going back to a round, bringing a branch back.

Nothing is thrown away here: rows move to a branch in one transaction, checkpoint folders stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import selfalign
from selfalign.changes import explain, stale_stages
from selfalign.config import RunConfig, validate_config
from selfalign.environment import environment, start_event
from selfalign.errors import ConfigError
from selfalign.failpoints import reach
from selfalign.rounds import begin_round, begun_stages, end_round, fingerprint, in_order, rounds_left, stages_of
from selfalign.stages import gate, reviewed
from selfalign.stages.context import RunContext
from selfalign.stages.reuse import take_over
from selfalign.stages.set_aside import go_back
from selfalign.store.branches import Branch, Place, freeze_rounds, in_words
from selfalign.store.store import Store

#: What to do with stages that the present config would make differently.
OnChange = Literal["ask", "branch", "keep", "refuse"]
#: Asks a person; gets the explanation and returns "branch", "keep" or "refuse".
Ask = Callable[[str], str]


def open_run(context: RunContext, on_change: OnChange = "refuse", ask: Ask | None = None) -> None:
    """Create or reopen the workspace's store and hold today's config against what the store's stages were made with.

    Raises:
        ConfigError: stages were made with other settings, and neither ``on_change`` nor ``ask`` says what to do.
        StoreError: the store is foreign, corrupt or from a newer version.
        GateStopped: the next round was rolled back by its gate, and would be the same again.
    """
    config, store = context.config, context.store
    store.create()
    reach("store_made")
    begun = store.get_run()
    here = environment(config=config.snapshot())
    if begun is None:
        store.put_run(
            config.name, seed=config.seed, config=json.dumps(config.snapshot()), config_hash=config.config_hash(),
            environment=json.dumps(here), version=selfalign.__version__,
        )  # fmt: skip
    elif begun["run"] != config.name:
        raise ConfigError(
            f"{context.workspace.path}: holds the run '{begun['run']}', the config is for '{config.name}'; name another "
            f"workspace, or put the name back"
        )
    else:
        _settle(context, on_change, ask)
        if begun["config_hash"] != config.config_hash():
            store.change_run(seed=config.seed, config=json.dumps(config.snapshot()), config_hash=config.config_hash())
    reviewed.take_in(context)
    reviewed.reconsider(context)
    store.insert([start_event(here)])
    context.workspace.save_config(config)
    reach("run_recorded")
    _refuse_to_repeat(context)


def _refuse_to_repeat(context: RunContext) -> None:
    left, begun = rounds_left(context), {round for round, _ in begun_stages(context.store)}
    if left and left[0] > 0 and left[0] not in begun:
        gate.refuse_to_repeat(context, left[0])


def _settle(context: RunContext, on_change: OnChange, ask: Ask | None) -> None:
    stale = stale_stages(context)
    idle = _gates_to_drop(context)
    if all(name == "gate" for _, name in stale) and on_change != "keep":
        # Decisions over figures that stand: made anew in a moment, so nobody is asked.
        if redone := sorted({*stale, *idle}):
            go_back(context, redone, "config", "other gates")
        return
    if not stale:
        return
    what = explain(context, stale)
    if on_change == "ask":
        on_change = "refuse" if ask is None else _answer(ask(what))
    if on_change == "keep":
        with context.store.write() as transaction:
            freeze_rounds(transaction, {round for round, _ in stale})
        context.reporter.note(f"kept as they are: finished rounds among {in_words(stale)}")
        stale = stale_stages(context)  # those of a round under way cannot be kept
        on_change = "branch"
    if on_change == "refuse":
        raise ConfigError(
            f"{context.workspace.path}: {what}; add --on-change branch to make these stages again (their rows stay, as a "
            f"branch), --on-change keep to leave finished rounds as they are, or put it back"
        )
    if stale:
        go_back(context, stale, "config", what)


def _gates_to_drop(context: RunContext) -> list[Place]:
    """Gates that did not let the run go on, where today's config has none."""
    if context.config.gates:
        return []
    rows = context.store.query("select round from stages where stage = 'gate' and status <> 'done'").to_pylist()
    return [(row["round"], "gate") for row in rows]


def _answer(said: str) -> OnChange:
    return "branch" if said == "branch" else "keep" if said == "keep" else "refuse"


def discard_after(context: RunContext, round: int) -> str | None:
    """Set aside everything that follows ``round``, finished or not; returns the branch, None where nothing did.

    Raises:
        ConfigError: the run has not finished that round.
    """
    check_finished(context.store, context.workspace.path, round, "--from-round")
    later = [place for place in begun_stages(context.store) if place[0] > round]
    if not later:
        return None
    return go_back(context, later, "resume", f"resumed from round {round}")


def check_finished(store: Store, run: Path, round: int, option: str) -> None:
    """Raise ConfigError where ``run`` has not finished ``round``, which ``option`` asked for."""
    done = store.query("select round from rounds where status = 'done'")["round"].to_pylist()
    if round not in done:
        known = f"finished are rounds {min(done)} to {max(done)}" if done else "none is finished"
        raise ConfigError(f"{option} {round}: {run} has no finished round {round}; {known}")


def list_of_branches(store: Store) -> list[Branch]:
    """All branches of a run, oldest first. Reads only: the run may be going on, or its store be an older one."""
    with store.read(oldest=1):
        if not store.query("select 1 from duckdb_tables() where table_name = 'branches'").num_rows:
            return []  # version 1
        return [Branch(**row) for row in store.query("select * from branches order by created_at, branch").to_pylist()]


def roll_back(context: RunContext, name: str) -> list[Place]:
    """Make a branch the run's present again, config included; what it replaces becomes a branch itself.

    Returns the stages brought back; a later start makes what the branch had not finished.

    Raises:
        ConfigError: no such branch.
    """
    context.store.create()  # an older store has no branches yet
    found = {branch.branch: branch for branch in list_of_branches(context.store)}
    if name not in found:
        raise ConfigError(f"{context.workspace.path}: has no branch '{name}'; known: {', '.join(found) or 'none yet'}")
    config = _config_of(found[name], context.config)
    past = RunContext(config, context.workspace, context.store, context.reporter, context.launcher)
    stale = in_order({*stale_stages(past), *_reviewed_otherwise(past, name)})
    if stale:
        go_back(past, stale, "rollback", f"rolled back to branch {name}")
    context.store.change_run(seed=config.seed, config=json.dumps(config.snapshot()), config_hash=config.config_hash())
    context.workspace.save_config(config)
    return _bring_back(past, name)


def _reviewed_otherwise(context: RunContext, branch: str) -> list[Place]:
    """All stages from the first training on that did other things because of reviews than the branch's."""
    begun = begun_stages(context.store)
    for place in begun:
        if place[1] == "train" and reviewed.differs_in(context, place[0], branch):
            return begun[begun.index(place) :]
    return []


def _config_of(branch: Branch, present: RunConfig) -> RunConfig:
    """The config that made a branch, in today's place."""
    data = {**json.loads(branch.config), "workspace": present.workspace, "name": present.name}
    return validate_config(data, f"the config of branch {branch.branch}")


def _bring_back(context: RunContext, branch: str) -> list[Place]:
    """Take over a branch's stages in order, up to the first that is not there whole."""
    brought: list[Place] = []
    for round in range(context.config.rounds + 1):
        begin_round(context, round)
        for name in stages_of(round, context.config):
            record = context.store.stage(round, name)
            if record is None:
                if name == "train":
                    reviewed.settle_as(context, round, branch)
                if not take_over(context, round, name, fingerprint(context, round, name), branch):
                    return brought
                brought.append((round, name))
            elif record.status != "done":
                return brought
        end_round(context, round)
    return brought

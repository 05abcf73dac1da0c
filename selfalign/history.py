"""A run's past: opening it, setting stages aside, going back to a round, bringing a branch back.

Nothing is thrown away here: rows move to a branch in one transaction, checkpoint folders stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import selfalign
from selfalign.changes import explain, in_words, stale_stages
from selfalign.config import RunConfig, validate_config
from selfalign.environment import environment, start_event
from selfalign.errors import ConfigError
from selfalign.failpoints import reach
from selfalign.rounds import STAGES, begin_round, end_round, fingerprint, stages_of
from selfalign.stages.context import RunContext
from selfalign.stages.reuse import take_over
from selfalign.store.branches import Branch, Place, Reason, freeze_rounds, move_to_branch
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
    store.insert([start_event(here)])
    context.workspace.save_config(config)
    reach("run_recorded")


def _settle(context: RunContext, on_change: OnChange, ask: Ask | None) -> None:
    stale = stale_stages(context)
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


def _answer(said: str) -> OnChange:
    return "branch" if said == "branch" else "keep" if said == "keep" else "refuse"


def go_back(context: RunContext, stages: Sequence[Place], reason: Reason, detail: str) -> str:
    """Move the rows of ``stages`` to a new branch; returns its name."""
    begun = context.store.get_run()
    config = begun["config"] if begun else "{}"
    with context.store.write() as transaction:
        branch = move_to_branch(transaction, stages, reason, detail, config)
        reach("branch_moved")
    reach("branch_made")
    context.forget()
    context.reporter.note(f"{in_words(stages)}: set aside as branch {branch}")
    return branch


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


def begun_stages(store: Store) -> list[Place]:
    """Every stage that the store knows, in the order of running, whatever today's config says."""
    rows = store.query("select distinct round, stage from stages").to_pylist()
    known = {(row["round"], row["stage"]) for row in rows}
    return sorted(known, key=lambda place: (place[0], STAGES.index(place[1])))


def list_of_branches(store: Store) -> list[Branch]:
    """All branches of a run, oldest first."""
    store.create()  # an older store has no branches yet
    return [Branch(**row) for row in store.query("select * from branches order by created_at, branch").to_pylist()]


def roll_back(context: RunContext, name: str) -> list[Place]:
    """Make a branch the run's present again, config included; what it replaces becomes a branch itself.

    Returns the stages brought back; a later start makes what the branch had not finished.

    Raises:
        ConfigError: no such branch.
    """
    found = {branch.branch: branch for branch in list_of_branches(context.store)}
    if name not in found:
        raise ConfigError(f"{context.workspace.path}: has no branch '{name}'; known: {', '.join(found) or 'none yet'}")
    config = _config_of(found[name], context.config)
    past = RunContext(config, context.workspace, context.store, context.reporter, context.launcher)
    stale = stale_stages(past)
    if stale:
        go_back(past, stale, "rollback", f"rolled back to branch {name}")
    context.store.change_run(seed=config.seed, config=json.dumps(config.snapshot()), config_hash=config.config_hash())
    context.workspace.save_config(config)
    return _bring_back(past, name)


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
                if not take_over(context, round, name, fingerprint(context, round, name), branch):
                    return brought
                brought.append((round, name))
            elif record.status != "done":
                return brought
        end_round(context, round)
    return brought

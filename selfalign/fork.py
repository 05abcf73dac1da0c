"""A new run from any round of another: its store is the old one's copy, with later rounds set aside for reuse."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from selfalign.config import RunConfig, load_config
from selfalign.disk import kept
from selfalign.durable import sync, write_atomic
from selfalign.errors import ConfigError, StageFailed
from selfalign.history import check_finished, list_of_branches
from selfalign.progress import Reporter
from selfalign.rounds import begun_stages
from selfalign.store.branches import freeze_rounds, move_to_branch
from selfalign.store.store import Store, copy_store
from selfalign.workspace import Workspace


def fork_run(
    origin: Workspace,
    round: int,
    name: str,
    *,
    overrides: list[str] | None,
    workspace: Path | None,
    reporter: Reporter,
) -> RunConfig:
    """Make the run ``name`` whose rounds 0 ... ``round`` are ``origin``'s; returns its config, ready to be started.

    The rounds taken over stay as they are, whatever ``overrides`` say; the later ones are a branch of the new run,
    from which stages with an unchanged fingerprint are taken. Checkpoints are shared by hard links where the file
    system allows, so that neither run depends on the other. ``origin`` is only read, and may be running.

    Raises:
        ConfigError: no such finished round, or the name is taken.
    """
    folder = workspace or origin.path.with_name(name)
    place = [f"name={json.dumps(name)}", f"workspace={json.dumps(str(folder))}"]
    config = load_config(origin.config_path, [*(overrides or []), *place])
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: exists and is not empty; choose another name")
    _check_forkable(origin, round)
    # Made aside and renamed: a kill leaves no half of a run that looks whole.
    aside = Workspace(folder.with_name(f".{folder.name}.{os.getpid()}"))
    shutil.rmtree(aside.path, ignore_errors=True)
    aside.create()
    try:
        copy_store(origin.store_path, aside.store_path)
        store = Store(aside.store_path)
        store.create()
        _become(store, origin, round, config)
        _share_checkpoints(store, origin, aside, reporter)
        _share_references(origin, aside)
        if origin.prompts.is_dir():
            shutil.copytree(origin.prompts, aside.prompts, dirs_exist_ok=True)
        if origin.reviews.is_file():
            shutil.copyfile(origin.reviews, aside.reviews)
        aside.save_config(config)
        if folder.exists():
            folder.rmdir()
        aside.path.rename(folder)
        sync(folder.parent)
    except OSError as error:
        shutil.rmtree(aside.path, ignore_errors=True)
        raise StageFailed(f"{folder}: cannot be made: {error.strerror or error}; {origin.path} is as it was") from None
    except BaseException:
        shutil.rmtree(aside.path, ignore_errors=True)
        raise
    _mark(origin, folder, name, round)
    reporter.note(f"run {name}: rounds 0 to {round} of {origin.path}, in {folder}")
    return config


def _check_forkable(origin: Workspace, round: int) -> None:
    store = Store(origin.store_path)
    check_finished(store, origin.path, round, "--round")
    found = store.query("select path from checkpoints where round = ?", (round,))["path"].to_pylist()
    record = kept.read(origin.path / found[0]) if found else None
    if record is not None and record.form != "approximate":
        raise ConfigError(f"--round {round}: {kept.explain(record, origin.path)}")


def _become(store: Store, origin: Workspace, round: int, config: RunConfig) -> None:
    begun = store.get_run()
    assert begun is not None, "a store with finished rounds has a run"
    later = [place for place in begun_stages(store) if place[0] > round]
    came_from = {"run": begun["run"], "workspace": str(origin.path.resolve()), "round": round}
    names = {branch.branch for branch in list_of_branches(store)}
    with store.write() as transaction:
        if later:
            branch = f"from-{begun['run']}"
            move_to_branch(
                transaction, later, "fork", f"rounds of {begun['run']} after {round}", begun["config"],
                branch if branch not in names else None,
            )  # fmt: skip
        freeze_rounds(transaction, range(round + 1))
        transaction.execute(
            "UPDATE runs SET run = ?, seed = ?, config = ?, config_hash = ?, origin = ?",
            [config.name, config.seed, json.dumps(config.snapshot()), config.config_hash(), json.dumps(came_from)],
        )
        for table in ("evaluations", "archived_evaluations"):
            transaction.execute(f"UPDATE {table} SET run = ?", [config.name])


def _share_checkpoints(store: Store, origin: Workspace, fork: Workspace, reporter: Reporter) -> None:
    paths = store.query("select path from checkpoints union select path from archived_checkpoints")["path"].to_pylist()
    for path in sorted(paths):
        source, target = origin.path / path, fork.path / path
        if not source.is_dir():
            reporter.note(f"{source}: is gone, so the new run cannot go on from it")
            continue
        shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _share_references(origin: Workspace, fork: Workspace) -> None:
    """Averages that later rounds go on from. The origin may remove one meanwhile; what is not whole is made again."""
    if origin.references.is_dir():
        with contextlib.suppress(OSError):
            shutil.copytree(origin.references, fork.references, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    # A published checkpoint is never written to again, so that two runs may share its bytes.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _mark(origin: Workspace, folder: Path, name: str, round: int) -> None:
    """Tell the origin's clean-up that somebody started from this round."""
    marks = origin.state / "forks"
    marks.mkdir(parents=True, exist_ok=True)
    write_atomic(marks / f"{name}.json", json.dumps({"workspace": str(folder.resolve()), "round": round}))

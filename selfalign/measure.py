"""``selfalign calibrate``: judges against gold items, in a run's workspace or, without one, a temporary one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.calibration.figures import JudgeFigures, differences
from selfalign.calibration.mapping import Fit, fit
from selfalign.calibration.report import as_json, evaluation_rows
from selfalign.calibration.verdicts import judge_verdicts
from selfalign.config import RunConfig
from selfalign.errors import BadInput
from selfalign.gold.items import GoldItem
from selfalign.history import check_finished
from selfalign.identity import content_id
from selfalign.progress import Reporter, Silent
from selfalign.session import held
from selfalign.stages import calibrate
from selfalign.stages.context import RunContext
from selfalign.stages.device_lock import device_lock
from selfalign.stages.judge import check_judge, without_model
from selfalign.store.store import Store
from selfalign.types import GoldSplit
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """Which judges to measure, and on what. ``judges`` are Configs of judges; ``fit_target`` is an accuracy."""

    judges: Sequence[Any]
    gold: str
    split: GoldSplit = "test"
    items: int | None = None
    fit_target: float | None = None


@dataclass(frozen=True)
class Answer:
    """One judge's figures; ``member_of`` names the judge that it is a part of."""

    figures: JudgeFigures
    split: GoldSplit
    round: int
    weights_hash: str
    member_of: str | None
    fit: Fit | None
    seconds_a_judgement: float | None

    def as_json(self) -> dict[str, Any]:
        return as_json(
            self.figures, self.fit, split=self.split, round=self.round, weights_hash=self.weights_hash, member_of=self.member_of,
            seconds_a_judgement=self.seconds_a_judgement,
        )  # fmt: skip


def measure_judges(
    config: RunConfig, question: Question, reporter: Reporter, *, round: int | None, of_run: bool
) -> list[Answer]:
    """Every judge of ``question`` with M_round, and the members of composite ones.

    ``of_run``: the config is that of an existing run, whose last finished round is the default. Otherwise it is M_0,
    measured in the run's workspace where that began with the same weights, else in a temporary one. Where there is a
    store, judgements and figures stay in it, and what it has is not judged again.

    Raises:
        BadInput: no such round, gold file or judge; WorkspaceBusy: the run is going on.
    """
    items = calibrate.gold_items(question.gold, question.split, question.items, config.seed)
    fitting: list[GoldItem] = []
    if question.fit_target is not None:
        if question.split == "calibrate":
            raise BadInput(
                "--fit takes the calibrate split, so that split cannot be measured too; leave --split at test"
            )
        fitting = calibrate.gold_items(question.gold, "calibrate", question.items, config.seed)
    with _context(config, reporter, of_run=of_run) as (context, lasting):
        for settings in question.judges:
            check_judge(context, settings)
        number = _round(context, round, of_run)
        answers: list[Answer] = []
        for settings in question.judges:
            found = _measure(context, number, settings, question.split, items, fitting, question.fit_target)
            if lasting:
                # Never under the split of the round's own stage: that may be on fewer items, or on other ones.
                for answer in found:
                    split = calibrate.member_split(f"gold_{question.split}", answer.figures.judge)
                    gold = {"gold": calibrate.gold_hash(items)}
                    context.store.insert(evaluation_rows(answer.figures, config.name, number, split, gold))
            answers += found
    return list({answer.figures.judge.judge_hash: answer for answer in reversed(answers)}.values())[::-1]


@contextlib.contextmanager
def _context(config: RunConfig, reporter: Reporter, *, of_run: bool) -> Iterator[tuple[RunContext, bool]]:
    """An opened workspace, and whether it stays."""
    workspace = Workspace(config.workspace_path())
    if of_run or _began_with(config, workspace):
        with held(workspace, config, reporter) as context:
            context.store.create()  # of an older version, perhaps
            yield context, True
        return
    with tempfile.TemporaryDirectory(prefix="selfalign-") as folder:
        aside = Workspace(Path(folder))
        aside.create()
        if workspace.prompts.is_dir():  # the run's own prompt files hold here as well
            shutil.copytree(workspace.prompts, aside.prompts)
        with held(aside, config, reporter) as context:
            context.store.create()
            yield context, False


def _began_with(config: RunConfig, workspace: Workspace) -> bool:
    if not workspace.store_path.is_file():
        return False
    store = Store(workspace.store_path)
    rows = store.query("select weights_hash from rounds where round = 0").to_pylist()
    context = RunContext(config, workspace, store, Silent())
    return bool(rows) and rows[0]["weights_hash"] == context.initial.weights_hash


def _round(context: RunContext, round: int | None, of_run: bool) -> int:
    if not of_run:
        if round:
            raise BadInput(f"--round {round}: a config has only M0; name the run's folder for later rounds")
        return 0
    if round is not None:
        check_finished(context.store, context.workspace.path, round, "--round")
        return round
    done = context.store.query("select max(round) as r from rounds where status = 'done'")["r"][0].as_py()
    if done is None:
        raise BadInput(f"{context.workspace.path}: has no finished round yet; give its config instead to measure M0")
    return int(done)


def _measure(
    context: RunContext, round: int, settings: Any, split: GoldSplit, items: Sequence[GoldItem],
    fitting: Sequence[GoldItem], target: float | None,
) -> list[Answer]:  # fmt: skip
    judge = without_model(context, round, settings)
    weights = context.weights(round).weights_hash
    job = content_id("calibrate", judge.judge_hash, weights, calibrate.gold_hash([*items, *fitting]))
    context.reporter.start(f"{judge.name} by M{round}")
    with device_lock(context.config.device, context.reporter):
        calibrate.judge_gold(context, round, settings, [*items, *fitting], job)
    rows = calibrate.judgements(context, round, fitting)
    fits = {}
    for identity in calibrate.identities(context, round, settings) if target is not None else ():
        gaps, _ = differences(judge_verdicts(fitting, rows, identity)[0])
        fits[identity.judge_hash] = fit(gaps, target or 0.0)
    found = calibrate.judge_figures(context, round, settings, items, fits)
    context.reporter.finish(calibrate.in_words(found[0]))
    spent = calibrate.cost(context, round, judge.judge_hash)
    return [
        Answer(
            figures, split, round, weights, None if figures is found[0] else judge.name, fits.get(figures.judge.judge_hash),
            spent.seconds / spent.judgements if spent and figures is found[0] else None,
        )
        for figures in found
    ]  # fmt: skip

"""Two models' held-out answers side by side: of two rounds of a run, or of two runs. Reads only."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.config import RunConfig, WinRateSettings
from selfalign.errors import BadInput
from selfalign.evaluation.statistics import Paired, paired_difference
from selfalign.identity import derive_seed
from selfalign.judges.scores import Votes
from selfalign.judges.verifier import VerifierJudge
from selfalign.progress import Reporter
from selfalign.protocols import JudgeContext
from selfalign.stages.compare import Duel, figures, match
from selfalign.stages.context import RunContext
from selfalign.stages.device_lock import holding_device
from selfalign.stages.held_out_judge import build_judge, draw, item_key, job, votes
from selfalign.stages.jobs import JobFolder
from selfalign.stages.judge import check_judge, needs_model
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.supervise import carry_out
from selfalign.store.arrow import from_table
from selfalign.store.store import Store
from selfalign.types import Candidate, JudgeItem, Judgement, Prompt
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Side:
    """M_``round`` of a run."""

    workspace: Workspace
    round: int

    @property
    def name(self) -> str:
        return f"{self.workspace.path.name}:{self.round}"


@dataclass(frozen=True)
class Comparison:
    """``win_rate`` and ``lc_win_rate`` as stages.compare.figures has them; ``pass_rate`` is first minus second."""

    first: str
    second: str
    judge: str
    judged_by: str
    win_rate: dict[str, Any]
    lc_win_rate: dict[str, Any]
    pass_rate: Paired
    judgements: tuple[Judgement, ...]


def parse_side(text: str) -> Side:
    """``RUN:ROUND``, the run as everywhere else.

    Raises:
        BadInput: no round, or no such run.
    """
    found = re.fullmatch(r"(.+):(\d+)", text)
    if not found:
        raise BadInput(f"{text}: write it as RUN:ROUND, e.g. runs/quickstart:2")
    return Side(Workspace.existing(Path(found[1])), int(found[2]))


def compare(
    first: Side, second: Side, config: RunConfig, settings: WinRateSettings, reporter: Reporter, by: int = 0
) -> Comparison:
    """Have M_``by`` of the first run judge both sides' answers to the prompts that both were held out.

    ``config`` is the first run's. Nothing is written to either run, and a run that is going on is not disturbed.

    Raises:
        BadInput: a side has no answers, or they share no prompt.
    """
    context = RunContext(config, first.workspace, Store(first.workspace.store_path), reporter)
    check_judge(context, settings.judge)
    prompts = _prompts(context.store)
    shared = {p.prompt_id for p in _prompts(Store(second.workspace.store_path))}
    common = draw([p for p in prompts if p.prompt_id in shared], settings.prompts, config.seed, "compare")
    duels = match(common, _answers(first), _answers(second))
    if not duels:
        raise BadInput(f"{first.name} and {second.name} answered no held-out prompt in common")
    judgements = _judge(context, settings, [duel for duel in duels if not duel.identical], by)
    found = _votes(context, settings, judgements)
    rates = figures(duels, found, derive_seed(config.seed, "compare", first.name, second.name) & 0xFFFFFFFF)
    return Comparison(
        first.name, second.name, settings.judge.id, f"{first.workspace.path.name}:{by}" if needs_model(settings.judge)
        else "no model", rates["win_rate"], rates["lc_win_rate"], _pass_rates(context, duels), tuple(judgements),
    )  # fmt: skip


def _judge(context: RunContext, settings: WinRateSettings, duels: Sequence[Duel], by: int) -> list[Judgement]:
    if not duels:
        return []
    model = context.model(by) if needs_model(settings.judge) else None
    spec, inputs = job(context, by, "compare", settings.judge, model, [duel.question for duel in duels])
    rows: list[Judgement] = []

    def body() -> StageOutcome:
        with tempfile.TemporaryDirectory(prefix="selfalign-compare-") as folder:
            batches = carry_out(JobFolder(Path(folder)), spec, inputs, context=context, label="compare")
            for tables in batches:
                rows.extend(from_table(Judgement, tables["judgements"]) if "judgements" in tables else [])
        return StageOutcome(len(duels), len(rows), f"{len(rows)} judgements of {len(duels)} pairs of answers")

    context.reporter.start("compare")
    try:
        outcome = (holding_device(context, body) if model else body)()
    finally:
        context.launcher.close()
    context.reporter.finish(outcome.summary)
    return rows


def _votes(context: RunContext, settings: WinRateSettings, judgements: Sequence[Judgement]) -> dict[str, Votes]:
    return votes(build_judge(context, settings.judge), [(key, row) for row in judgements if (key := item_key(row))])


def _pass_rates(context: RunContext, duels: Sequence[Duel]) -> Paired:
    """Strict pass rate of the first model minus the second's, over the prompts with constraints."""
    checked = [duel for duel in duels if duel.prompt.instruction_id_list]
    verifier = VerifierJudge(
        VerifierJudge.Config(mode="all"), JudgeContext(None, context.config.seed, 0, context.templates())
    )

    def passed(answers: Sequence[Candidate]) -> list[float]:
        items = [JudgeItem(duel.prompt, answer) for duel, answer in zip(checked, answers, strict=True)]
        return [row.score or 0.0 for row in verifier.judge(items)]

    return paired_difference(
        passed([duel.second for duel in checked]), passed([duel.first for duel in checked]),
        derive_seed(context.config.seed, "compare") & 0xFFFFFFFF, [duel.prompt.prompt_id for duel in checked],
    )  # fmt: skip


def _prompts(store: Store) -> list[Prompt]:
    return store.rows(Prompt, "round = 0 and split = 'held_out'")


def _answers(side: Side) -> list[Candidate]:
    store = Store(side.workspace.store_path)
    found = store.rows(Candidate, "round = ? and split = 'held_out'", (side.round,))
    if not found:
        rounds = store.query("select distinct round from candidates where split = 'held_out' order by 1")
        there = ", ".join(str(round) for round in rounds["round"].to_pylist()) or "none"
        raise BadInput(f"{side.name}: M{side.round} has no held-out answers; rounds that have: {there}")
    return found

"""Stage ``judge``: M_{t-1} (or a judge that needs no model) scores the round's candidates."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.errors import EmptyStage
from selfalign.failpoints import reach
from selfalign.identity import content_id
from selfalign.judges.nested import judges_in
from selfalign.judges.scores import group, unjudged
from selfalign.judges.verifier import VerifierJudge
from selfalign.protocols import Engine, Judge, JudgeContext, RemoteJudge
from selfalign.registry import find
from selfalign.stages.context import Model, RunContext
from selfalign.stages.generate import engine_spec
from selfalign.stages.jobs import JobFolder
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.loading import Notes, load_engine
from selfalign.stages.meter import Meter
from selfalign.stages.supervise import collect, supervise
from selfalign.templates import Templates
from selfalign.types import Candidate, JudgeItem, Judgement, Prompt, Row, ScoredGroup

#: After this many judgements without a valid one the judge is taken to be unable, not unlucky.
_HOPELESS_AFTER = 64


def fingerprint(context: RunContext, round: int) -> str:
    judge = build_judge(context, round)
    weights = context.weights(round - 1).weights_hash if needs_engine(context, round) else None
    return content_id("judge", upstream(context, round, "generate"), judge.judge_hash, weights)


def judge_settings(context: RunContext, round: int) -> Any:
    """Whose word counts in ``round``: where the judge itself is taught, only what a program can check."""
    return VerifierJudge.Config(mode="all") if context.config.teaches(round) else context.config.judge


def is_judged(context: RunContext, round: int) -> bool:
    """Whether anything is judged in ``round``."""
    return judge_settings(context, round) is not None


def build_judge(context: RunContext, round: int) -> Judge:
    """The round's judge without a model: enough for its name and hash."""
    return without_model(context, round, judge_settings(context, round))


def without_model(context: RunContext, round: int, settings: Any) -> Judge:
    """The judge of ``settings`` (the Config of a judge) without a model."""
    judge: Judge = find("judge", settings.id).load()(
        settings, JudgeContext(None, context.config.seed, round, context.templates())
    )
    return judge


def scored_groups(context: RunContext, round: int) -> list[ScoredGroup]:
    """The round's training candidates by prompt, with what its own judge made of them, if it has one."""
    where, values = "round = ? and split = 'train'", (round,)
    with context.store.read():
        prompts, candidates = context.store.rows(Prompt, where, values), context.store.rows(Candidate, where, values)
        if not is_judged(context, round):
            return unjudged(prompts, candidates)
        judge = build_judge(context, round)
        judgements = context.store.rows(
            Judgement, "round = ? and judge = ? and judge_hash = ?", (round, judge.name, judge.judge_hash)
        )
    return group(prompts, candidates, judgements, judge)


def check_judge(context: RunContext, settings: Any) -> Judge:
    """The judge of ``settings``, built like every judge inside it, so that what is missing is found before any work.

    Raises:
        ConfigError: such as the key of a server. PromptFileError: a rubric cannot be used.
    """
    judges = [without_model(context, 1, part) for part in judges_in(settings)]
    for judge in judges:
        if isinstance(judge, RemoteJudge):
            judge.check_access()
    return judges[0]


def needs_engine(context: RunContext, round: int) -> bool:
    return is_judged(context, round) and needs_model(judge_settings(context, round))


def needs_model(settings: Any) -> bool:
    """Whether the judge of ``settings`` looks at text through the run's model."""
    return bool(find("judge", settings.id).load().needs_engine(settings))


def judge_spec(
    context: RunContext,
    round: int,
    settings: Any,
    model: Model | None,
    done: Collection[str],
    vote_round: int | None = None,
) -> dict[str, Any]:
    """What a stage process needs to judge: ``model`` where the judge needs one, ``done`` the candidates it may pass.

    Votes are sampled as in ``vote_round``, by default the present one.
    """
    return {
        "round": round,
        "vote_round": round if vote_round is None else vote_round,
        "run_seed": context.config.seed,
        "judge": settings.model_dump(mode="json"),
        "templates": [str(path.resolve()) for path in context.template_folders()],
        "needs_engine": needs_model(settings),
        "done": sorted(done),
        **(engine_spec(context, model) if model else {}),
    }


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "judge", fingerprint)
    collect(folder, context)
    settings, judge = judge_settings(context, round), build_judge(context, round)
    with context.store.read():
        candidates = context.store.rows(Candidate, "round = ? and split = 'train'", (round,))
        prompts = context.store.rows(Prompt, "round = ? and split = 'train'", (round,))
        done = context.store.query(
            "select distinct j.candidate_id from judgements j join candidates c using (candidate_id) "
            "where j.round = ? and c.split = 'train' and j.judge_hash = ?",
            (round, judge.judge_hash),
        )["candidate_id"].to_pylist()
    tally: Counter[str] = Counter()

    def stop_if_hopeless(tables: Mapping[str, pa.Table]) -> None:
        for row in tables["judgements"].to_pylist() if "judgements" in tables else []:
            if row["judge_hash"] == judge.judge_hash:  # a composite's word counts, not its members'
                tally[row["outcome"]] += 1
        if sum(tally.values()) >= _HOPELESS_AFTER and not tally["ok"]:
            raise EmptyStage(
                f"round {round}: none of the first {sum(tally.values())} judgements of '{settings.id}' is "
                f'valid ({_counts(tally)}); read some with selfalign sql {context.workspace.path} "select raw from '
                f'judgements", then change the rubric or the judge'
            )

    if len(done) < len(candidates):
        spec = {"kind": "judge", **judge_spec(context, round, settings, context.model(round - 1), done)}
        supervise(
            folder, spec, {"prompts": prompts, "candidates": candidates}, context=context,
            label=f"round {round} judge", hook=stop_if_hopeless,
        )  # fmt: skip
    folder.remove()
    outcomes = _outcomes(context, round, judge)
    total = sum(outcomes.values())
    if not outcomes["ok"]:
        raise EmptyStage(
            f"round {round}: no valid judgement among {total} ({_counts(outcomes)}); change the rubric or the judge"
        )
    return StageOutcome(
        len(candidates), total, f"{total} judgements, {outcomes['ok'] / total:.0%} valid ({_counts(outcomes)})",
        {"outcomes": dict(outcomes)},
    )  # fmt: skip


def _outcomes(context: RunContext, round: int, judge: Judge) -> Counter[str]:
    rows = context.store.query(
        "select outcome, count(*) n from judgements j join candidates c using (candidate_id) "
        "where j.round = ? and c.split = 'train' and j.judge_hash = ? group by outcome",
        (round, judge.judge_hash),
    ).to_pylist()
    return Counter({row["outcome"]: row["n"] for row in rows})


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))


# -- in the stage process -----------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What judging took in one process, the loading of the model aside; members' judgements are not counted."""

    judge_hash: str
    judgements: int
    seconds: float


def work(folder: JobFolder) -> None:
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    candidates = sorted(folder.rows("candidates", Candidate), key=lambda c: c.candidate_id)
    judge_batches(folder, "judge", [JudgeItem(prompts[c.prompt_id], c) for c in candidates], lambda found: found)


def judge_batches(
    folder: JobFolder,
    stage: str,
    items: Sequence[JudgeItem],
    as_rows: Callable[[list[Judgement]], Sequence[Row]],
    unit: str = "candidates",
) -> Cost:
    """Judge ``items`` as the folder's :func:`judge_spec` says, and hand over each batch as ``as_rows`` makes it.

    The plan is over all items, also on resume, so that a batch always has the same members. ``unit`` is what people
    are told an item is.
    """
    spec: dict[str, Any] = folder.spec()
    notes = Notes(spec["round"], stage)
    meter = Meter(folder, len(items), unit, loads=spec["needs_engine"])
    engine = load_engine(spec, notes.add, meter) if spec["needs_engine"] else None
    judge = _with_model(spec, engine)
    done = set(spec["done"])
    judged, seconds = 0, 0.0
    for number, batch in enumerate(judge.plan(items)):
        members = [items[i] for i in batch]
        if any(item.candidate.candidate_id not in done for item in members):
            reach("batch_begun")
            started = time.perf_counter()
            found = judge.judge(members)
            seconds += time.perf_counter() - started
            judged += sum(row.judge_hash == judge.judge_hash for row in found)
            folder.emit(number, [*as_rows(found), *notes.take(number)])
            meter.made(len(members))
        else:
            meter.had(len(members))
    if engine is not None:
        engine.close()
    return Cost(judge.judge_hash, judged, seconds)


def _with_model(spec: dict[str, Any], engine: Engine | None) -> Judge:
    plugin = find("judge", spec["judge"]["id"]).load()
    templates = Templates([Path(path) for path in spec["templates"]])
    judge: Judge = plugin(
        plugin.Config.model_validate(spec["judge"]),
        JudgeContext(engine, spec["run_seed"], spec["vote_round"], templates),
    )
    return judge

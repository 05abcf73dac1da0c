"""Stage ``meta_judge``: M_{t-1} compares its own judgements of the round; clear winners and losers become pairs.

Meta-Rewarding Language Models (arXiv 2407.19594): the round then trains on pairs of answers and of judgements together.
Where no pair comes of it, the round trains on pairs of answers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign.config import MetaSettings
from selfalign.errors import ConfigError, EmptyStage
from selfalign.failpoints import reach
from selfalign.identity import canonical, content_id
from selfalign.judges.meta import JudgedCandidate, MetaResult, judged_candidates, judgement_pairs, most_disputed
from selfalign.judges.meta_judge import MetaJudge, questions
from selfalign.judges.nested import judges_in
from selfalign.protocols import Judge, WritingJudge
from selfalign.registry import find
from selfalign.stages.context import RunContext
from selfalign.stages.generate import engine_spec
from selfalign.stages.jobs import JobFolder
from selfalign.stages.judge import without_model
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.loading import Notes, load_engine
from selfalign.stages.meter import Meter
from selfalign.stages.supervise import collect, supervise
from selfalign.templates import Templates
from selfalign.types import Candidate, Event, JudgeItem, Judgement, MetaJudgement, Prompt

#: After this many comparisons without a verdict the meta-judge is taken to be unable, not unlucky.
_HOPELESS_AFTER = 64
_NO_PAIR = "no_judgement_pair"
#: Settings that say which candidates are compared and which pairs are kept; the others are in the meta-judge's hash.
_SELECTING = {"candidates", "max_length_ratio", "min_margin", "consistent_only", "max_share"}


class _Writing(Judge, WritingJudge): ...


def check(context: RunContext) -> None:
    """Refuse, before any work, what could give no pair.

    Raises:
        ConfigError: no judge of this run writes several judgements, or the trainer takes no pairs.
        PromptFileError: the meta-judge's prompt cannot be used.
    """
    meta_judge(context, 1)
    if not writing_judges(context, 1):
        raise ConfigError(
            f"meta.enabled: judge '{context.config.judge.id}' does not write at least two judgements of a candidate with "
            f"this run's model; use rubric_votes or critique with several votes, alone or as a member of another judge"
        )
    needs = find("train", context.config.train.id).load().needs
    if needs not in ("pairs", "completions"):
        raise ConfigError(f"meta.enabled: trainer '{context.config.train.id}' trains on {needs}, not on pairs; use dpo")


def writing_judges(context: RunContext, round: int) -> list[_Writing]:
    """The run's judge and those that it is made of, where they write several judgements of a candidate."""
    judges = [without_model(context, round, part) for part in judges_in(context.config.judge)]
    writing = {judge.judge_hash: judge for judge in judges if isinstance(judge, WritingJudge) and judge.written > 1}
    return [writing[name] for name in sorted(writing)]  # type: ignore[misc]


def meta_judge(context: RunContext, round: int) -> MetaJudge:
    return MetaJudge(context.config.meta, context.templates(), context.config.seed, round)


def fingerprint(context: RunContext, round: int) -> str:
    settings = context.config.meta
    return content_id(
        "meta_judge", upstream(context, round, "judge"), upstream(context, round, "pair"),
        [judge.judge_hash for judge in writing_judges(context, round)], meta_judge(context, round).meta_hash,
        settings.model_dump(mode="json", include=_SELECTING),
        context.config.seed, _trained_length(context, round), context.weights(round - 1).weights_hash,
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "meta_judge", fingerprint)
    collect(folder, context)
    compared = compared_candidates(context, round)
    if compared:
        _compare(context, round, folder, compared)
    folder.remove()
    verdicts = _stored(context, round)
    outcomes: Counter[str] = Counter(verdict.outcome for verdict in verdicts)
    if verdicts and not outcomes["ok"]:
        raise EmptyStage(
            f"round {round}: no verdict in {len(verdicts)} comparisons of judgements ({_counts(outcomes)}); {_REMEDY}"
        )
    found = _pairs(context, round, compared, verdicts)
    reasons = Counter(reason for _, reason in found.skipped)
    events = [
        Event(content_id(_NO_PAIR, round, *subject), round, "meta_judge", _NO_PAIR, subject[0], reason,
              canonical({"judge_hash": subject[1]}))
        for subject, reason in found.skipped
    ]  # fmt: skip
    context.store.insert([*found.pairs, *events])
    summary = f"{len(found.pairs)} pairs of judgements of {len(compared)} candidates"
    if reasons:
        summary += f" ({_counts(reasons)})"
    if found.first_share is not None:
        summary += f"; {outcomes['ok']} verdicts, {found.first_share:.0%} for the judgement shown first"
    if not found.pairs:
        context.reporter.note(f"warning: round {round}: {summary}: it trains on pairs of answers alone")
    detail = {"outcomes": dict(outcomes), "no_pair": dict(reasons), "first_share": found.first_share}
    return StageOutcome(len(compared), len(found.pairs), summary, detail)


_REMEDY = (
    "change meta.rubric, raise meta.max_tokens (or train.max_length where judgements are too long to be trained on), read "
    "it from logits (meta.mode), or set meta.enabled: false"
)


def compared_candidates(context: RunContext, round: int) -> list[JudgedCandidate]:
    """Of each writing judge the candidates whose judgements are most disputed."""
    prompts = {p.prompt_id: p for p in context.store.rows(Prompt, "round = ? and split = 'train'", (round,))}
    candidates = context.store.rows(Candidate, "round = ? and split = 'train'", (round,))
    items = {c.candidate_id: JudgeItem(prompts[c.prompt_id], c) for c in candidates}
    found: list[JudgedCandidate] = []
    for judge in writing_judges(context, round):
        rows = context.store.rows(Judgement, "round = ? and judge_hash = ?", (round, judge.judge_hash))
        own = [row for row in rows if row.candidate_id in items]
        messages = {(row.candidate_id, row.judge_hash): judge.asks(items[row.candidate_id]) for row in own}
        found += most_disputed(judged_candidates(items, own, messages), context.config.meta.candidates)
    return found


def _compare(context: RunContext, round: int, folder: JobFolder, compared: Sequence[JudgedCandidate]) -> None:
    model, judge = context.model(round - 1), meta_judge(context, round)
    done = {verdict.meta_id for verdict in _stored(context, round)}
    if {judge.meta_id(question, model.weights_hash) for question in questions(compared)} <= done:
        return
    tally: Counter[str] = Counter()

    def stop_if_hopeless(tables: Mapping[str, pa.Table]) -> None:
        if "meta_judgements" in tables:
            tally.update(tables["meta_judgements"]["outcome"].to_pylist())
        if sum(tally.values()) >= _HOPELESS_AFTER and not tally["ok"]:
            raise EmptyStage(
                f"round {round}: no verdict in the first {sum(tally.values())} comparisons of judgements "
                f"({_counts(tally)}); {_REMEDY}"
            )

    spec = {
        "kind": "meta_judge",
        "round": round,
        "run_seed": context.config.seed,
        "meta": context.config.meta.model_dump(mode="json"),
        "templates": [str(path.resolve()) for path in context.template_folders()],
        "messages": [[*candidate.subject, candidate.messages] for candidate in compared],
        "trained_length": _trained_length(context, round),
        "done": sorted(done),
        **engine_spec(context, model),
    }
    inputs: dict[str, Sequence[Any]] = {
        "prompts": list({c.item.prompt.prompt_id: c.item.prompt for c in compared}.values()),
        "candidates": list({c.item.candidate.candidate_id: c.item.candidate for c in compared}.values()),
        "judgements": [judgement for c in compared for judgement in c.judgements],
    }
    supervise(folder, spec, inputs, context=context, label=f"round {round} meta_judge", hook=stop_if_hopeless)


def _pairs(
    context: RunContext, round: int, compared: Sequence[JudgedCandidate], verdicts: Sequence[MetaJudgement]
) -> MetaResult:
    settings = context.config.meta
    answers = context.store.query("select count(*) as n from pairs where round = ?", (round,))["n"][0].as_py()
    return judgement_pairs(
        compared,
        verdicts,
        round,
        max_length_ratio=settings.max_length_ratio,
        min_margin=settings.min_margin,
        consistent_only=settings.consistent_only,
        limit=limit(answers, settings.max_share),
    )


def limit(answer_pairs: int, max_share: float) -> int:
    """How many pairs of judgements may stand beside so many of answers, to be at most ``max_share`` of all."""
    return int(answer_pairs * max_share / (1 - max_share) + 1e-9)


def _stored(context: RunContext, round: int) -> list[MetaJudgement]:
    return context.store.rows(MetaJudgement, "round = ?", (round,))


def _trained_length(context: RunContext, round: int) -> int | None:
    """Tokens that a training example of ``round`` may have; None where the trainer's settings set no limit."""
    found: int | None = getattr(context.config.trainer(round), "max_length", None)
    return found


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))


# -- in the stage process -----------------------------------------------------------------------


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    notes = Notes(spec["round"], "meta_judge")
    asked = questions(_compared(folder, spec))
    meter = Meter(folder, len(asked), "comparisons")
    engine = load_engine(spec, notes.add, meter)
    templates = Templates([Path(path) for path in spec["templates"]])
    judge = MetaJudge(MetaSettings.model_validate(spec["meta"]), templates, spec["run_seed"], spec["round"])
    done = set(spec["done"])
    length = min(spec["trained_length"] or engine.context_length, engine.context_length)
    # Planned over all questions, also on resume, so that a batch always has the same members.
    for number, batch in enumerate(judge.plan(engine, asked)):
        members = [asked[i] for i in batch]
        if any(judge.meta_id(question, engine.weights_hash) not in done for question in members):
            reach("batch_begun")
            folder.emit(number, [*judge.ask(engine, members, length), *notes.take(number)])
            meter.made(len(members))
        else:
            meter.had(len(members))
    engine.close()


def _compared(folder: JobFolder, spec: Mapping[str, Any]) -> list[JudgedCandidate]:
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    items = {c.candidate_id: JudgeItem(prompts[c.prompt_id], c) for c in folder.rows("candidates", Candidate)}
    messages = {(candidate, judge): tuple(shown) for candidate, judge, shown in spec["messages"]}
    return judged_candidates(items, folder.rows("judgements", Judgement), messages)

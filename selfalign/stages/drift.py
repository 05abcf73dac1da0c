"""Stage ``drift``: what became of the judge, as its weights are those of the policy that is trained.

Every round the judge with M_t's weights and the judge with M_0's score the same answers: those of M_0 to a
fixed draw of held-out prompts, where only the judge differs, and M_t's to the same prompts. A judge that
grows fond of its own style scores M_t's answers up while the frozen one does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from selfalign.config import DriftSettings
from selfalign.evaluation.statistics import Interval, cluster_mean_interval, paired_difference
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.judges.scores import Votes
from selfalign.stages.context import RunContext
from selfalign.stages.held_out_judge import Question, ask, build_judge, draw, failures
from selfalign.stages.judge import needs_model
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect
from selfalign.types import Candidate, Evaluation, Prompt


def fingerprint(context: RunContext, round: int) -> str:
    settings = _settings(context)
    weights = [context.weights(t).weights_hash for t in (0, round)] if needs_model(settings.judge) else None
    return content_id(
        "drift", [upstream(context, t, "answer") for t in (0, round)],
        build_judge(context, settings.judge).judge_hash, weights, settings.prompts,
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    settings = _settings(context)
    folder = context.job(round, "drift", fingerprint)
    collect(folder, context)
    prompts = context.store.rows(Prompt, "round = 0 and split = 'held_out'")
    chosen = {p.prompt_id: p for p in draw(prompts, settings.prompts, context.config.seed, "drift")}
    # Each answer by itself: a pairwise judge compares, and has no scale that could drift.
    slices = {t: [Question(chosen[c.prompt_id], (c,)) for c in _answers(context, t) if c.prompt_id in chosen]
              for t in (0, round)}  # fmt: skip
    questions = [*slices[0], *slices[round]]
    frozen = ask(context, folder, round, "drift", settings.judge, 0, questions)
    # M_t judges only once M_0's process has given its memory back.
    current = ask(context, folder, round, "drift", settings.judge, round, questions)
    folder.remove()
    seed = derive_seed(context.config.seed, round, "drift") & 0xFFFFFFFF
    rows = _figures(context.config.name, round, settings.judge.id, slices, frozen, current, seed)
    context.store.insert(rows)
    drift = rows[0]
    shown = f"{drift.value:+.3f}" if drift.value is not None else "none"
    interval = f" [{drift.low:+.3f}, {drift.high:+.3f}]" if drift.low is not None else ""
    return StageOutcome(
        len(questions), len(rows), f"judge of M{round} against M0's on the same answers: {shown}{interval}"
    )


def _figures(
    run: str, round: int, judge: str, slices: Mapping[int, Sequence[Question]], frozen: Mapping[str, Votes],
    current: Mapping[str, Votes], seed: int,
) -> list[Evaluation]:  # fmt: skip
    def both(questions: Sequence[Question]) -> list[tuple[str, float, float]]:
        found = [(q.prompt.prompt_id, _score(q, frozen), _score(q, current)) for q in questions]
        return [(prompt, old, new) for prompt, old, new in found if old is not None and new is not None]

    base, own = both(slices[0]), both(slices[round])
    change = paired_difference(
        [old for _, old, _ in base], [new for _, _, new in base], seed, [prompt for prompt, _, _ in base]
    )  # fmt: skip
    liked = paired_difference(
        [old for _, old, _ in own], [new for _, _, new in own], seed, [prompt for prompt, _, _ in own]
    )  # fmt: skip
    lost = {name: dict(failures([votes.get(_key(q)) for t in (0, round) for q in slices[t]]))
            for name, votes in (("frozen", frozen), ("current", current))}  # fmt: skip
    detail = {"judge": judge, "left_out": lost}
    # More than drift on own answers than on M_0's: the judge has come to prefer what it writes itself.
    on_own = {"current_minus_frozen": liked.difference.value, "p_value": liked.p_value}
    rows = [
        ("judge_drift", change.difference, {**detail, "p_value": change.p_value, "answers_of": "M0"}),
        ("frozen_judge_score", _mean([(p, old) for p, old, _ in own]), {**detail, "answers_of": f"M{round}"}),
        ("self_judge_score", _mean([(p, new) for p, _, new in own]), {**detail, "on_own": on_own}),
    ]
    return [
        Evaluation(run, round, metric, "held_out", figure.value, figure.low, figure.high, figure.n, canonical(more))
        for metric, figure, more in rows
    ]


def _mean(scores: Sequence[tuple[str, float]]) -> Interval:
    by_prompt: dict[str, list[float]] = {}
    for prompt, score in scores:
        by_prompt.setdefault(prompt, []).append(score)
    return cluster_mean_interval(by_prompt)


def _score(question: Question, found: Mapping[str, Votes]) -> float | None:
    votes = found.get(_key(question))
    return votes.score if votes else None


def _key(question: Question) -> str:
    return question.item_key(question.answers[0])


def _settings(context: RunContext) -> DriftSettings:
    settings = context.config.evaluate.drift
    assert settings is not None, "rounds.py leaves this stage out without settings"
    return settings


def _answers(context: RunContext, round: int) -> list[Candidate]:
    return context.store.rows(Candidate, "round = ? and split = 'held_out'", (round,))

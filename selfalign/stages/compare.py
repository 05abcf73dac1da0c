"""Stage ``compare``: M_t's held-out answers against those of M_{t-1} and M_0, by a judge.

Any judge compares: it is given both answers to a prompt, and the higher score wins. A pairwise judge sees
them in both orders, and its "tie" and "disagree" are ties here. The judge's weights are M_0's in every
round unless the config says otherwise, so that rounds are measured by one yardstick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfalign.config import WinRateSettings
from selfalign.evaluation.win_rate import Preference, length_controlled_win_rate, win_rate
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.judges.scores import Votes
from selfalign.stages.context import RunContext
from selfalign.stages.held_out_judge import Question, ask, build_judge, draw
from selfalign.stages.judge import needs_model
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect
from selfalign.types import Candidate, Evaluation, Prompt


@dataclass(frozen=True)
class Duel:
    """Two models' answers to a prompt with the same sample number: ``first`` is the model that is measured."""

    prompt: Prompt
    first: Candidate
    second: Candidate

    @property
    def identical(self) -> bool:
        """Answers of equal text tie without being judged: a judge could only add noise."""
        return self.first.text == self.second.text

    @property
    def question(self) -> Question:
        return Question(self.prompt, (self.first, self.second))


def fingerprint(context: RunContext, round: int) -> str:
    settings = _settings(context)
    weights = context.weights(_judging(settings, round)).weights_hash if needs_model(settings.judge) else None
    return content_id(
        "compare", {str(t): upstream(context, t, "answer") for t in {round, *opponents(settings, round).values()}},
        build_judge(context, settings.judge).judge_hash, weights, settings.against, settings.prompts,
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    settings = _settings(context)
    folder = context.job(round, "compare", fingerprint)
    collect(folder, context)
    by = _judging(settings, round)
    prompts = context.store.rows(Prompt, "round = 0 and split = 'held_out'")
    chosen = draw(prompts, settings.prompts, context.config.seed, "compare")
    against = opponents(settings, round)
    own = _answers(context, round)
    duels = {t: match(chosen, own, _answers(context, t)) for t in sorted(set(against.values()))}
    questions = [duel.question for members in duels.values() for duel in members if not duel.identical]
    found = ask(context, folder, round, "compare", settings.judge, by, questions)
    folder.remove()
    seed = derive_seed(context.config.seed, round, "compare") & 0xFFFFFFFF
    rows: list[Evaluation] = []
    for name, t in against.items():
        detail = {"judge": settings.judge.id, "judged_by": f"M{by}", "against": f"M{t}"}
        for metric, figure in figures(duels[t], found, seed).items():
            rows.append(
                Evaluation(
                    context.config.name, round, f"{metric}_vs_{name}", "held_out", figure["value"], figure["low"],
                    figure["high"], figure["n"], canonical({**detail, **figure["detail"]}),
                )
            )  # fmt: skip
    context.store.insert(rows)
    return StageOutcome(len(questions), len(rows), ", ".join([f"M{round}", *map(_said, rows)]))


def match(prompts: Sequence[Prompt], first: Sequence[Candidate], second: Sequence[Candidate]) -> list[Duel]:
    """Answers of two models to the same prompt and of the same sample number, in order of prompt and sample."""
    others = {(c.prompt_id, c.sample_idx): c for c in second}
    by_id = {p.prompt_id: p for p in prompts}
    return [
        Duel(by_id[c.prompt_id], c, others[c.prompt_id, c.sample_idx])
        for c in sorted(first, key=lambda c: (c.prompt_id, c.sample_idx))
        if c.prompt_id in by_id and (c.prompt_id, c.sample_idx) in others
    ]


def preference(first: Votes | None, second: Votes | None) -> float | str:
    """1, 0.5 or 0 from the votes on both answers, or why there is none.

    A judge that found no difference ("tie", or "disagree" between the two orders) gives no score; that is a tie.
    """
    if first is not None and second is not None and first.score is not None and second.score is not None:
        return float(first.score > second.score) + 0.5 * float(first.score == second.score)
    unscored = [votes for votes in (first, second) if votes is None or votes.score is None]
    outcomes: Counter[str] = Counter()
    for votes in unscored:
        outcomes.update({"not_judged": 1} if votes is None or not votes.outcomes else dict(votes.outcomes))
    failed = outcomes.keys() - {"ok", "tie", "disagree"}
    if not failed and not outcomes["ok"]:
        return 0.5
    return min(failed, key=lambda name: (-outcomes[name], name), default="too_few_votes")


def figures(duels: Sequence[Duel], found: Mapping[str, Votes], seed: int) -> dict[str, dict[str, Any]]:
    """``win_rate`` and ``lc_win_rate`` of the first model, as value, low, high, n (prompts) and detail."""
    preferences: list[Preference] = []
    left_out: Counter[str] = Counter()
    for duel in duels:
        value: float | str = 0.5
        if not duel.identical:
            question = duel.question
            value = preference(*(found.get(question.item_key(answer)) for answer in question.answers))
        if isinstance(value, str):
            left_out[value] += 1
        else:
            preferences.append(Preference(duel.prompt.prompt_id, value, duel.first.n_tokens, duel.second.n_tokens))
    counts = Counter(p.value for p in preferences)
    detail = {
        "wins": counts[1.0], "ties": counts[0.5], "losses": counts[0.0],
        "identical": sum(duel.identical for duel in duels), "left_out": dict(sorted(left_out.items())),
        "unit": "prompts; a tie counts half",
    }  # fmt: skip
    controlled = length_controlled_win_rate(preferences, seed)
    fit = {
        "model": controlled.model, "length": controlled.length, "mean_length_difference": controlled.mean_difference
    }  # fmt: skip
    return {
        "win_rate": {**asdict(win_rate(preferences, seed)), "detail": detail},
        "lc_win_rate": {**asdict(controlled.rate), "detail": fit},
    }


def _settings(context: RunContext) -> WinRateSettings:
    settings = context.config.evaluate.win_rate
    assert settings is not None, "rounds.py leaves this stage out without settings"
    return settings


def _judging(settings: WinRateSettings, round: int) -> int:
    return 0 if settings.by == "m0" else round


def opponents(settings: WinRateSettings, round: int) -> dict[str, int]:
    """Name of an opponent in metrics -> t of its M_t."""
    rounds = {"previous": round - 1, "m0": 0}
    return {name: rounds[name] for name in settings.against}


def _answers(context: RunContext, round: int) -> list[Candidate]:
    return context.store.rows(Candidate, "round = ? and split = 'held_out'", (round,))


def _said(row: Evaluation) -> str:
    if row.value is None:
        return f"{row.metric} none"
    interval = f" [{row.low:.3f}, {row.high:.3f}]" if row.low is not None and row.high is not None else ""
    return f"{row.metric} {row.value:.3f}{interval} on {row.n} prompts"

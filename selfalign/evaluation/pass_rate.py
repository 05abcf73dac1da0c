"""Constraint pass rates on held-out prompts (IFEval, arXiv 2311.07911), and paired tests between rounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfalign.config import Settings
from selfalign.evaluation.rows import row
from selfalign.evaluation.statistics import paired_difference, ratio_interval, share_interval
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation, Prompt


class PassRate:
    """Strict: the answer as it is; loose: also without its first or last line, or without asterisks.

    An answer passes if it meets every constraint of its prompt. Prompts without constraints do not
    count. Rounds are compared on the prompts that both answered; ``left_out`` counts the others.
    """

    name = "pass_rate"

    class Config(Settings):
        id: Literal["pass_rate"] = "pass_rate"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        """See protocols.Evaluator. A round without checked answers gives no row."""
        now = _verdicts(data, data.round)
        if not now:
            return []
        strict = _by_prompt(now, "strict")
        loose = _by_prompt(now, "loose")
        rows = [
            row(data, "pass_rate_strict", share_interval(strict), {"by_language": _by_language(now)}),
            row(data, "pass_rate_loose", share_interval(loose)),
            row(
                data, "pass_rate_strict_instruction", ratio_interval(_followed(now)),
                {"by_instruction": _by_instruction(now)},
            ),
        ]  # fmt: skip
        if data.round:
            rows.append(_delta(data, "pass_rate_delta_vs_m0", 0, strict))
            rows.append(_delta(data, "pass_rate_delta_vs_previous", data.round - 1, strict))
        return rows


@dataclass(frozen=True)
class _Verdict:
    """What the verifier found of one answer, an instruction at a time."""

    prompt: Prompt
    ids: Sequence[str]
    strict: Sequence[bool]
    loose: Sequence[bool]


def _verdicts(data: EvaluationInput, round: int) -> list[_Verdict]:
    prompts = {item.candidate.candidate_id: item.prompt for item in data.candidates.get(round, ())}
    # By candidate, so that an answer that was checked again does not count as two samples.
    details = {
        judgement.candidate_id: json.loads(judgement.detail)
        for judgement in sorted(data.judgements.get(round, ()), key=lambda j: j.judgement_id)
        if judgement.judge == "verifier" and judgement.outcome == "ok" and judgement.candidate_id in prompts
    }
    return [
        _Verdict(prompts[candidate_id], detail["ids"], detail["strict"], detail["loose"])
        for candidate_id, detail in sorted(details.items())
        if detail["ids"]
    ]


def _by_prompt(verdicts: Iterable[_Verdict], mode: Literal["strict", "loose"]) -> dict[str, list[float]]:
    """Prompt id -> 0 or 1 for every sample."""
    passed: dict[str, list[float]] = {}
    for verdict in verdicts:
        flags = verdict.strict if mode == "strict" else verdict.loose
        passed.setdefault(verdict.prompt.prompt_id, []).append(float(all(flags)))
    return passed


def _followed(verdicts: Iterable[_Verdict]) -> dict[str, tuple[int, int]]:
    """Prompt id -> instructions followed, instructions."""
    counts: dict[str, tuple[int, int]] = {}
    for verdict in verdicts:
        followed, n = counts.get(verdict.prompt.prompt_id, (0, 0))
        counts[verdict.prompt.prompt_id] = followed + sum(verdict.strict), n + len(verdict.strict)
    return counts


def _by_instruction(verdicts: Iterable[_Verdict]) -> dict[str, list[int]]:
    return _tally((name, flag) for v in verdicts for name, flag in zip(v.ids, v.strict, strict=True))


def _by_language(verdicts: Iterable[_Verdict]) -> dict[str, list[int]]:
    """Counts answers: with several samples a prompt, more than there are prompts."""
    return _tally((v.prompt.language, all(v.strict)) for v in verdicts)


def _tally(outcomes: Iterable[tuple[str, bool]]) -> dict[str, list[int]]:
    """Name -> [passed, n]."""
    counts: dict[str, list[int]] = {}
    for name, passed in outcomes:
        count = counts.setdefault(name, [0, 0])
        count[0] += bool(passed)
        count[1] += 1
    return counts


def _delta(data: EvaluationInput, metric: str, other: int, now: dict[str, list[float]]) -> Evaluation:
    before = _by_prompt(_verdicts(data, other), "strict")
    common = sorted(before.keys() & now.keys())
    compared = paired_difference([_mean(before[p]) for p in common], [_mean(now[p]) for p in common], data.seed)
    detail = {
        "other_round": other,
        "p_value": compared.p_value,
        "test": compared.test,
        "better": compared.better,
        "worse": compared.worse,
        "n": len(common),
        "left_out": len(before.keys() ^ now.keys()),
    }
    return row(data, metric, compared.difference.clipped(-1, 1), detail)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

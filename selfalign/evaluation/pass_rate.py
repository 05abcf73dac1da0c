"""Constraint pass rates on held-out prompts (IFEval, arXiv 2311.07911), and paired tests between rounds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from selfalign.config import Settings
from selfalign.evaluation.statistics import Interval, Paired, mean_interval, paired, wilson
from selfalign.identity import canonical
from selfalign.protocols import EvaluationInput
from selfalign.types import Evaluation, JudgeItem, Judgement


class PassRate:
    """Strict: the answer as it is; loose: also without first or last line, or without asterisks."""

    name = "pass_rate"

    class Config(Settings):
        id: Literal["pass_rate"] = "pass_rate"

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(self, data: EvaluationInput) -> list[Evaluation]:
        now = _Round(data.candidates[data.round], data.judgements[data.round])
        if not now.strict:
            return []
        rows = [
            _row(data, "pass_rate_strict", _rate(now.strict), {"by_language": now.by_language()}),
            _row(data, "pass_rate_loose", _rate(now.loose), {}),
            _row(data, "pass_rate_strict_instruction", wilson(*now.instructions()), {"by_instruction": now.by_instruction()}),
        ]
        if data.round:
            for metric, other in (("pass_rate_delta_vs_m0", 0), ("pass_rate_delta_vs_previous", data.round - 1)):
                before = _Round(data.candidates[other], data.judgements[other])
                rows.append(_delta(data, metric, before, now))
        return rows


class _Round:
    """Pass shares by prompt: prompt id -> one 0/1 for every sample."""

    def __init__(self, items: Sequence[JudgeItem], judgements: Sequence[Judgement]) -> None:
        self._prompts = {item.candidate.candidate_id: item.prompt for item in items}
        self._details: list[tuple[str, dict[str, Any]]] = []
        self.strict: dict[str, list[float]] = defaultdict(list)
        self.loose: dict[str, list[float]] = defaultdict(list)
        for judgement in sorted(judgements, key=lambda j: j.candidate_id):
            if judgement.judge != "verifier" or judgement.candidate_id not in self._prompts:
                continue
            detail = json.loads(judgement.detail)
            prompt_id = self._prompts[judgement.candidate_id].prompt_id
            self._details.append((judgement.candidate_id, detail))
            self.strict[prompt_id].append(float(all(detail["strict"])))
            self.loose[prompt_id].append(float(all(detail["loose"])))

    def instructions(self) -> tuple[int, int]:
        followed = [value for _, detail in self._details for value in detail["strict"]]
        return sum(followed), len(followed)

    def by_instruction(self) -> dict[str, list[int]]:
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for _, detail in self._details:
            for name, followed in zip(detail["ids"], detail["strict"], strict=True):
                counts[name][0] += bool(followed)
                counts[name][1] += 1
        return dict(sorted(counts.items()))

    def by_language(self) -> dict[str, list[float]]:
        values: dict[str, list[float]] = defaultdict(list)
        for candidate_id, detail in self._details:
            values[self._prompts[candidate_id].language].append(float(all(detail["strict"])))
        return {language: [sum(passed), len(passed)] for language, passed in sorted(values.items())}


def _rate(values: Mapping[str, Sequence[float]]) -> Interval:
    if all(len(samples) == 1 for samples in values.values()):
        return wilson(int(sum(samples[0] for samples in values.values())), len(values))
    # Several samples of a prompt are not independent: the prompt is the unit.
    return mean_interval([sum(samples) / len(samples) for samples in values.values()])


def _delta(data: EvaluationInput, metric: str, before: _Round, now: _Round) -> Evaluation:
    common = sorted(before.strict.keys() & now.strict.keys())
    result: Paired = paired(
        [sum(before.strict[p]) / len(before.strict[p]) for p in common],
        [sum(now.strict[p]) / len(now.strict[p]) for p in common],
        data.seed,
    )
    left_out = len(before.strict.keys() ^ now.strict.keys())
    detail = {"p_value": result.p_value, "better": result.better, "worse": result.worse, "left_out": left_out}
    return _row(data, metric, result.difference, detail)


def _row(data: EvaluationInput, metric: str, figure: Interval, detail: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        data.run, data.round, metric, "held_out", figure.value, figure.low, figure.high, figure.n, canonical(dict(detail))
    )

"""A round that made the model worse at what can be checked."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from selfalign.gates.figures import decided, missing
from selfalign.gates.settings import Action, GateSettings
from selfalign.protocols import GateInput
from selfalign.types import Decision, Evaluation

Other = Literal["previous", "m0"]


class PassRateGate:
    """Fails where the strict pass rate fell beyond noise.

    Beyond noise: the whole 95 % interval of the paired difference lies below ``-tolerance``, and its test (exact
    McNemar with one answer a prompt) has p < ``alpha``. The interval alone is too narrow where few prompts changed.
    """

    name = "pass_rate"

    class Config(GateSettings):
        id: Literal["pass_rate"] = "pass_rate"
        action: Action = Field("roll_back", description="what follows where the rule fails")
        from_round: int = Field(1, ge=1, description="M0 has nothing to be compared with")
        against: list[Other] = Field(["previous", "m0"], min_length=1, description="models it is compared with")
        tolerance: float = Field(0.0, ge=0, lt=1, description="a fall that is borne, as a share of prompts")
        alpha: float = Field(0.05, gt=0, le=1, description="the paired test's p-value must be below this as well")

    def __init__(self, config: Config) -> None:
        self.config = config

    def decide(self, data: GateInput) -> list[Decision]:
        """See protocols.Gate. One decision a model compared with; in round 1 the previous one is M0."""
        others = self.config.against
        if data.round == 1 and "previous" in others:
            others = ["previous"]
        return [self._against(other, data) for other in others]

    def _against(self, other: Other, data: GateInput) -> Decision:
        metric = f"pass_rate_delta_vs_{other}"
        found = data.figure(metric)
        if found is None:
            return missing(metric, "was not measured")
        if found.high is None:
            return missing(metric, f"has no interval (n {found.n})")
        limit = 0.0 - self.config.tolerance  # never -0.0
        return decided(
            found, fails=found.high < limit and _p_value(found) < self.config.alpha, threshold=limit,
            reason=f"must not lie below {limit:g} beyond noise",
            remedy="look at what the round trained on (views pair_text, regression_pairs, judge_health), then change the "
            "judge, the pairs (pair.min_margin) or the training (train.learning_rate)",
        )  # fmt: skip


def _p_value(found: Evaluation) -> float:
    given = json.loads(found.detail).get("p_value")
    return 0.0 if given is None else float(given)

"""Pairs whose sides are known by where the answers come from: nobody has to score them.

Their scores are 1 and 0, the probability that chosen is better as the method takes it to be; ``judge`` says whose word
that is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.pairing.rows import build_pairs
from selfalign.pairing.sides import Side, Sides, order, text_objection, unpaired
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredCandidate, ScoredGroup, Unpaired

#: As PairSettings.max_tokens_ratio, for builders that have no margin.
_RATIO = "no pair where chosen has more than this many times the tokens of rejected"


class SpinBuilder:
    """SPIN (arXiv 2401.01335): the demonstration over the model's own sample.

    Reasons: no_demonstration, too_few_candidates, identical_texts (all samples equal the demonstration, so that there
    is nothing left to learn from them), length_ratio. SPIN trains round t on the pairs of rounds t - 1 and t; which
    rounds' pairs are used is not the builder's to say.
    """

    name = "spin"
    makes = "pairs"

    class Config(Settings):
        id: Literal["spin"] = "spin"
        samples: int = Field(1, ge=1, description="pairs a prompt: with its first so many samples")
        max_tokens_ratio: float | None = Field(None, gt=0, description=_RATIO)

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return min(config.samples, max(0, candidates - 1))  # one of them is the demonstration

    @staticmethod
    def reads(config: Config) -> frozenset[str]:
        """See protocols.PairBuilder."""
        return frozenset({"demonstrations"})

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(data, self, self._pick, decided_by="demonstration")

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        known = _in_order(group, "demonstration")
        samples = _in_order(group, None)[: self.config.samples]
        if not known or not samples:
            return unpaired(group, "too_few_candidates" if known else "no_demonstration")
        chosen = Side(1.0, known[0])
        found: dict[str, Sides] = {}
        for member in samples:
            rejected = Side(0.0, member)
            if text_objection(chosen, rejected, self.config.max_tokens_ratio) is None:
                found.setdefault(rejected.text, (chosen, rejected))
        if found:
            return list(found.values())
        return unpaired(group, text_objection(chosen, Side(0.0, samples[0]), self.config.max_tokens_ratio) or "tie")


class RlcdBuilder:
    """RLCD (arXiv 2307.12950): what was sampled for the positive prompt over what was sampled for the negative one.

    The k-th answers of both sides make a pair, on the prompt as it was written. ``agree`` keeps only pairs that the
    run's judge scores the same way round (or equally: ``weakly``), which the paper does not do. Reasons:
    too_few_candidates, too_few_valid_votes, disagree, identical_texts, length_ratio.
    """

    name = "rlcd"
    makes = "pairs"

    class Config(Settings):
        id: Literal["rlcd"] = "rlcd"
        agree: Literal["ignore", "weakly", "strictly"] = Field(
            "ignore", description="what the judge must say of a pair"
        )
        max_tokens_ratio: float | None = Field(None, gt=0, description=_RATIO)

    def __init__(self, config: Config) -> None:
        self.config = config

    @staticmethod
    def at_most(config: Config, candidates: int) -> int:
        """See protocols.PairBuilder."""
        return candidates // 2

    @staticmethod
    def reads(config: Config) -> frozenset[str]:
        """See protocols.PairBuilder."""
        return frozenset({"contrast"} if config.agree == "ignore" else {"contrast", "scores"})

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(data, self, self._pick, decided_by="contrast")

    def _pick(self, group: ScoredGroup) -> list[Sides] | Unpaired:
        # Of a resampled prompt one side may have more left; what has no opposite is not used.
        couples = zip(_in_order(group, "positive"), _in_order(group, "negative"), strict=False)
        both = [(Side(1.0, good), Side(0.0, bad)) for good, bad in couples]
        if not both:
            return unpaired(group, "too_few_candidates")
        reasons = [self._objection(*sides) for sides in both]
        found = [sides for sides, reason in zip(both, reasons, strict=True) if reason is None]
        return found or unpaired(group, next(reason for reason in reasons if reason))

    def _objection(self, positive: Side, negative: Side) -> str | None:
        if self.config.agree != "ignore":
            good, bad = positive.scored.score, negative.scored.score
            if good is None or bad is None:
                return "too_few_valid_votes"
            if good < bad or (good == bad and self.config.agree == "strictly"):
                return "disagree"
        return text_objection(positive, negative, self.config.max_tokens_ratio)


def _in_order(group: ScoredGroup, origin: str | None) -> list[ScoredCandidate]:
    members = [member for member in group.candidates if member.candidate.origin == origin]
    return sorted(members, key=lambda member: order(member.candidate))

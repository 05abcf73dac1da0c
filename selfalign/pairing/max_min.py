"""Best against worst: the pair of Self-Rewarding LM (arXiv 2401.10020, section 2.3) and RLHFlow's max_min."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from selfalign.config import Settings
from selfalign.identity import content_id
from selfalign.pairing.by_strength import apply
from selfalign.pairing.strength import StrengthSettings, shared_differences
from selfalign.protocols import PairingInput
from selfalign.types import Pair, Pairing, ScoredCandidate, ScoredGroup, Unpaired

#: Means of the same votes may differ in the last bits: 0.6 - 0.5 is a margin of 0.1.
_ROUNDING = 1e-9


class MaxMinBuilder:
    """At most one pair a prompt: the highest score chosen, the lowest rejected.

    Candidates without a score take no part. Among equal scores the lower ``sample_idx`` wins on both
    sides. A prompt without a pair has one of these reasons, the first that holds: too_few_candidates,
    too_few_valid_votes, no_complete_candidate, tie, margin_below_minimum, identical_texts, length_ratio; with
    ``strength`` also too_few_shared_votes and weak_preference.
    """

    name = "max_min"
    makes = "pairs"

    class Config(Settings):
        id: Literal["max_min"] = "max_min"
        min_margin: float = Field(0.0, ge=0, description="smallest margin; it is always above 0")
        max_tokens_ratio: float | None = Field(
            None, gt=0, description="no pair where chosen has more than this many times the tokens of rejected"
        )
        complete_only: bool = Field(False, description="never choose an answer that was cut off at max_tokens")
        strength: StrengthSettings | None = Field(
            None, description="flip, drop, weigh and space pairs by how far several votes agree on them"
        )

        @model_serializer(mode="wrap")
        def _without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
            # Ids and fingerprints hash this: a run that does not use strength keeps those it had before there was any.
            data: dict[str, Any] = handler(self)
            return {key: value for key, value in data.items() if key != "strength" or value is not None}

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder; every group becomes one pair or one reason."""
        results = [self._pair(group, data.round) for group in data.groups]
        pairing = Pairing(
            tuple(result for result in results if isinstance(result, Pair)),
            tuple(result for result in results if isinstance(result, Unpaired)),
        )
        if self.config.strength is None:
            return pairing
        votes = {c.candidate.candidate_id: c.votes for group in data.groups for c in group.candidates}
        differences = {p.pair_id: shared_differences(votes[p.chosen_id], votes[p.rejected_id]) for p in pairing.pairs}
        return apply(pairing, differences, self.config.strength)

    def _pair(self, group: ScoredGroup, round: int) -> Pair | Unpaired:
        valid = [(c.score, c) for c in group.candidates if c.score is not None]
        eligible = [(s, c) for s, c in valid if not self.config.complete_only or c.candidate.finish_reason == "stop"]
        counts = {"candidates": len(group.candidates), "valid": len(valid)}
        if len(group.candidates) < 2:
            return Unpaired(group.prompt.prompt_id, "too_few_candidates", counts)
        if len(valid) < 2:
            return Unpaired(group.prompt.prompt_id, "too_few_valid_votes", counts)
        if not eligible:
            return Unpaired(group.prompt.prompt_id, "no_complete_candidate", counts)
        high, chosen = min(eligible, key=lambda pair: (-pair[0], pair[1].candidate.sample_idx))
        low, rejected = min(valid, key=lambda pair: (pair[0], pair[1].candidate.sample_idx))
        if reason := self._objection(high, chosen, low, rejected):
            detail: dict[str, Any] = {**counts, "max": high, "min": low}
            return Unpaired(group.prompt.prompt_id, reason, detail)
        ids = (chosen.candidate.candidate_id, rejected.candidate.candidate_id)
        return Pair(
            pair_id=content_id("pair", round, group.prompt.prompt_id, *ids, self.config.model_dump(mode="json")),
            prompt_id=group.prompt.prompt_id,
            round=round,
            chosen_id=ids[0],
            rejected_id=ids[1],
            chosen_score=high,
            rejected_score=low,
            margin=high - low,
            judge=group.judge,
            builder=self.name,
            n_votes=min(chosen.n_votes, rejected.n_votes),
            weight=1.0,
        )

    def _objection(self, high: float, chosen: ScoredCandidate, low: float, rejected: ScoredCandidate) -> str | None:
        if high - low <= _ROUNDING:
            return "tie"
        if high - low < self.config.min_margin - _ROUNDING:
            return "margin_below_minimum"
        if chosen.candidate.text.strip() == rejected.candidate.text.strip():
            return "identical_texts"
        bound = self.config.max_tokens_ratio
        if bound is not None and chosen.candidate.n_tokens > bound * max(1, rejected.candidate.n_tokens):
            return "length_ratio"
        return None

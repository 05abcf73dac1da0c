"""Pairs from agreement: RLP's synthetic preference generation (Reward Learning on Policy, arXiv 2403.19279).

Samples that say the same form a cluster; where the largest holds enough of them, the policy is sure, and a member of it
is preferred to an outsider. The paper clusters by bidirectional entailment; here two answers say the same where
a key of them is equal (answer_keys.py), which is a good stand-in for short answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Literal

from pydantic import Field

from selfalign.config import Settings
from selfalign.identity import derive_seed
from selfalign.pairing.answer_keys import KEYS
from selfalign.pairing.rows import build_pairs, score_note
from selfalign.pairing.sides import Side, Sides, order, text_objection, unpaired
from selfalign.protocols import PairingInput
from selfalign.types import Pairing, ScoredCandidate, ScoredGroup, Unpaired

Cluster = list[ScoredCandidate]


class RlpSpgBuilder:
    """A member of the largest cluster over a random outsider, where that cluster holds at least ``gamma`` of all.

    Chosen is the cluster's best-scored member; without scores, or of equal ones, the first sample. A pair's scores are
    the shares of the two clusters, so that ``chosen_score`` is the confidence. An answer without a key agrees with no
    other. Reasons: too_few_candidates, unanimous (no outsider), no_majority, tie (two clusters are the largest),
    identical_texts, length_ratio. No judge is needed.
    """

    name = "rlp_spg"
    makes = "pairs"

    class Config(Settings):
        id: Literal["rlp_spg"] = "rlp_spg"
        key: Literal["text", "number"] = Field("text", description="what must be equal: words, or the last number")
        gamma: float = Field(0.5, gt=0, le=1, description="smallest share of the largest cluster")
        max_tokens_ratio: float | None = Field(
            None, gt=0, description="no pair where chosen has more than this many times the tokens of rejected"
        )

    def __init__(self, config: Config, key: Callable[[str], str | None] | None = None) -> None:
        """``key`` replaces the config's, for methods of other packages: None says that an answer agrees with no other."""
        self.config = config
        self._key = key or KEYS[config.key]

    @staticmethod
    def reads(config: Config) -> frozenset[str]:
        """See protocols.PairBuilder."""
        return frozenset()

    def build(self, data: PairingInput) -> Pairing:
        """See protocols.PairBuilder."""
        return build_pairs(
            data, self, lambda group: self._pick(group, data.seed), decided_by="agreement",
            note=partial(score_note, reason="agreement"),
        )  # fmt: skip

    def _pick(self, group: ScoredGroup, seed: int) -> list[Sides] | Unpaired:
        members = sorted(group.candidates, key=lambda member: order(member.candidate))
        if len(members) < 2:
            return unpaired(group, "too_few_candidates")
        clusters = self._clusters(members)
        if len(clusters) == 1:
            return unpaired(group, "unanimous")
        largest, second = clusters[0], clusters[1]
        # 0.3 * 10 is a little less than 3.
        if len(largest) < self.config.gamma * len(members) - 1e-9:
            return unpaired(group, "no_majority")
        if len(largest) == len(second):
            return unpaired(group, "tie")
        outsiders = [(member, cluster) for cluster in clusters[1:] for member in cluster]
        outsider, own = outsiders[derive_seed(seed, self.name, group.prompt.prompt_id) % len(outsiders)]
        chosen = Side(len(largest) / len(members), _best(largest))
        rejected = Side(len(own) / len(members), outsider)
        if reason := text_objection(chosen, rejected, self.config.max_tokens_ratio):
            return unpaired(group, reason)
        return [(chosen, rejected)]

    def _clusters(self, members: Cluster) -> list[Cluster]:
        """Largest first; of equal sizes the one with the first sample."""
        found: dict[tuple[str, str], Cluster] = defaultdict(list)
        for member in members:
            key = self._key(member.candidate.text)
            found[("alone", member.candidate.candidate_id) if key is None else ("key", key)].append(member)
        return sorted(found.values(), key=len, reverse=True)


def _best(cluster: Cluster) -> ScoredCandidate:
    return min(cluster, key=lambda m: (m.score is None, -(m.score or 0.0), order(m.candidate)))

"""Groups of candidates for tests of builders, written down in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from selfalign.protocols import PairingInput
from selfalign.registry import find
from selfalign.types import FinishReason, Origin, Pairing, ScoredCandidate, ScoredGroup
from tests.judges.scripted import make_candidate, make_prompt


def group_of(
    scores: Sequence[float | None],
    texts: Sequence[str] | None = None,
    *,
    lengths: Sequence[int] | None = None,
    reasons: Sequence[FinishReason] | None = None,
    origins: Sequence[Origin | None] | None = None,
    prompt_id: str = "p0",
    judge: str = "rubric_votes",
) -> ScoredGroup:
    """Candidate i is ``{prompt_id}-c{i}``; texts differ and are whole unless said otherwise."""
    members = []
    for i, score in enumerate(scores):
        candidate = make_candidate(
            texts[i] if texts else f"text {i}", i, prompt_id, reasons[i] if reasons else "stop",
            lengths[i] if lengths else None,
        )  # fmt: skip
        candidate = replace(candidate, origin=origins[i] if origins else None)
        members.append(ScoredCandidate(candidate, score, 0 if score is None else 1, {}))
    return ScoredGroup(make_prompt(prompt_id), tuple(members), judge)


def build(name: str, *groups: ScoredGroup, round: int = 1, seed: int = 0, **config: Any) -> Pairing:
    """What the registered builder makes of ``groups``."""
    plugin = find("pair", name).load()
    pairing: Pairing = plugin(plugin.Config.model_validate(config)).build(PairingInput(round, groups, seed))
    return pairing


def number(candidate_id: str) -> int:
    return int(candidate_id.rpartition("c")[2])


def sides(pairing: Pairing) -> list[tuple[int, int]]:
    """(chosen, rejected) of every pair, by the candidates' numbers, in order."""
    return [(number(p.chosen_id), number(p.rejected_id)) for p in pairing.pairs]


def reason(pairing: Pairing) -> str:
    """Why the only prompt gave nothing."""
    assert not (pairing.pairs or pairing.labels or pairing.rankings)
    assert len(pairing.unpaired) == 1
    return pairing.unpaired[0].reason

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.pairing.max_min import MaxMinBuilder
from selfalign.protocols import PairingInput
from selfalign.types import FinishReason, Pairing, ScoredCandidate, ScoredGroup
from tests.judges.scripted import make_candidate, make_prompt


def make_group(
    scores: Sequence[float | None],
    texts: Sequence[str] | None = None,
    reasons: Sequence[FinishReason] | None = None,
    prompt_id: str = "p0",
    votes: Sequence[int] | None = None,
) -> ScoredGroup:
    return ScoredGroup(
        make_prompt(prompt_id),
        tuple(
            ScoredCandidate(
                make_candidate(texts[i] if texts else f"text {i}", i, prompt_id, reasons[i] if reasons else "stop"),
                score, votes[i] if votes else 1, {},
            )
            for i, score in enumerate(scores)
        ),
        "rubric_votes",
    )  # fmt: skip


def build(*groups: ScoredGroup, round: int = 1, **config: Any) -> Pairing:
    return MaxMinBuilder(MaxMinBuilder.Config.model_validate(config)).build(PairingInput(round, groups))


def pair_of(group: ScoredGroup, **config: Any) -> tuple[int, int]:
    pair = build(group, **config).pairs[0]
    return int(pair.chosen_id[-1]), int(pair.rejected_id[-1])


def reason(group: ScoredGroup, **config: Any) -> str:
    pairing = build(group, **config)
    assert pairing.pairs == ()
    return pairing.unpaired[0].reason


def test_best_against_worst() -> None:
    pair = build(make_group([1, 3, 2], votes=[3, 2, 1])).pairs[0]
    assert (pair.chosen_id, pair.rejected_id, pair.margin, pair.n_votes) == ("p0-c1", "p0-c0", 2, 2)
    assert (pair.builder, pair.judge, pair.weight) == ("max_min", "rubric_votes", 1.0)


def test_ties_go_to_the_lower_sample() -> None:
    assert pair_of(make_group([4, 1, 4, 1])) == (0, 1)


def test_reasons() -> None:
    assert reason(make_group([])) == "too_few_candidates"
    assert reason(make_group([3])) == "too_few_candidates"
    assert reason(make_group([3, None])) == "too_few_valid_votes"
    assert reason(make_group([3, 3])) == "tie"
    assert reason(make_group([0.1 + 0.2, 0.3])) == "tie"
    assert reason(make_group([3, 2]), min_margin=1.5) == "margin_below_minimum"
    assert reason(make_group([3, 2], texts=["same", " same\n"])) == "identical_texts"
    assert reason(make_group([3, 2], texts=["long" * 9, "short"]), max_tokens_ratio=2) == "length_ratio"
    assert reason(make_group([3, 2], reasons=["length", "length"]), complete_only=True) == "no_complete_candidate"


def test_a_margin_of_exactly_the_minimum_is_enough() -> None:
    assert pair_of(make_group([0.6, 0.5]), min_margin=0.1) == (0, 1)


def test_the_length_bound() -> None:
    assert pair_of(make_group([3, 2], texts=["x" * 10, "y" * 5]), max_tokens_ratio=2) == (0, 1)
    assert pair_of(make_group([3, 2], texts=["y", ""]), max_tokens_ratio=1) == (0, 1)


def test_cut_answers_can_be_rejected_but_not_chosen() -> None:
    group = make_group([5, 3, 1], reasons=["length", "stop", "length"])
    assert pair_of(group, complete_only=True) == (1, 2)
    assert pair_of(group) == (0, 2)
    assert reason(make_group([5, 1], reasons=["length", "stop"]), complete_only=True) == "tie"


def test_ids_depend_on_round_and_settings() -> None:
    group = make_group([1, 3])
    ids = {
        build(group).pairs[0].pair_id,
        build(group, round=2).pairs[0].pair_id,
        build(group, min_margin=1).pairs[0].pair_id,
    }
    assert len(ids) == 3
    assert build(group) == build(group)


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.none() | st.floats(0, 5, allow_nan=False), st.sampled_from(["a", "b", "cc"]), st.sampled_from(["stop", "length"])
            ),
            max_size=5,
        ),
        max_size=6,
    ),
    st.floats(0, 2),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_every_prompt_is_accounted_for_once(data: list[Any], min_margin: float, complete_only: bool) -> None:
    groups = [
        make_group([c[0] for c in candidates], [c[1] for c in candidates], [c[2] for c in candidates], f"p{i}")
        for i, candidates in enumerate(data)
    ]
    pairing = build(*groups, min_margin=min_margin, complete_only=complete_only)
    named = [p.prompt_id for p in pairing.pairs] + [u.prompt_id for u in pairing.unpaired]
    assert sorted(named) == sorted(g.prompt.prompt_id for g in groups)
    by_id = {s.candidate.candidate_id: s for g in groups for s in g.candidates}
    for pair in pairing.pairs:
        chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
        assert chosen.candidate.prompt_id == rejected.candidate.prompt_id == pair.prompt_id
        assert chosen.score is not None
        assert rejected.score is not None
        assert chosen.score > rejected.score
        assert pair.margin >= min_margin - 1e-9
        assert chosen.candidate.text != rejected.candidate.text
        assert not (complete_only and chosen.candidate.finish_reason == "length")

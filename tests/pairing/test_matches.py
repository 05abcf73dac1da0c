"""First-round and tournament pairs of candidates in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.fit import at_most
from selfalign.protocols import PairingInput
from selfalign.registry import find
from selfalign.types import Pairing, ScoredGroup
from tests.pairing.test_max_min import make_group

BUILDERS = ("first_round", "tournament")


def build(builder: str, *groups: ScoredGroup, **config: Any) -> Pairing:
    plugin = find("pair", builder).load()
    pairing: Pairing = plugin(plugin.Config.model_validate(config)).build(PairingInput(1, groups))
    return pairing


def sides(pairing: Pairing) -> list[tuple[int, int]]:
    return [(int(pair.chosen_id[-1]), int(pair.rejected_id[-1])) for pair in pairing.pairs]


def test_first_round_pairs_neighbours() -> None:
    pairing = build("first_round", make_group([1, 3, 2, 0, 5], votes=[3, 2, 1, 1, 1]))
    assert sides(pairing) == [(1, 0), (2, 3)], "an odd one is left over"
    assert [(pair.margin, pair.n_votes, pair.builder) for pair in pairing.pairs] == [
        (2, 2, "first_round"), (2, 1, "first_round")
    ]  # fmt: skip
    assert pairing.unpaired == () and pairing.skipped == {}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # 0-1 and 2-3, then the winners.
        ([1, 3, 2, 0], [(1, 0), (2, 3), (1, 2)]),
        # 4 has no opponent in the first two rounds.
        ([1, 3, 2, 0, 5], [(1, 0), (2, 3), (1, 2), (4, 1)]),
        # 2 passes the first round.
        ([1, 3, 2], [(1, 0), (1, 2)]),
    ],
)
def test_a_tournament_has_a_loser_less_than_candidates(scores: list[float], expected: list[tuple[int, int]]) -> None:
    assert sides(build("tournament", make_group(scores))) == expected


def test_ties_make_no_pair_and_are_counted() -> None:
    pairing = build("first_round", make_group([2, 2, 3, 1]))
    assert sides(pairing) == [(2, 3)] and pairing.skipped == {"tie": 1} and pairing.unpaired == ()
    # The earlier one of 0 and 1 goes on, and loses.
    pairing = build("tournament", make_group([2, 2, 3, 1]))
    assert sides(pairing) == [(2, 3), (2, 0)] and pairing.skipped == {"tie": 1}
    assert sides(build("tournament", make_group([0.1 + 0.2, 0.3, 1, 0]))) == [(2, 3), (2, 0)], "equal but for rounding"


@pytest.mark.parametrize("builder", BUILDERS)
def test_reasons(builder: str) -> None:
    def reason(group: ScoredGroup, **config: Any) -> tuple[str, Any]:
        pairing = build(builder, group, **config)
        assert pairing.pairs == () and len(pairing.unpaired) == 1
        return pairing.unpaired[0].reason, pairing.unpaired[0].detail

    assert reason(make_group([]))[0] == "too_few_candidates"
    assert reason(make_group([3]))[0] == "too_few_candidates"
    assert reason(make_group([3, None]))[0] == "too_few_valid_votes"
    assert reason(make_group([3, 3])) == ("tie", {"candidates": 2, "valid": 2, "tie": 1})
    assert reason(make_group([3, 2], texts=["same", " same\n"]))[0] == "identical_texts"
    assert reason(make_group([3, 2]), min_margin=1.5)[0] == "margin_below_minimum"
    assert sides(build(builder, make_group([0.6, 0.5]), min_margin=0.1)) == [(0, 1)], "exactly the minimum"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.none() | st.integers(0, 5), max_size=9), max_size=4), st.sampled_from(BUILDERS))
def test_every_match_is_a_pair_or_counted(data: Sequence[Sequence[float | None]], builder: str) -> None:
    groups = [make_group(scores, prompt_id=f"p{i}") for i, scores in enumerate(data)]
    pairing = build(builder, *groups)
    settings_of = find("pair", builder).load().Config()
    players = [sum(score is not None for score in scores) for scores in data]
    assert len(pairing.pairs) + sum(pairing.skipped.values()) == sum(at_most(settings_of, n) for n in players)
    assert len({pair.pair_id for pair in pairing.pairs}) == len(pairing.pairs)
    with_pair = {pair.prompt_id for pair in pairing.pairs}
    assert sorted(with_pair | {u.prompt_id for u in pairing.unpaired}) == [g.prompt.prompt_id for g in groups]
    assert not with_pair & {u.prompt_id for u in pairing.unpaired}
    assert all(pair.margin == pair.chosen_score - pair.rejected_score > 0 for pair in pairing.pairs)
    if builder == "first_round":
        used = [side for pair in pairing.pairs for side in (pair.chosen_id, pair.rejected_id)]
        assert len(used) == len(set(used))
    else:
        losers = [pair.rejected_id for pair in pairing.pairs]
        assert len(losers) == len(set(losers)), "who has lost is out"

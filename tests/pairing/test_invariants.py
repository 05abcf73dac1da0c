"""What holds of every registered builder, on random groups; a new one is tested by being registered."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.fit import at_most
from selfalign.protocols import PairingInput
from selfalign.registry import find, plugins
from selfalign.types import Pairing, ScoredGroup
from tests.pairing.groups import group_of

BUILDERS = [plugin.name for plugin in plugins("pair")]
#: What a builder cannot be made without.
REQUIRED: dict[str, dict[str, Any]] = {"anchored": {"chosen_at_least": 3.0}, "dno": {"floor": 3.0}}

_candidate = st.tuples(
    st.none() | st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 4.0, 5.0]) | st.floats(0, 5),
    st.sampled_from(["a", "b", "a ", "It is 7.", "it is 7", "9", ""]),
    st.integers(0, 20),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([None, None, None, "demonstration", "positive", "negative"]),
)
_groups = st.lists(st.lists(_candidate, max_size=6), max_size=4)


def groups_of(data: list[list[Any]]) -> list[ScoredGroup]:
    return [
        group_of(
            [c[0] for c in members], [c[1] for c in members], lengths=[c[2] for c in members],
            reasons=[c[3] for c in members], origins=[c[4] for c in members], prompt_id=f"p{i}",
        )
        for i, members in enumerate(data)
    ]  # fmt: skip


def build(name: str, groups: list[ScoredGroup], round: int = 1) -> Pairing:
    plugin = find("pair", name).load()
    pairing: Pairing = plugin(plugin.Config.model_validate(REQUIRED.get(name, {}))).build(
        PairingInput(round, groups, 3)
    )
    return pairing


@pytest.mark.parametrize("name", BUILDERS)
@given(data=_groups)
@settings(max_examples=40, deadline=None)
def test_every_builder_keeps_the_invariants(name: str, data: list[list[Any]]) -> None:
    groups = groups_of(data)
    pairing = build(name, groups)
    builder = find("pair", name).load()
    made = {"pairs": pairing.pairs, "labels": pairing.labels, "rankings": pairing.rankings}
    assert {kind for kind, rows in made.items() if rows} <= {builder.makes}

    rows: list[Any] = [*pairing.pairs, *pairing.labels, *pairing.rankings]
    settings = builder.Config.model_validate(REQUIRED.get(name, {}))
    counts = Counter(row.prompt_id for row in rows)
    assert all(counts[group.prompt.prompt_id] <= at_most(settings, len(group.candidates)) for group in groups)
    with_rows = set(counts)
    reasons = [unpaired.prompt_id for unpaired in pairing.unpaired]
    assert len(reasons) == len(set(reasons)), "one reason a prompt"
    assert with_rows.isdisjoint(reasons)
    assert with_rows | set(reasons) == {group.prompt.prompt_id for group in groups}

    ids = [getattr(row, key) for row in rows for key in ("pair_id", "label_id", "ranking_id") if hasattr(row, key)]
    assert len(ids) == len(set(ids)) == len(rows)
    members = {m.candidate.candidate_id: m for group in groups for m in group.candidates}
    for pair in pairing.pairs:
        chosen, rejected = members[pair.chosen_id].candidate, members[pair.rejected_id].candidate
        assert pair.chosen_score > pair.rejected_score
        assert pair.margin == pytest.approx(pair.chosen_score - pair.rejected_score)
        assert pair.chosen_id != pair.rejected_id
        assert chosen.prompt_id == rejected.prompt_id == pair.prompt_id
        assert chosen.text.strip() != rejected.text.strip()
        assert (pair.chosen_tokens, pair.rejected_tokens) == (chosen.n_tokens, rejected.n_tokens)
        assert (pair.builder, pair.round, pair.weight > 0) == (name, 1, True)
    for label in pairing.labels:
        assert members[label.candidate_id].score == label.score
        assert members[label.candidate_id].candidate.prompt_id == label.prompt_id
    for ranking in pairing.rankings:
        assert len(ranking.candidate_ids) == len(set(ranking.candidate_ids)) == len(ranking.scores) >= 2
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)
        assert [members[i].score for i in ranking.candidate_ids] == list(ranking.scores)
    known = {pair.pair_id for pair in pairing.pairs}
    assert {note.pair_id for note in pairing.notes} <= known


@pytest.mark.parametrize("name", BUILDERS)
@given(data=_groups, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_no_builder_looks_at_the_order_of_groups_or_candidates(name: str, data: list[list[Any]], seed: int) -> None:
    groups = groups_of(data)
    rng = random.Random(seed)
    mixed = [
        replace(g, candidates=tuple(rng.sample(g.candidates, len(g.candidates))))
        for g in rng.sample(groups, len(groups))
    ]
    if name in IN_ORDER_OF_ACCEPTANCE:
        mixed = rng.sample(groups, len(groups))
    one, other = build(name, groups), build(name, mixed)
    assert set(one.pairs) == set(other.pairs)
    assert set(one.labels) == set(other.labels)
    assert set(one.rankings) == set(other.rankings)
    assert {(u.prompt_id, u.reason) for u in one.unpaired} == {(u.prompt_id, u.reason) for u in other.unpaired}


#: Builders whose method is about the order in which a resampler accepted the candidates.
IN_ORDER_OF_ACCEPTANCE = frozenset({"first_round", "tournament"})


@pytest.mark.parametrize("name", BUILDERS)
def test_ids_are_those_of_round_and_settings(name: str) -> None:
    groups = [
        group_of([5, 1, 4, 3], ["7", "8", "7 ", "7!"], origins=["demonstration", None, None, None]),
        group_of([4, 0, 2, 1], origins=["positive", "negative", "positive", "negative"], prompt_id="p1"),
    ]

    def ids(round: int) -> set[str]:
        made = build(name, groups, round)
        return {
            *(p.pair_id for p in made.pairs),
            *(u.label_id for u in made.labels),
            *(r.ranking_id for r in made.rankings),
        }

    assert ids(1), "the groups give something to every builder"
    assert ids(1) == ids(1)
    assert not ids(1) & ids(2)

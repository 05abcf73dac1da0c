from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.judges.meta import (
    JudgedCandidate,
    battle_matrix,
    best_and_worst,
    comparable,
    elo,
    judged_candidates,
    judgement_pairs,
    most_disputed,
    position_weights,
)
from selfalign.types import Judgement, Message, MetaJudgement, Outcome
from tests.judges.scripted import make_items

ASKED: tuple[Message, ...] = ({"role": "user", "content": "Judge é."},)
Winner = Literal["first", "second"] | None


def judgement(number: int, raw: str, score: float | None = 3.0, candidate_id: str = "p0-c0") -> Judgement:
    outcome: Outcome = "parse_error" if score is None else "ok"
    return Judgement(f"{candidate_id}-j{number}", candidate_id, 1, "rubric_votes", "h", "w", number, score, outcome, raw, number, "{}")  # fmt: skip


def candidate(*raws: str, number: int = 0, scores: Sequence[float] = ()) -> JudgedCandidate:
    item = make_items(*["an answer"] * (number + 1))[number]
    own = tuple(
        judgement(i, raw, scores[i] if scores else float(len(raw) % 6), item.candidate.candidate_id)
        for i, raw in enumerate(raws)
    )
    return JudgedCandidate(item, ASKED, own)


def verdict(
    of: JudgedCandidate, first: int, second: int, winner: Winner, outcome: Outcome | None = None, p: float | None = None
) -> MetaJudgement:
    p = {"first": 1.0, "second": 0.0, None: None}[winner] if p is None else p
    one, other = of.judgements[first], of.judgements[second]
    return MetaJudgement(
        f"{one.judgement_id}/{other.judgement_id}", 1, one.candidate_id, one.judge, one.judge_hash, one.judgement_id,
        other.judgement_id, "m", "w", winner, p, outcome or ("ok" if winner else "parse_error"), "", None, "{}",
    )  # fmt: skip


def by_quality(of: JudgedCandidate) -> list[MetaJudgement]:
    """Of "quality n" the higher number wins, wherever it is shown."""
    quality = [int(j.raw.split()[1]) for j in of.judgements]
    numbers = range(len(quality))
    return [
        verdict(of, i, j, "first" if quality[i] > quality[j] else "second") for i in numbers for j in numbers if i != j
    ]


def test_comparable_judgements_have_a_score_and_texts_of_their_own() -> None:
    votes = [judgement(3, "b "), judgement(1, "b"), judgement(0, "a", None), judgement(2, " "), judgement(4, "c")]
    assert [vote.sample_idx for vote in comparable(votes)] == [1, 4]
    items = {item.candidate.candidate_id: item for item in make_items("x", "y")}
    messages = {("p0-c0", "h"): ASKED, ("p0-c1", "h"): ASKED}
    (found,) = judged_candidates(items, [*votes, judgement(0, "only", candidate_id="p0-c1")], messages)
    assert found.subject == ("p0-c0", "h")
    assert found.item is items["p0-c0"]


def test_the_place_that_wins_more_weighs_less() -> None:
    of = candidate("a", "b", "c")
    verdicts = [
        verdict(of, 0, 1, "first"), verdict(of, 1, 0, "first"), verdict(of, 0, 2, "first"), verdict(of, 2, 0, "second"),
        verdict(of, 1, 2, None),
    ]  # fmt: skip
    assert position_weights(verdicts) == (0.25, 0.75)
    assert position_weights([]) == (0.5, 0.5)
    ids = [j.judgement_id for j in of.judgements]
    matrix = battle_matrix(ids, verdicts, (0.25, 0.75))
    assert matrix.tolist() == [[0, 0.25, 1.0], [0.25, 0, 0], [0, 0, 0]]
    consistent = battle_matrix(ids, verdicts, (0.25, 0.75), consistent_only=True)
    assert consistent.tolist() == [[0, 0, 1.0], [0, 0, 0], [0, 0, 0]]


def test_elo_is_the_maximum_likelihood() -> None:
    # With many battles the prior vanishes: i beats j in 3 of 4 is a difference of ln 3.
    scores = elo(np.array([[0.0, 3e4], [1e4, 0.0]]))
    assert scores[0] - scores[1] == pytest.approx(math.log(3), abs=1e-3)
    assert elo(np.zeros((3, 3))).tolist() == [0, 0, 0]
    undefeated = elo(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    assert undefeated[0] > undefeated[1] > undefeated[2]
    assert np.isfinite(undefeated).all()


@given(st.lists(st.lists(st.floats(0, 5), min_size=4, max_size=4), min_size=4, max_size=4), st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_elo_does_not_depend_on_order(rows: list[list[float]], order: list[int]) -> None:
    matrix = np.array(rows) * (1 - np.eye(4))
    scores = elo(matrix)
    assert scores.sum() == pytest.approx(0, abs=1e-6)
    assert elo(matrix[np.ix_(order, order)]) == pytest.approx(scores[order], abs=1e-5)


def test_selection() -> None:
    assert best_and_worst([0.1, 0.5, -0.3, 0.5], [1, 1, 1, 1]) == (1, 2)
    assert best_and_worst([0.2, 0.2], [1, 1]) == "tie"
    assert best_and_worst([1.0, 0.0], [30, 10], 2.0) == "length_ratio"
    assert best_and_worst([1.0, 0.0], [20, 10], 2.0) == (0, 1)


def test_the_best_and_the_worst_judgement_of_a_candidate_are_a_pair() -> None:
    three, two = candidate("quality 1", "quality 3", "quality 2"), candidate("quality 5", "quality 4", number=1)
    verdicts = by_quality(three) + by_quality(two)
    result = judgement_pairs([three, two], verdicts, 1)
    texts = {j.judgement_id: j.raw for c in (three, two) for j in c.judgements}
    assert sorted((texts[p.chosen_id], texts[p.rejected_id], p.n_verdicts) for p in result.pairs) == [
        ("quality 3", "quality 1", 6), ("quality 5", "quality 4", 2)
    ]  # fmt: skip
    assert result.first_share == 0.5
    for pair in result.pairs:
        assert pair.margin == pair.chosen_elo - pair.rejected_elo > 0
        assert json.loads(pair.messages) == [{"role": "user", "content": "Judge é."}]
    assert judgement_pairs([two, three], verdicts[::-1], 1) == result, "order decides nothing"
    assert {p.pair_id for p in judgement_pairs([three, two], verdicts, 2).pairs}.isdisjoint(
        p.pair_id for p in result.pairs
    )


def test_the_clearest_pairs_are_kept_and_the_others_counted() -> None:
    three, two = candidate("quality 1", "quality 3", "quality 2"), candidate("quality 5", "quality 4", number=1)
    verdicts = by_quality(three) + by_quality(two)
    everything = judgement_pairs([three, two], verdicts, 1).pairs
    one = judgement_pairs([three, two], verdicts, 1, limit=1)
    assert one.pairs == everything[:1] and everything[0].margin > everything[1].margin
    assert one.skipped == (((everything[1].candidate_id, "h"), "share"),)
    assert judgement_pairs([three, two], verdicts, 1, limit=0).pairs == ()


def test_a_meta_judge_that_only_sees_places_gives_no_pairs() -> None:
    of = candidate("quality 1", "quality 2")
    result = judgement_pairs([of], [verdict(of, 0, 1, "first"), verdict(of, 1, 0, "first")], 1)
    assert (result.pairs, result.skipped, result.first_share) == ((), ((of.subject, "tie"),), 1.0)


def test_a_lean_to_one_place_cancels_out_where_wins_are_probabilities() -> None:
    of = candidate("quality 1", "quality 2")
    # First always wins; by how much tells them apart.
    verdicts = [verdict(of, 0, 1, "first", p=0.7), verdict(of, 1, 0, "first", p=0.8)]
    assert position_weights(verdicts) == pytest.approx((0.25, 0.75))
    (pair,) = judgement_pairs([of], verdicts, 1).pairs
    assert (pair.chosen_id, pair.rejected_id) == (of.judgements[1].judgement_id, of.judgements[0].judgement_id)
    assert reasons(of, verdicts, min_margin=pair.margin * 1.01) == ["margin"]
    even = [verdict(of, 0, 1, "first", p=0.7), verdict(of, 1, 0, "first", p=0.7)]
    assert reasons(of, even) == ["tie"]


def reasons(of: JudgedCandidate, verdicts: Sequence[MetaJudgement], **more: Any) -> list[str]:
    return [reason for _, reason in judgement_pairs([of], verdicts, 1, **more).skipped]


def test_what_gives_no_pair_is_counted_with_its_reason() -> None:
    of = candidate("quality 1", "quality 2")
    assert reasons(of, [verdict(of, 0, 1, None), verdict(of, 1, 0, None, "truncated")]) == ["no_verdict"]
    assert reasons(of, [verdict(of, i, 1 - i, None, "truncated") for i in (0, 1)]) == ["too_long"]
    assert judgement_pairs([of], [verdict(of, 0, 1, None)], 1).first_share is None
    longer = candidate("quality 9 " + "x" * 90, "quality 1")
    assert reasons(longer, by_quality(longer), max_length_ratio=2) == ["length_ratio"]
    assert reasons(longer, by_quality(longer)) == []
    half = [verdict(of, 0, 1, "second")]
    assert reasons(of, half, consistent_only=True) == ["tie"]


def test_the_most_disputed_first() -> None:
    calm, wild = candidate("a", "b", scores=(3, 3)), candidate("a", "b", scores=(1, 5), number=1)
    assert most_disputed([calm, wild], 1) == [wild]
    assert most_disputed([calm, wild], 5) == [calm, wild]

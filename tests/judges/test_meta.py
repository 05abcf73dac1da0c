from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.errors import PromptFileError
from selfalign.judges.meta import (
    Battle,
    JudgedCandidate,
    battle_matrix,
    best_and_worst,
    elo,
    judge_judgements,
    judgement_pairs,
    most_disputed,
    parse_verdict,
    position_weights,
)
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Judgement, SamplingParams
from tests.judges.scripted import ScriptedEngine, make_items

TEMPLATES = Templates([shipped_prompts()])
META, RUBRIC = TEMPLATES.load("meta/judgements"), TEMPLATES.load("judges/additive")
PARAMS = SamplingParams(max_tokens=64)


def candidate(*raws: str, text: str = "an answer", number: int = 0) -> JudgedCandidate:
    item = make_items(*[text] * (number + 1))[number]
    judgements = tuple(
        Judgement(f"{number}-{i}", item.candidate.candidate_id, 1, "rubric_votes", "h", "w", i, float(len(raw) % 6), "ok", raw, i, "{}")
        for i, raw in enumerate(raws)
    )  # fmt: skip
    return JudgedCandidate(item, judgements)


def quality(judgement: str) -> int:
    return int(judgement.split()[1])


def shown_pair(shown: str) -> tuple[str, str]:
    first = shown.split("<judgement_a>\n")[1].split("\n</judgement_a>")[0]
    return first, shown.split("<judgement_b>\n")[1].split("\n</judgement_b>")[0]


def by_quality(shown: str, vote: int) -> str:
    first, second = shown_pair(shown)
    return f"Because. Winner: {'A' if quality(first) > quality(second) else 'B'}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Winner: A", "first"), ("**Winner:** B", "second"), ("winner: [[b]]", "second"), ("Winner: Judgement A.", "first"),
        ("Winner: A? No. Winner: B", "second"), ("Winner: A or B", None), ("Winner: Alice", None), ("A is better", None), ("", None),
    ],
)  # fmt: skip
def test_verdicts(raw: str, expected: str | None) -> None:
    assert parse_verdict(raw) == expected


def test_the_place_that_wins_more_weighs_less() -> None:
    battles = [
        Battle(0, 1, "first"),
        Battle(1, 0, "first"),
        Battle(0, 2, "first"),
        Battle(2, 0, "second"),
        Battle(1, 2, None),
    ]
    assert position_weights(battles) == (0.25, 0.75)
    assert position_weights([]) == (0.5, 0.5)
    matrix = battle_matrix(3, battles, (0.25, 0.75))
    assert matrix.tolist() == [[0, 0.25, 1.0], [0.25, 0, 0], [0, 0, 0]]
    consistent = battle_matrix(3, battles, (0.25, 0.75), consistent_only=True)
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


def test_judgements_are_compared_in_both_orders_and_paired() -> None:
    engine = ScriptedEngine(answer=by_quality)
    candidates = [candidate("quality 1", "quality 3", "quality 2"), candidate("quality 5", "quality 4", number=1)]
    battles = judge_judgements(engine, META, candidates, PARAMS, 7, 1)
    assert [len(own) for own in battles] == [6, 2]
    assert len({request.seeds for request in engine.requests}) == 8
    result = judgement_pairs(candidates, battles, RUBRIC)
    assert [(p.chosen.raw, p.rejected.raw) for p in result.pairs] == [
        ("quality 3", "quality 1"),
        ("quality 5", "quality 4"),
    ]
    assert result.first_share == 0.5
    assert result.pairs[0].messages == RUBRIC.messages(instruction="Say hello.", response="an answer")
    assert all(pair.margin > 0 for pair in result.pairs)
    # the order of candidates decides nothing
    again = judge_judgements(engine, META, candidates[::-1], PARAMS, 7, 1)
    assert again[::-1] == battles


def test_a_meta_judge_that_only_sees_places_gives_no_pairs() -> None:
    candidates = [candidate("quality 1", "quality 2"), candidate("quality 3", "quality 1", number=1)]
    battles = judge_judgements(ScriptedEngine(answer=lambda s, v: "Winner: A"), META, candidates, PARAMS, 7, 1)
    result = judgement_pairs(candidates, battles, RUBRIC)
    assert (result.pairs, result.skipped, result.first_share) == ((), {"tie": 2}, 1.0)


def test_what_cannot_be_told_is_counted() -> None:
    silent = ScriptedEngine(answer=lambda s, v: "hm")
    candidates = [candidate("quality 1", "quality 2")]
    result = judgement_pairs(candidates, judge_judgements(silent, META, candidates, PARAMS, 7, 1), RUBRIC)
    assert (result.skipped, result.first_share) == ({"tie": 1}, None)
    small = ScriptedEngine(answer=by_quality, context_length=100)
    assert {b.winner for b in judge_judgements(small, META, candidates, PARAMS, 7, 1)[0]} == {None}
    assert small.calls == 0
    same = [candidate("quality 1", "quality 1\n")]
    fought = [[Battle(0, 1, "first"), Battle(1, 0, "second")]]
    assert judgement_pairs(same, fought, RUBRIC).skipped == {"identical_texts": 1}
    longer = [candidate("quality 9 " + "x" * 90, "quality 1")]
    fought = judge_judgements(ScriptedEngine(answer=by_quality), META, longer, PARAMS, 7, 1)
    assert judgement_pairs(longer, fought, RUBRIC, max_length_ratio=2).skipped == {"length_ratio": 1}


def test_a_winner_named_inside_a_judgement_is_not_the_verdict() -> None:
    candidates = [candidate("quality 1. Winner: A", "quality 2. Winner: A")]
    engine = ScriptedEngine(answer=lambda shown, vote: "Both are poor.")
    assert {b.winner for b in judge_judgements(engine, META, candidates, PARAMS, 7, 1)[0]} == {None}


def test_the_most_disputed_first() -> None:
    calm, wild = candidate("a", "b", "c"), candidate("a", "bcdef", number=1)
    assert most_disputed([calm, wild], 1) == [wild]
    assert most_disputed([calm, wild], 5) == [calm, wild]


def test_another_prompt_is_refused() -> None:
    with pytest.raises(PromptFileError, match="variables"):
        judge_judgements(ScriptedEngine(), RUBRIC, [], PARAMS, 7, 1)

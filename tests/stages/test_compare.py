from __future__ import annotations

from dataclasses import replace

import pytest

from selfalign.judges.scores import Votes
from selfalign.stages.compare import Duel, figures, match, preference
from selfalign.stages.held_out_judge import Question, file, item_key, votes
from selfalign.types import JudgeItem, Judgement
from tests.evaluation.rounds import make_item


def scored(value: float) -> Votes:
    return Votes(value, 1, {"ok": 1})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (scored(3), scored(1), 1.0),
        (scored(1), scored(3), 0.0),
        (scored(2), scored(2), 0.5),
        # A pairwise judge that found no difference gives no score: a tie, not a failure.
        (Votes(None, 0, {"tie": 1}), Votes(None, 0, {"tie": 1}), 0.5),
        (Votes(None, 0, {"disagree": 2}), Votes(None, 0, {"disagree": 1, "tie": 1}), 0.5),
        (Votes(None, 0, {"disagree": 1, "parse_error": 1}), scored(1), "parse_error"),
        (Votes(None, 0, {"parse_error": 2}), scored(1), "parse_error"),
        (Votes(None, 1, {"ok": 1}), scored(1), "too_few_votes"),
        (None, scored(1), "not_judged"),
        (None, None, "not_judged"),
    ],
)
def test_a_preference_or_why_there_is_none(first: Votes | None, second: Votes | None, expected: float | str) -> None:
    assert preference(first, second) == expected


def items(round: int, texts: dict[str, str]) -> list[JudgeItem]:
    return [make_item(prompt_id, text, round=round, n_tokens=len(text.split())) for prompt_id, text in texts.items()]


def duels(first: dict[str, str], second: dict[str, str]) -> list[Duel]:
    one, other = items(2, first), items(0, second)
    return match([item.prompt for item in one], [i.candidate for i in one], [i.candidate for i in other])


def test_only_prompts_that_both_answered_are_compared() -> None:
    found = duels({"b": "x", "a": "y", "c": "z"}, {"a": "u", "b": "v", "d": "w"})
    assert [(d.prompt.prompt_id, d.first.text, d.second.text) for d in found] == [("a", "y", "u"), ("b", "x", "v")]


def test_ties_count_half_and_failures_are_left_out_and_counted() -> None:
    members = duels(dict.fromkeys("abcde", "one two"), {**dict.fromkeys("abcd", "three"), "e": "one two"})
    found = {}
    for duel, (own, other) in zip(
        members,
        [(scored(2), scored(1)), (scored(1), scored(1)), (scored(0), scored(4)), (scored(1), None)],
        strict=False,
    ):
        for answer, given in zip(duel.question.answers, (own, other), strict=True):
            if given:
                found[duel.question.item_key(answer)] = given
    rate = figures(members, found, seed=0)["win_rate"]
    assert (rate["value"], rate["n"]) == (0.5, 4)
    detail = rate["detail"]
    assert (detail["wins"], detail["ties"], detail["losses"], detail["identical"]) == (1, 2, 1, 1)
    assert detail["left_out"] == {"not_judged": 1}


def test_an_answer_has_another_key_in_every_question() -> None:
    a, b, c = (make_item("p", text, round=i).candidate for i, text in enumerate(("a", "b", "c")))
    prompt = make_item("p").prompt
    keys = {
        question.item_key(answer)
        for question in (Question(prompt, (a, b)), Question(prompt, (a, c)), Question(prompt, (b, a)))
        for answer in question.answers
    }
    assert len(keys) == 6


def test_a_vote_is_filed_under_the_real_candidate() -> None:
    """Ids that the judge wrote down are the real ones again; the same vote of another round is another row."""
    vote = Judgement(
        "j", "key-1", 0, "pairwise", "hash", "weights", 0, 1.0, "ok", "raw", None,
        '{"opponent":"key-2","p_first":0.8}',
    )  # fmt: skip
    real = {"key-1": "answer-1", "key-2": "answer-2"}
    filed = file(vote, "compare", 3, real)
    assert (filed.candidate_id, filed.round, filed.raw, filed.score) == ("answer-1", 3, "raw", 1.0)
    assert filed.detail == '{"item":"key-1","opponent":"answer-2","p_first":0.8,"stage":"compare"}'
    assert item_key(filed) == "key-1"
    assert len({filed.judgement_id, file(vote, "compare", 4, real).judgement_id, vote.judgement_id}) == 3


def test_only_the_judges_own_votes_count() -> None:
    class Fake:
        name, judge_hash, min_valid_votes = "fake", "hash", 1

    vote = Judgement("j", "real", 1, "fake", "hash", None, 0, 2.0, "ok", "", None, "{}")
    filed = [("k", vote), ("k", replace(vote, judgement_id="i", score=4.0)), ("k", replace(vote, judge_hash="member"))]
    assert votes(Fake(), filed)["k"] == Votes(3.0, 2, {"ok": 2})  # type: ignore[arg-type]

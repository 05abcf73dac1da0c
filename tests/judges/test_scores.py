from __future__ import annotations

import pytest

from selfalign.judges.rubric_votes import RubricVotesJudge
from selfalign.judges.scores import aggregate, group
from selfalign.pairing.max_min import MaxMinBuilder
from selfalign.protocols import JudgeContext, PairingInput
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Candidate, Judgement
from tests.judges.scripted import make_candidate, make_prompt

JUDGE = RubricVotesJudge(RubricVotesJudge.Config(), JudgeContext(None, 0, 1, Templates([shipped_prompts()])))


def votes(candidate: Candidate, *scores: float | None, judge_hash: str = JUDGE.judge_hash) -> list[Judgement]:
    return [
        Judgement(
            f"{candidate.candidate_id}-{i}-{judge_hash}", candidate.candidate_id, 1, "rubric_votes", judge_hash, "w", i,
            score, "parse_error" if score is None else "ok", "", 0, "{}",
        )
        for i, score in enumerate(scores)
    ]  # fmt: skip


CANDIDATES = [make_candidate(text, i) for i, text in enumerate(("a", "b", "c", "d"))]


def test_the_reference_example() -> None:
    """Scores [[4,4,5],[2,NULL,3],[NULL x3],[4,4,5]]: means 13/3, 5/2, none, 13/3; pair (0, 1)."""
    given = [(4, 4, 5), (2, None, 3), (None, None, None), (5, 4, 4)]
    rows = [row for candidate, scores in zip(CANDIDATES, given, strict=True) for row in votes(candidate, *scores)]
    groups = group([make_prompt()], CANDIDATES, rows, JUDGE)
    means = [scored.score for scored in groups[0].candidates]
    assert means == [pytest.approx(13 / 3), 2.5, None, means[0]]
    assert groups[0].judge == "rubric_votes"
    pairing = MaxMinBuilder(MaxMinBuilder.Config()).build(PairingInput(1, groups))
    assert [(p.chosen_id, p.rejected_id) for p in pairing.pairs] == [("p0-c0", "p0-c1")]
    assert pairing.pairs[0].margin == pytest.approx(13 / 3 - 2.5)
    assert pairing.pairs[0].n_votes == 2
    assert pairing.unpaired == ()


def test_all_equal_gives_no_pair() -> None:
    rows = [row for candidate in CANDIDATES for row in votes(candidate, 4, 4, 4)]
    pairing = MaxMinBuilder(MaxMinBuilder.Config()).build(
        PairingInput(1, group([make_prompt()], CANDIDATES, rows, JUDGE))
    )
    assert pairing.pairs == ()
    assert [u.reason for u in pairing.unpaired] == ["tie"]


def test_too_few_valid_votes_are_no_score() -> None:
    found = aggregate(votes(CANDIDATES[0], 5, None, None), "rubric_votes", 2)["p0-c0"]
    assert (found.score, found.n_votes, found.outcomes) == (None, 1, {"ok": 1, "parse_error": 2})
    assert aggregate([], "rubric_votes", 1) == {}


def test_the_unparseable_are_neither_chosen_nor_rejected() -> None:
    """The failure of Oxen, open-instruct (rejected) and TRL's judges (second completion wins)."""
    rows = votes(CANDIDATES[0], 1, 1, 1) + votes(CANDIDATES[1], None, None, None) + votes(CANDIDATES[2], 3, 3, 3)
    pairing = MaxMinBuilder(MaxMinBuilder.Config()).build(
        PairingInput(1, group([make_prompt()], CANDIDATES, rows, JUDGE))
    )
    assert [(p.chosen_id, p.rejected_id) for p in pairing.pairs] == [("p0-c2", "p0-c0")]


def test_another_judge_of_the_same_name_does_not_count() -> None:
    rows = votes(CANDIDATES[0], 1, 1, 1) + votes(CANDIDATES[0], 5, 5, 5, judge_hash="other")
    assert group([make_prompt()], CANDIDATES[:1], rows, JUDGE)[0].candidates[0].score == 1


def test_groups_are_in_order_and_complete() -> None:
    prompts = [make_prompt("p2"), make_prompt("p0"), make_prompt("p1")]
    candidates = [make_candidate("x", 1, "p1"), make_candidate("y", 0, "p1"), make_candidate("z", 0, "p2")]
    groups = group(prompts, candidates, [], JUDGE)
    assert [g.prompt.prompt_id for g in groups] == ["p0", "p1", "p2"]
    assert [[s.candidate.sample_idx for s in g.candidates] for g in groups] == [[], [0, 1], [0]]


def test_the_order_of_votes_does_not_make_a_difference() -> None:
    one = aggregate(votes(CANDIDATES[0], 0.1, 0.2, 0.3), "rubric_votes", 1)["p0-c0"]
    other = aggregate(votes(CANDIDATES[0], 0.3, 0.2, 0.1), "rubric_votes", 1)["p0-c0"]
    assert one.score == other.score

"""Each builder on groups whose pairs are known from its paper, or are worked out by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from selfalign.pairing.dno import repeats_itself
from selfalign.pairing.sppo import win_rates, with_itself
from selfalign.types import PairNote
from tests.pairing.groups import build, group_of, number, reason, sides

# -- RLHFlow ---------------------------------------------------------------------------------------


def test_rlhflows_own_example() -> None:
    rewards = group_of([1, 3, 2])
    assert sides(build("max_min", rewards)) == [(1, 0)]
    assert sides(build("max_max", rewards)) == [(1, 2)]
    assert build("max_min", rewards).pairs[0].margin == 2


def test_max_max_drops_equal_best_ones() -> None:
    assert reason(build("max_max", group_of([3, 3, 1]))) == "tie"


def test_max_random_rejects_every_other_one_about_as_often() -> None:
    groups = [group_of([1, 5, 2, 5, 0], prompt_id=f"p{i}") for i in range(300)]
    pairing = build("max_random", *groups, seed=7)
    assert {number(p.chosen_id) for p in pairing.pairs} == {1}
    counts = Counter(number(p.rejected_id) for p in pairing.pairs)
    # 3 is as good as the best. 100 each expected; 5 standard deviations are 41.
    assert set(counts) == {0, 2, 4}
    assert all(59 <= count <= 141 for count in counts.values())
    assert pairing.pairs != build("max_random", *groups, seed=8).pairs


def test_a_price_on_length_says_which_two_and_scores_say_which_way() -> None:
    group = group_of([3.0, 2.9, 1.0], lengths=[500, 100, 90])
    assert sides(build("max_min_p", group, length_penalty=0.0)) == [(0, 2)]
    # Priced: -2.0, 1.9, 0.1. The best and the worst are 1 and 0, and 0 has the higher score.
    assert sides(build("max_min_p", group, length_penalty=0.01)) == [(0, 1)]
    short = group_of([3.0, 2.9, 2.8], lengths=[100, 100, 400])
    assert sides(build("max_min_p", short, length_penalty=0.01)) == [(0, 2)]


def test_a_cut_answer_is_not_chosen_by_its_price() -> None:
    group = group_of([3.0, 2.0], lengths=[500, 100], reasons=["length", "stop"])
    assert reason(build("max_min_p", group, length_penalty=0.01, complete_only=True)) == "no_complete_candidate"


# -- length band -----------------------------------------------------------------------------------


def test_the_band_widens_by_round() -> None:
    # Tiers with rho 0.2: top >= 4.2, bottom <= 1.8 (scores from 1 to 5).
    group = group_of([5, 4.2, 4.1, 1, 1.8], lengths=[90, 30, 10, 20, 80])
    assert sides(build("length_band", group, round=1)) == [(0, 3)]
    assert sides(build("length_band", group, round=2)) == [(1, 4)]
    assert sides(build("length_band", group, round=9)) == [(1, 4)], "the last rho stays"


def test_tiers_may_not_meet() -> None:
    with pytest.raises(ValidationError, match=r"less than 0\.5"):
        build("length_band", group_of([1, 2]), rho=[0.5])


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 99)), min_size=2, max_size=6))
def test_without_a_band_it_is_max_min(members: list[tuple[float, int]]) -> None:
    group = group_of([m[0] for m in members], lengths=[m[1] for m in members])
    mine, plain = build("length_band", group, rho=[0.0]), build("max_min", group)
    assert [p.chosen_score for p in mine.pairs] == pytest.approx([p.chosen_score for p in plain.pairs])
    assert [p.rejected_score for p in mine.pairs] == pytest.approx([p.rejected_score for p in plain.pairs])


# -- several pairs ---------------------------------------------------------------------------------


def test_all_pairs_above_a_margin() -> None:
    group = group_of([1, 3, 2, 3])
    assert sides(build("all_pairs", group, per_prompt=None)) == [(1, 2), (1, 0), (3, 2), (3, 0), (2, 0)]
    assert sides(build("all_pairs", group, min_margin=2)) == [(1, 0), (3, 0)]
    assert sides(build("all_pairs", group, per_prompt=1)) == [(1, 0)]
    assert [p.weight for p in build("all_pairs", group, weight="prompt").pairs] == [0.2] * 5
    assert reason(build("all_pairs", group_of([2, 2, 2]))) == "tie"


def test_a_capped_draw_is_the_seeds() -> None:
    group = group_of([1, 2, 3, 4, 5])
    drawn = {tuple(sides(build("all_pairs", group, per_prompt=2, keep="random", seed=seed))) for seed in range(20)}
    assert len(drawn) > 5


def test_slic_ranks_the_first_samples_only() -> None:
    group = group_of([1, 3, 2, 9])
    assert sides(build("slic_rank", group, samples=3)) == [(1, 2), (1, 0), (2, 0)]


# -- absolute scores -------------------------------------------------------------------------------


def test_anchors() -> None:
    assert sides(build("anchored", group_of([4, 2, 3]), chosen_at_least=4, rejected_at_most=2)) == [(0, 1)]
    assert reason(build("anchored", group_of([3, 1]), chosen_at_least=4)) == "chosen_below_floor"
    assert (
        reason(build("anchored", group_of([5, 3]), chosen_at_least=4, rejected_at_most=2)) == "rejected_above_ceiling"
    )
    with pytest.raises(ValidationError, match="must not be above"):
        build("anchored", group_of([1]), chosen_at_least=1, rejected_at_most=2)


def test_the_papers_filters_of_dno() -> None:
    """6 and 3 are the student's, 4 and 5 the teacher's; 5 over 4 is left out, as the teacher needs two points."""
    group = group_of([6, 4, 5, 3], origins=[None, "demonstration", "demonstration", None])
    scores = [(p.chosen_score, p.rejected_score) for p in build("dno", group).pairs]
    assert scores == [(6, 5), (6, 4), (6, 3), (5, 3)]


def test_dno_has_a_floor_and_rejects_repetition() -> None:
    assert reason(build("dno", group_of([4, 1]))) == "chosen_below_floor"
    assert reason(build("dno", group_of([5, 4.5]))) == "margin_below_minimum"
    looping = ["fine answer", "la " * 40]
    group = group_of([5, 4.9], texts=looping)
    fine, looped = group.candidates
    tokens = (1, 2, 3) * 20
    looped = replace(looped, candidate=replace(looped.candidate, token_ids=tokens, n_tokens=len(tokens)))
    group = replace(group, candidates=(fine, looped))
    assert sides(build("dno", group)) == [(0, 1)], "whatever the margin"
    better = replace(group, candidates=(fine, replace(looped, score=6.0)))
    assert reason(build("dno", better)) == "tie", "what repeats itself is never chosen, and no better one is rejected"


def test_repetition() -> None:
    assert repeats_itself([1, 2] * 8, 2, 8)
    assert not repeats_itself([1, 2] * 8, 2, 9)
    assert not repeats_itself(list(range(100)), 1, 2)
    assert not repeats_itself([], 8, 2)
    assert repeats_itself([7] * 11, 8, 4), "runs overlap"


# -- known sides -----------------------------------------------------------------------------------


def test_spin_prefers_the_demonstration() -> None:
    group = group_of([None] * 3, ["known", "mine", "also mine"], origins=["demonstration", None, None])
    pairing = build("spin", group)
    pair = pairing.pairs[0]
    assert sides(pairing) == [(0, 1)]
    assert (pair.chosen_score, pair.rejected_score, pair.margin, pair.judge) == (1, 0, 1, "demonstration")
    assert sides(build("spin", group, samples=5)) == [(0, 1), (0, 2)]


def test_spin_has_nothing_to_learn_from_what_equals_the_data() -> None:
    same = group_of([None] * 3, ["known", " known\n", "other"], origins=["demonstration", None, None])
    assert reason(build("spin", same)) == "identical_texts"
    assert sides(build("spin", same, samples=2)) == [(0, 2)]
    assert reason(build("spin", group_of([None, None]))) == "no_demonstration"
    assert reason(build("spin", group_of([None], origins=["demonstration"]))) == "too_few_candidates"


def test_rlcd_goes_by_the_prompt() -> None:
    origins = ["positive", "negative", "positive", "negative"]
    group = group_of([1, 2, 5, 2], origins=origins)  # type: ignore[arg-type]
    assert sides(build("rlcd", group)) == [(0, 1), (2, 3)]
    assert sides(build("rlcd", group, agree="weakly")) == [(2, 3)]
    assert {p.judge for p in build("rlcd", group).pairs} == {"contrast"}
    equal = group_of([2, 2], origins=["positive", "negative"])
    assert sides(build("rlcd", equal, agree="weakly")) == [(0, 1)]
    assert reason(build("rlcd", equal, agree="strictly")) == "disagree"
    assert (
        reason(build("rlcd", group_of([None, 2], origins=["positive", "negative"]), agree="weakly"))
        == "too_few_valid_votes"
    )
    assert reason(build("rlcd", group_of([1, 2]))) == "too_few_candidates"
    same = group_of([1, 2], ["a", "a "], origins=["positive", "negative"])
    assert reason(build("rlcd", same)) == "identical_texts"


# -- SPPO ------------------------------------------------------------------------------------------


def test_win_rates_count_the_candidate_itself() -> None:
    rates = win_rates([2.0, 0.0])
    p = 1 / (1 + math.exp(-2))
    assert rates == pytest.approx([(0.5 + p) / 2, (0.5 + 1 - p) / 2])
    assert with_itself(p, 2) == pytest.approx(rates[0]), "a judge that compares says P of the others"


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_win_rates_are_of_a_game_with_one_winner(scores: list[float]) -> None:
    rates = win_rates(scores)
    assert sum(rates) / len(rates) == pytest.approx(0.5)
    by_score = sorted(range(len(scores)), key=lambda i: scores[i])
    assert all(rates[a] <= rates[b] + 1e-12 for a, b in pairwise(by_score))


def test_sppo_pairs_carry_win_rates_and_keep_the_scores() -> None:
    pairing = build("sppo", group_of([0.0, 2.0]))
    pair = pairing.pairs[0]
    rates = win_rates([0.0, 2.0])
    assert (pair.chosen_score, pair.rejected_score) == pytest.approx((rates[1], rates[0]))
    assert pair.margin == pytest.approx(rates[1] - rates[0])
    assert pairing.notes == (
        PairNote(pair.pair_id, "win_rate", {"chosen_judged": 2.0, "rejected_judged": 0.0}, "pair_score"),
    )


def test_a_pairwise_judges_scores_are_win_rates_already() -> None:
    pair = build("sppo", group_of([0.9, 0.1], judge="pairwise")).pairs[0]
    assert (pair.chosen_score, pair.rejected_score) == pytest.approx((0.7, 0.3))
    forced = build("sppo", group_of([0.9, 0.1], judge="pairwise"), scores="rewards").pairs[0]
    assert forced.chosen_score < 0.6


# -- agreement -------------------------------------------------------------------------------------


def test_the_largest_cluster_against_an_outsider() -> None:
    texts = ["Yes."] * 5 + ["No"] * 3 + ["Maybe"] * 2
    group = group_of([1, 2, 9, 4, 5, 9, 9, 9, 9, 9], texts)
    pairing = build("rlp_spg", group)
    pair = pairing.pairs[0]
    assert (number(pair.chosen_id), pair.chosen_score, pair.judge) == (2, 0.5, "agreement")
    assert (number(pair.rejected_id), pair.rejected_score) in {(5, 0.3), (6, 0.3), (7, 0.3), (8, 0.2), (9, 0.2)}
    assert pairing.notes[0].detail["chosen_judged"] == 9


def test_no_majority_no_outsider_no_pair() -> None:
    unsure = group_of([None] * 11, ["a"] * 4 + ["b"] * 4 + ["c"] * 3)
    assert reason(build("rlp_spg", unsure)) == "no_majority"
    assert reason(build("rlp_spg", group_of([None] * 3, ["Yes", "yes.", " YES!"]))) == "unanimous"
    assert reason(build("rlp_spg", group_of([None] * 4, ["a", "a", "b", "b"]))) == "tie"


def test_numbers_agree_however_they_are_written() -> None:
    texts = ["2 x 500 = 1,000", "It is 1000.0", "I say +1000", "900"]
    assert build("rlp_spg", group_of([None] * 4, texts), key="number").pairs[0].chosen_score == 0.75
    # Without a number an answer agrees with nobody, not even with another one without.
    texts = ["12", "no idea", "no idea"]
    assert reason(build("rlp_spg", group_of([None] * 3, texts), key="number")) == "no_majority"


# -- labels ----------------------------------------------------------------------------------------


def labels(*args, **config):  # type: ignore[no-untyped-def]
    return [(number(row.candidate_id), row.label) for row in build(*args, **config).labels]


def test_thresholds_leave_the_middle_out() -> None:
    group = group_of([4, 3, 2, None, 5])
    assert labels("threshold_labels", group) == [(0, True), (2, False), (4, True)]
    assert reason(build("threshold_labels", group_of([3, 3.5]))) == "between_thresholds"
    assert reason(build("threshold_labels", group_of([None]))) == "too_few_valid_votes"
    assert reason(build("threshold_labels", group_of([]))) == "too_few_candidates"
    cut = group_of([5], reasons=["length"])
    assert reason(build("threshold_labels", cut, complete_only=True)) == "no_complete_candidate"
    with pytest.raises(ValidationError, match="below desirable"):
        build("threshold_labels", group, desirable=2, undesirable=2)


def test_a_text_counts_once_a_prompt() -> None:
    assert labels("threshold_labels", group_of([5, 1, 1], ["a", "a ", "b"])) == [(0, True), (2, False)]


def test_shares_are_of_the_round() -> None:
    first, second = group_of([1, 2, 3], prompt_id="a"), group_of([4, 5, 5], prompt_id="b")
    pairing = build("threshold_labels", first, second, by="share", desirable=0.34, undesirable=0.34)
    assert [(row.prompt_id, row.score, row.label) for row in pairing.labels] == [
        ("a", 1, False), ("a", 2, False), ("b", 5, True), ("b", 5, True),
    ]  # fmt: skip
    assert (
        reason(build("threshold_labels", group_of([3, 3]), by="share", desirable=0.5, undesirable=0.5))
        == "between_thresholds"
    )
    with pytest.raises(ValidationError, match="at most 1"):
        build("threshold_labels", first, by="share", desirable=0.8, undesirable=0.4)


def test_best_of_k_is_per_prompt_and_the_top_share_is_not() -> None:
    assert labels("best_of", group_of([0.1, 0.9, 0.5])) == [(1, True)]
    easy, hard = group_of([0.9, 0.8], prompt_id="easy"), group_of([0.1, 0.2], prompt_id="hard")
    assert [row.prompt_id for row in build("best_of", easy, hard).labels] == ["easy", "hard"]
    top = build("best_of", easy, hard, strategy="global", share=0.5)
    assert [(row.prompt_id, row.score) for row in top.labels] == [("easy", 0.9), ("easy", 0.8)]
    assert [(u.prompt_id, u.reason) for u in top.unpaired] == [("hard", "not_among_the_best")]


def test_rest_puts_the_rounds_scores_on_the_unit() -> None:
    groups = [group_of([1, 3, 4.6], prompt_id="a"), group_of([5, 2], prompt_id="b")]
    pairing = build("best_of", *groups, strategy="threshold", above=0.7)
    # 3.8 is 0.7 of the way from 1 to 5.
    assert [row.score for row in pairing.labels] == [4.6, 5]
    assert reason(build("best_of", group_of([2, 2]), strategy="threshold")) == "not_among_the_best"


def test_cut_answers_are_not_among_the_best() -> None:
    group = group_of([5, 3], reasons=["length", "stop"])
    assert labels("best_of", group) == [(0, True)]
    assert labels("best_of", group, complete_only=True) == [(1, True)]
    cut = group_of([5], reasons=["length"])
    assert reason(build("best_of", cut, complete_only=True)) == "no_complete_candidate"


# -- rankings --------------------------------------------------------------------------------------


def test_a_ranking_lists_every_scored_text_once() -> None:
    group = group_of([2, 5, None, 2, 3], ["a", "b", "c", "d", "b"])
    row = build("ranking", group).rankings[0]
    assert [number(i) for i in row.candidate_ids] == [1, 0, 3]
    assert row.scores == (5, 2, 2)
    assert build("ranking", group, ties="drop").rankings[0].scores == (5, 2)
    assert reason(build("ranking", group_of([1, 1]))) == "tie"
    assert reason(build("ranking", group_of([1, 2], ["a", "a"]))) == "identical_texts"
    assert reason(build("ranking", group_of([1, None]))) == "too_few_valid_votes"

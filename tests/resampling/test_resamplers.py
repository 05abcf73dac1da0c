"""The plug-ins on groups of judged candidates: every scored candidate has a row, known by its id."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.config import validate_config
from selfalign.errors import BadInput, ConfigError
from selfalign.registry import find, plugins
from selfalign.resampling.figures import figures
from selfalign.resampling.pools import normalised
from selfalign.resampling.selections import by_prompt, only_accepted
from selfalign.types import ScoredGroup, Selection
from tests.pairing.test_max_min import make_group

scores = st.lists(st.none() | st.floats(-10, 10), max_size=12)
settings_of = st.sampled_from(
    [
        {"id": "rso", "accept": 3}, {"id": "rso", "accept": 3, "mode": "iid"}, {"id": "rso", "normalise": "zscore"},
        {"id": "rso", "accept": 2, "normalise": "min_max", "over": "round"}, {"id": "top_k", "accept": 2},
        {"id": "threshold"}, {"id": "threshold", "normalise": "none", "above": 1.0},
    ]
)  # fmt: skip


def resample(*groups: ScoredGroup, id: str = "rso", seed: int = 7, round: int = 1, **config: Any) -> list[Selection]:
    resampler = find("resample", id).load()
    rows: list[Selection] = resampler(resampler.Config.model_validate(config)).resample(groups, round, seed)
    return rows


def accepted(rows: Sequence[Selection]) -> list[int]:
    """Samples of one prompt in order of acceptance."""
    kept = sorted((row.accept_order, row.candidate_id) for row in rows if row.accept_order is not None)
    return [int(name.rpartition("c")[2]) for _, name in kept]


def details(rows: Sequence[Selection]) -> list[dict[str, Any]]:
    return [json.loads(row.detail) for row in rows]


@settings(max_examples=150, deadline=None)
@given(st.lists(scores, max_size=4), settings_of, st.integers(0, 2**40), st.randoms(use_true_random=False))
def test_every_scored_candidate_has_a_row_whatever_the_order(
    data: list[list[float | None]], config: dict[str, Any], seed: int, random: Any
) -> None:
    groups = [make_group(own, prompt_id=f"p{i}") for i, own in enumerate(data)]
    rows = resample(*groups, seed=seed, **config)
    scored = [c.candidate.candidate_id for g in groups for c in g.candidates if c.score is not None]
    assert [row.candidate_id for row in rows] == scored
    for own in by_prompt(rows).values():
        order = sorted(row.accept_order for row in own if row.accept_order is not None)
        assert order == list(range(len(order)))
        assert all(row.accepted == (row.accept_order is not None) for row in own)
        assert all(0 <= detail["probability"] <= 1 for detail in details(own))
        if config["id"] == "rso" and config.get("mode") != "iid":
            assert len(order) == min(config.get("accept", 8), len(own))
    shuffled = [replace(g, candidates=tuple(random.sample(g.candidates, len(g.candidates)))) for g in groups]
    random.shuffle(shuffled)
    again = {row.candidate_id: row for row in resample(*shuffled, seed=seed, **config)}
    if config.get("over") == "round" or config["id"] == "threshold" or "normalise" in config:
        # Sums in another order may differ in the last bits.
        assert [again[row.candidate_id].accept_order for row in rows] == [row.accept_order for row in rows]
    else:
        assert [again[row.candidate_id] for row in rows] == rows


def test_a_seeded_order_takes_the_bias_from_what_comes_last() -> None:
    """r = [0, beta ln 2], n = 1 (rejection.in_passes): 0.75 over both orders; 4 sigma of 4,000 prompts is 0.027."""
    groups = [make_group([0.0, 0.5 * math.log(2)], prompt_id=f"p{i}") for i in range(4000)]
    best = [row.accepted for row in resample(*groups, accept=1) if row.candidate_id.endswith("c1")]
    assert np.mean(best) == pytest.approx(0.75, abs=0.027)
    exact = [row.accepted for row in resample(*groups, accept=1, mode="iid") if row.candidate_id.endswith("c1")]
    assert np.mean(exact) == pytest.approx(2 / 3, abs=0.03)


def test_equal_texts_are_different_candidates() -> None:
    """The paper's code keeps a dictionary by text: four candidates of one text would be one, and three never found."""
    rows = resample(make_group([1.0, 1.0, 2.0, 1.0], texts=["same"] * 4), accept=3)
    assert len(rows) == 4 and len(accepted(rows)) == 3
    assert {row.score for row in rows} == {1.0, 2.0}


def test_more_wanted_than_there_are() -> None:
    group = make_group([1.0, None, 3.0])
    assert sorted(accepted(resample(group, accept=8))) == [0, 2]
    rows = resample(group, accept=8, mode="iid", beta=100.0)
    assert sum(detail.get("times", 0) for detail in details(rows)) == 8


def test_repeated_draws_are_counted_and_go_on_once() -> None:
    rows = resample(make_group([0.0, 9.0, 0.0]), accept=8, mode="iid")
    # exp(-9 / 0.5) = 1.5e-8: the best one every time.
    assert accepted(rows) == [1]
    assert [detail.get("times") for detail in details(rows)] == [None, 8, None]
    assert details(rows)[0]["probability"] == pytest.approx(math.exp(-18))


def test_equal_rewards_have_equal_chances() -> None:
    groups = [make_group([3.0] * 8, prompt_id=f"p{i}") for i in range(2000)]
    for config in ({"accept": 2}, {"accept": 2, "normalise": "zscore"}, {"accept": 2, "normalise": "min_max"}):
        rows = resample(*groups, **config)
        assert {detail["probability"] for detail in details(rows)} == {1.0}
        counts = np.bincount([int(row.candidate_id[-1]) for row in rows if row.accepted])
        # 500 of 2,000 each, binomial: 4 sigma is 77.
        assert counts.sum() == 4000 and abs(counts - 500).max() < 78


def test_seed_round_and_prompt_decide_and_nothing_else() -> None:
    group = make_group([0.1 * i for i in range(20)])
    assert resample(group) == resample(group) == resample(make_group([1.0, 2.0], prompt_id="other"), group)[2:]
    assert accepted(resample(group)) != accepted(resample(group, seed=8))
    ids = {resample(group, round=t, accept=n)[0].selection_id for t in (1, 2) for n in (2, 3)}
    assert len(ids) == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("plugin", [plugin.name for plugin in plugins("resample")])
def test_a_score_that_is_no_number_is_one_error(plugin: str, value: float) -> None:
    with pytest.raises(BadInput, match=r"prompt p1: candidate p1-c1 has the score (nan|inf|-inf), which no resampler"):
        resample(make_group([1.0, 2.0]), make_group([1.0, value], prompt_id="p1"), id=plugin)


def test_candidates_without_a_score_are_none() -> None:
    assert resample(make_group([None, None]), make_group([])) == []
    assert resample() == []


def test_rewards_are_scaled_by_prompt_or_by_round() -> None:
    groups = [make_group([0.0, 4.0]), make_group([1.0, 2.0, 3.0], prompt_id="p1")]
    by_prompt_ = [row.score for row in resample(*groups, normalise="zscore")]
    assert by_prompt_ == pytest.approx([-1, 1, -math.sqrt(1.5), 0, math.sqrt(1.5)])
    assert [row.score for row in resample(*groups, normalise="min_max", over="round")] == [0, 1, 0.25, 0.5, 0.75]
    rows = resample(*groups, normalise="zscore", over="round")
    # Mean 2 and variance (4 + 4 + 1 + 0 + 1) / 5 = 2 over all five.
    assert [row.score for row in rows] == pytest.approx([(s - 2) / math.sqrt(2) for s in (0, 4, 1, 2, 3)])
    assert [detail["judge_score"] for detail in details(rows)] == [0, 4, 1, 2, 3]


def test_equal_scores_are_0_on_any_scale() -> None:
    same = np.array([0.1] * 3)
    assert normalised(same, same, "zscore").tolist() == normalised(same, same, "min_max").tolist() == [0, 0, 0]
    assert normalised(same, same, "none").tolist() == [0.1] * 3
    rounded = np.array([0.1 + 0.2, 0.3])
    assert normalised(rounded, rounded, "zscore").tolist() == [0, 0]


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e308])
def test_tiny_and_huge_scores_are_scaled_as_any(size: float) -> None:
    scores = np.array([-1.0, 1.0]) * size
    assert normalised(scores, scores, "zscore").tolist() == [-1, 1]
    assert normalised(scores, scores, "min_max").tolist() == [0, 1]


def test_top_k_takes_the_best_in_order() -> None:
    rows = resample(make_group([0.1, 0.9, 0.5, 0.9]), id="top_k", accept=3)
    assert accepted(rows) == [1, 3, 2]
    assert [detail["probability"] for detail in details(rows)] == [0, 1, 1, 1]
    # RAFT's test value: K = 3, the middle one.
    assert accepted(resample(make_group([0.1, 0.9, 0.5]), id="top_k", accept=1)) == [1]


def test_threshold_keeps_what_is_above_it() -> None:
    # On [0, 1] over the round: 0, 0.5, 1 and 0.7, 0.75.
    groups = [make_group([0.0, 10.0, 20.0]), make_group([14.0, 15.0], prompt_id="p1")]
    rows = by_prompt(resample(*groups, id="threshold"))
    assert accepted(rows["p0"]) == [2] and accepted(rows["p1"]) == [1], "0.7 itself is not above 0.7"
    assert accepted(by_prompt(resample(*groups, id="threshold", over="prompt"))["p1"]) == [1]
    assert accepted(resample(make_group([5.0, 5.0]), id="threshold")) == [], "equal scores: none stands out"


def test_only_the_accepted_go_on_in_order_of_acceptance() -> None:
    groups = [make_group([1.0, 5.0, 3.0, None]), make_group([0.0, 0.0], prompt_id="p1")]
    rows = resample(groups[0], id="top_k", accept=2)
    first, second = only_accepted(groups, rows)
    assert [c.candidate.candidate_id for c in first.candidates] == ["p0-c1", "p0-c2"]
    assert first.prompt is groups[0].prompt and first.judge == groups[0].judge
    assert second.candidates == ()


def test_figures_of_a_prompt() -> None:
    beta = 0.5
    rows = resample(make_group([0.0, beta * math.log(2), 0.0, 0.0]), accept=1, beta=beta)
    found = figures(by_prompt(rows))["p0"]
    assert found.acceptance_rate == pytest.approx((1 + 3 * 0.5) / 4)
    assert found.effective_size == pytest.approx(2.5**2 / 1.75)
    best = rows[1].accepted
    mean = beta * math.log(2) / 4
    assert found.score_gain == pytest.approx(beta * math.log(2) - mean if best else -mean)
    # Of another package's rows, which say nothing but their decision.
    bare = [replace(row, detail="{}", accepted=i < 2, score=float(i)) for i, row in enumerate(rows)]
    plain = figures({"p0": bare})["p0"]
    assert (plain.acceptance_rate, plain.effective_size, plain.score_gain) == (0.5, 2, -1)
    assert figures({"p0": [replace(row, accepted=False) for row in bare]})["p0"].score_gain is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"resample": "rso"}, "resample.accept: 8 of generate.candidates 4 are all of them"),
        ({"resample": "top_k", "generate": {"candidates": 8}}, "8 of generate.candidates 8 are all of them"),
        ({"resample": {"id": "rso", "accept": 1}}, "resample.accept must be at least 2"),
        ({"resample": {"id": "rso", "beta": 0}}, "resample.beta"),
        ({"resample": {"id": "rso", "bata": 1}}, "did you mean 'beta'"),
        ({"resample": "rzo"}, "did you mean 'rso'"),
        ({"resample": {"id": "threshold", "above": math.nan}}, "resample.above"),
    ],
)
def test_what_cannot_work_is_refused_with_the_config(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate_config({"name": "x", **config}, "test")


def test_independent_draws_may_be_more_than_candidates() -> None:
    config = validate_config({"name": "x", "resample": {"id": "rso", "mode": "iid"}}, "test")
    assert config.resample.accept > config.generate.candidates

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from selfalign.judges.scores import single_votes
from selfalign.pairing.max_min import MaxMinBuilder
from selfalign.pairing.strength import (
    Strength,
    StrengthSettings,
    lowest,
    preference_loss,
    shared_differences,
    smoothing,
    strength,
    weight,
)
from selfalign.protocols import PairingInput
from selfalign.types import Judgement, Pairing, ScoredCandidate, ScoredGroup
from tests.judges.scripted import make_candidate, make_prompt


def test_the_papers_losses() -> None:
    """-log s(1.2), smoothed by 0.1, with a margin of 0.5."""
    assert preference_loss(1.2) == pytest.approx(0.2633, abs=5e-5)
    assert preference_loss(1.2, label_smoothing=0.1) == pytest.approx(0.3833, abs=5e-5)
    assert preference_loss(1.2, margin=0.5) == pytest.approx(0.4032, abs=5e-5)
    assert preference_loss(-1000) == 1000


def test_strength_of_votes() -> None:
    differences = shared_differences({"a": 1.0, "b": 0.5, "only": 9.0}, {"a": 0.0, "b": 0.5, "other": 9.0})
    assert differences == [1.0, 0.0]
    assert strength(differences) == Strength(0.5, 0.5, 2)
    with pytest.raises(ValueError, match="nobody voted"):
        strength([])


def test_weight_and_smoothing() -> None:
    assert [weight(Strength(m, s, 9)) for m, s in [(1, 0), (1, 1), (1, 2), (0, 1), (-1, 0)]] == [1, 0.5, 0.2, 0, 0]
    assert weight(Strength(5e-324, 1, 9)) == 0
    # P(N(1, 1) < 0) = 0.1587
    assert smoothing(Strength(1, 1, 9)) == pytest.approx(0.1587, abs=5e-5)
    assert [smoothing(Strength(m, s, 9)) for m, s in [(1, 0), (0, 0), (0, 1), (-1, 1)]] == [0, 0.5, 0.5, 0.5]


def test_the_lowest_share_is_of_those_below_zero() -> None:
    means = {"a": -2.0, "b": -1.0, "c": -1.0, "d": 1.0, "e": 2.0}
    assert lowest(means, 0.4) == {"a", "b"}
    assert lowest(means, 0.0) == frozenset()
    assert lowest({"a": 0.5, "b": 1.0}, 0.5) == frozenset()
    assert len(lowest({f"{i:03}": -1.0 for i in range(100)}, 0.29)) == 29


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_figures_stay_in_range(differences: list[float]) -> None:
    found = strength(differences)
    assert 0 <= weight(found) <= 1
    assert 0 <= smoothing(found) <= 0.5
    mirrored = strength([-d for d in differences])
    assert (mirrored.mean, mirrored.std) == (-found.mean, found.std)
    assert min(weight(found), weight(mirrored)) == 0


def group(prompt_id: str, scores: list[float], votes: list[Mapping[str, float]]) -> ScoredGroup:
    candidates = tuple(
        ScoredCandidate(make_candidate(f"text {i}", i, prompt_id), score, 1, {}, said)
        for i, (score, said) in enumerate(zip(scores, votes, strict=True))
    )
    return ScoredGroup(make_prompt(prompt_id), candidates, "jury")


def votes(*values: float) -> dict[str, float]:
    return {f"judge {i}": value for i, value in enumerate(values)}


#: The judge prefers candidate 0 everywhere; its members say: clearly, hardly, no, and one has no opinion.
GROUPS = [
    group("clear", [0.9, 0.1], [votes(1, 0.8, 0.9), votes(0, 0.2, 0.1)]),
    group("hardly", [0.6, 0.5], [votes(0.6, 0.5, 0.7), votes(0.5, 0.6, 0.5)]),
    group("no", [0.6, 0.5], [votes(0.2, 0.2, 0.9), votes(0.8, 0.6, 0.8)]),
    group("alone", [0.6, 0.5], [votes(0.6), votes(0.5)]),
]


def build(**rules: Any) -> Pairing:
    return MaxMinBuilder(MaxMinBuilder.Config.model_validate({"strength": rules})).build(PairingInput(1, GROUPS))


def test_pairs_by_strength() -> None:
    plain = {p.prompt_id: p for p in MaxMinBuilder(MaxMinBuilder.Config()).build(PairingInput(1, GROUPS)).pairs}
    pairing = build(drop_between=[-0.1, 0.1], flip_below=-0.1, margin="mean", weight="std")
    assert {(u.prompt_id, u.reason) for u in pairing.unpaired} == {
        ("hardly", "weak_preference"),
        ("alone", "too_few_shared_votes"),
    }
    clear, no = pairing.pairs
    # differences 1, .6, .8 and -.6, -.4, .1
    assert (clear.chosen_id, clear.margin, clear.n_votes) == (plain["clear"].chosen_id, pytest.approx(0.8), 3)
    assert clear.weight == pytest.approx(0.64 / (0.64 + 0.08 / 3))
    assert (no.chosen_id, no.rejected_id) == (plain["no"].rejected_id, plain["no"].chosen_id)
    assert (no.margin, no.chosen_score, no.rejected_score) == (pytest.approx(0.3), 0.5, 0.6)
    assert [(n.pair_id, n.reason) for n in pairing.notes] == [(clear.pair_id, "kept"), (no.pair_id, "flipped")]
    assert pairing.notes[1].detail["mean"] == no.margin
    assert pairing.notes[1].detail["score_margin"] == pytest.approx(0.1)


def test_by_default_strength_only_looks() -> None:
    pairing = build()
    plain = MaxMinBuilder(MaxMinBuilder.Config()).build(PairingInput(1, GROUPS))
    assert [(p.chosen_id, p.margin, p.weight) for p in pairing.pairs] == [
        (p.chosen_id, p.margin, p.weight) for p in plain.pairs[:3]
    ]
    assert plain.notes == ()


def test_the_bottom_share_is_flipped() -> None:
    flipped = [n.reason for n in build(flip_bottom=0.34, margin="mean").notes]
    assert flipped == ["kept", "kept", "flipped"]
    assert [n.reason for n in build(flip_bottom=0.3, margin="mean").notes] == ["kept"] * 3


def test_a_config_without_strength_has_the_identity_it_always_had() -> None:
    assert "strength" not in MaxMinBuilder.Config().model_dump(mode="json")
    dumped = MaxMinBuilder.Config(strength=StrengthSettings()).model_dump(mode="json")
    assert MaxMinBuilder.Config.model_validate(dumped).strength == StrengthSettings()


@pytest.mark.parametrize(
    "wrong",
    [{"drop_between": [0.2, 0.1]}, {"flip_below": -0.1}, {"flip_bottom": 0.2}, {"flip_below": 0.1, "margin": "mean"}],
)
def test_rules_that_contradict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StrengthSettings.model_validate(wrong)


def judgement(number: int, score: float | None, detail: Any) -> Judgement:
    outcome = "ok" if score is not None else "parse_error"
    return Judgement(f"j{number}", "c", 1, "x", "h", None, number, score, outcome, "", None, json.dumps(detail))  # type: ignore[arg-type]


def test_votes_are_a_judges_own_or_its_members() -> None:
    own = [judgement(0, 3.0, {}), judgement(1, None, {}), judgement(2, 4.0, {"members": []})]
    assert single_votes(own) == {"c": {"vote 0": 3.0, "vote 2": 4.0}}
    members = [
        {"judge_hash": "a", "on_unit": 0.5},
        {"judge_hash": "b", "on_unit": None},
        {"judge_hash": "d", "on_unit": 1.0},
    ]
    assert single_votes([judgement(0, 0.7, {"members": members})]) == {"c": {"a": 0.5, "d": 1.0}}

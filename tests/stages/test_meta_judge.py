from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import RunConfig, validate_config
from selfalign.errors import ConfigError
from selfalign.rounds import EXAMPLES, STAGES, stages_of
from selfalign.stages.meta_judge import limit


def config(**more: Any) -> RunConfig:
    return validate_config({"name": "x", "rounds": 3, **more}, "test")


def test_only_rounds_that_train_on_answers_compare_judgements() -> None:
    meta = {"enabled": True}
    assert "meta_judge" not in stages_of(1, config())
    assert "meta_judge" not in stages_of(0, config(meta=meta))
    taught = config(meta=meta, teach={"rounds": [1]})
    assert [round for round in (1, 2, 3) if "meta_judge" in stages_of(round, taught)] == [2, 3]
    assert "meta_judge" not in stages_of(3, config(meta={**meta, "rounds": [1, 2]}))
    order = stages_of(1, config(meta=meta))
    assert order.index("pair") < order.index("meta_judge") < order.index("train")
    assert set(EXAMPLES) < set(STAGES)


@given(st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_the_share_of_judgement_pairs_is_bounded_and_used_up(answers: int, share: float) -> None:
    most = limit(answers, share)
    assert most / max(1, answers + most) <= share + 1e-9
    assert (most + 1) / (answers + most + 1) > share - 1e-9


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"max_share": 1.0}, "meta.max_share"), ({"rounds": [0]}, "round 1"), ({"mode": "words"}, "meta.mode"),
        ({"max_length_ratio": 0.5}, "meta.max_length_ratio"), ({"candidate": 3}, "candidates"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_line(meta: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        config(meta=meta)
    assert "\n" not in str(caught.value)

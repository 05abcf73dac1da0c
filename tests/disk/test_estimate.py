from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from selfalign import space
from selfalign.config import validate_config
from selfalign.disk.estimate import check_room, needs
from selfalign.errors import BadInput
from selfalign.models.resolve import describe_model
from selfalign.preflight import Preflight
from selfalign.progress import Silent
from selfalign.space import folder_bytes
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.trained_rounds import make_rounds

Usage = namedtuple("Usage", "total used free")


def context(folder: Path, model: Path, **values: Any) -> RunContext:
    config = validate_config(
        {"name": "made", "rounds": 10, "model": str(model), "workspace": str(folder), **values}, "t"
    )
    workspace = Workspace(folder)
    return RunContext(config, workspace, Store(workspace.store_path), Silent())


def preflight(model: Path) -> Preflight:
    return Preflight(model, describe_model(model), (), (), 10.0)


def checkpoints(context: RunContext, model: Path) -> tuple[float, float]:
    """(peak, kept) in whole checkpoints."""
    line = next(line for line in needs(context, preflight(model)) if line.what.startswith("checkpoints"))
    whole = folder_bytes(model)
    return line.peak / whole, line.kept / whole


@pytest.mark.parametrize(
    ("keep", "peak", "kept"),
    [
        ({}, 10, 10),
        ({"checkpoints": "last", "last": 1}, 2, 1),
        ({"checkpoints": "last", "last": 3}, 4, 3),
        ({"checkpoints": "best", "best": 2}, 4, 3),
    ],
)
def test_the_policy_decides_the_peak(
    tmp_path: Path, tiny_model: Path, keep: dict[str, Any], peak: int, kept: int
) -> None:
    # What stays of a removed checkpoint (config, tokenizer) is a few per cent of the tiny model's.
    found = checkpoints(context(tmp_path / "run", tiny_model, keep=keep), tiny_model)
    assert found == (pytest.approx(peak, abs=0.8), pytest.approx(kept, abs=0.8))


def test_compressed_forms_take_less(tmp_path: Path, tiny_model: Path) -> None:
    _, whole = checkpoints(context(tmp_path / "run", tiny_model), tiny_model)
    _, bits = checkpoints(context(tmp_path / "run", tiny_model, keep={"as": "bitdelta"}), tiny_model)
    assert bits < 0.7 * whole, "the tiny model's exact embeddings are a third of it"


def test_trainer_states_count_only_where_they_are_saved(tmp_path: Path, tiny_model: Path) -> None:
    def states(**train: Any) -> int:
        lines = needs(context(tmp_path / "run", tiny_model, train={"id": "dpo", **train}), preflight(tiny_model))
        return sum(line.peak for line in lines if line.what == "trainer states")

    parameters = describe_model(tiny_model).parameters
    assert states() == 0
    assert states(save_every=2) == 2 * 3 * 4 * parameters
    assert 0 < states(save_every=2, method="lora", lora={"r": 2}) < states(save_every=2) / 2


def test_rows_of_judges_count(tmp_path: Path, tiny_model: Path) -> None:
    def rows(**values: Any) -> int:
        lines = needs(context(tmp_path / "run", tiny_model, judge="rubric_votes", **values), preflight(tiny_model))
        return sum(line.peak for line in lines if line.what == "rows")

    without = rows(calibrate={"enabled": "never"})
    few, many = (rows(calibrate={"items": items}) - without for items in (20, 80))
    assert many == pytest.approx(4 * few, rel=0.001)
    assert few > 11 * 20 * 2 * 3 * 600, "M0 to M10, two answers an item, 3 votes, each at least its row"


def test_averages_count_and_keep_the_models_that_go_into_them(tmp_path: Path, tiny_model: Path) -> None:
    def lines(reference: Any, **keep: Any) -> tuple[float, float, float]:
        here = context(tmp_path / "run", tiny_model, train={"id": "dpo", "reference": reference}, keep=keep)
        made = [line for line in needs(here, preflight(tiny_model)) if line.what == "averaged references"]
        whole = folder_bytes(tiny_model)
        averages = [(line.peak / whole, line.kept / whole) for line in made]
        return (*(averages[0] if averages else (0.0, 0.0)), checkpoints(here, tiny_model)[0])

    last = {"checkpoints": "last"}
    # The tiny model's weights are float32, as an average's are.
    assert lines({"ema": 0.5}, **last) == (
        pytest.approx(2, abs=0.01),
        pytest.approx(1, abs=0.01),
        pytest.approx(2, abs=0.8),
    )
    assert lines("initial", **last)[:2] == (0, 0)
    # Only the last of ten rounds is compared with one: all models before it must be there.
    assert lines([*["previous"] * 9, {"ema": 0.5}], **last) == (
        pytest.approx(1, abs=0.01),
        pytest.approx(1, abs=0.01),
        10,
    )


def test_finished_rounds_need_nothing(tmp_path: Path, tiny_model: Path) -> None:
    run = make_rounds(tmp_path / "run", tiny_model, rounds=2)
    assert needs(context(run, tiny_model, rounds=2), preflight(tiny_model)) == []
    peak, kept = checkpoints(context(run, tiny_model, rounds=3), tiny_model)
    assert peak == pytest.approx(1)
    # The third round lets the first two go.
    peak, kept = checkpoints(context(run, tiny_model, rounds=3, keep={"checkpoints": "last"}), tiny_model)
    assert (peak, kept) == (pytest.approx(1), 0)


def test_too_little_room_is_one_line_that_says_what_to_change(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"candidates": 2, "max_tokens": 8}
    small = {"generate": short, "prompts": {"per_round": 1}, "calibrate": {"enabled": "never"}}
    config = context(tmp_path / "run", tiny_model, rounds=1000, **small)
    check_room(config, preflight(tiny_model))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")  # a server of its own needs no room here
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(10**9, 0, 5_000_000))
    with pytest.raises(
        BadInput, match=r"checkpoints of 1000 rounds .*5\.0 MB are free.*keep\.checkpoints: last"
    ) as error:
        check_room(config, preflight(tiny_model))
    assert "\n" not in str(error.value)

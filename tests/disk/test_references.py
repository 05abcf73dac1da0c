"""Averages of a run's models: what they are made of, what must stay for later ones, and which go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import RunConfig, validate_config
from selfalign.disk import references
from selfalign.disk.cleanup import Options, find, remove
from selfalign.disk.retention import apply_retention
from selfalign.errors import WeightsNotKept
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.training import average
from selfalign.types import Checkpoint
from selfalign.workspace import Workspace
from tests.trained_rounds import make_rounds

ALWAYS = {"ema": 0.5}


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds."""
    return make_rounds(tmp_path_factory.mktemp("made") / "run", tiny_model)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def config(reference: Any, rounds: int = 4, **changes: Any) -> RunConfig:
    return validate_config(
        {"name": "x", "rounds": rounds, "train": {"id": "dpo", "reference": reference}, **changes}, "t"
    )


def opened(run: Path, reference: Any = ALWAYS, rounds: int = 4, **keep: Any) -> RunContext:
    workspace = Workspace(run)
    data = workspace.load_config().snapshot()
    data["train"]["reference"] = reference
    data |= {"keep": keep, "workspace": str(run), "rounds": rounds}
    return RunContext(validate_config(data, "test"), workspace, Store(workspace.store_path), Silent())


def make(context: RunContext, round: int, ema: float = 0.5) -> str:
    """The average for ``round``, as its stage's process makes it."""
    recipe = references.recipe(context, round, ema)
    return average.build(recipe.below, recipe.added, recipe.ema, recipe.models, recipe.folder)


def there(run: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in (run / "references").glob("*")}


def models(run: Path) -> set[int]:
    return {n for n in (1, 2, 3) if list((run / f"checkpoints/round-{n}").glob("*.safetensors"))}


# -- from the config alone --------------------------------------------------------------------------------


def test_which_rounds_are_compared_with_an_average() -> None:
    here = config(["previous", {"ema": 0.5}, "initial", {"ema": 0.9}])
    assert [references.decay(here, round) for round in (1, 2, 3, 4, 5)] == [None, 0.5, None, 0.9, 0.9]
    assert references.decay(config(ALWAYS), 1) is None, "that would be M0 itself"
    taught = config(ALWAYS, teach={"rounds": [3]})
    assert [references.decay(taught, round) for round in (2, 3, 4)] == [0.5, None, 0.5]


def test_decays_of_later_rounds() -> None:
    here = config([{"ema": 0.5}, {"ema": 0.5}, {"ema": 0.9}, "previous"], rounds=9)
    assert [references.later_decays(here, newest) for newest in range(5)] == [
        {0.5, 0.9},
        {0.5, 0.9},
        {0.9},
        set(),
        set(),
    ]
    assert references.later_decays(config(["previous"] * 6 + [ALWAYS], rounds=3), 2) == set(), "never comes"
    assert references.later_decays(config(ALWAYS, rounds=3), 3) == {0.5}, "one more round may be asked for"
    assert references.later_decays(config(ALWAYS, rounds=9, teach={"rounds": [3]}), 2) == {0.5}


@given(st.integers(1, 8), st.integers(0, 8), st.sampled_from([{}, {0.5}, {0.5, 0.9}]))
def test_models_since_the_last_average_are_needed(made: int, newest: int, later: set[float]) -> None:
    needed = references.needed_models(later, {0.5: made}, newest)
    assert needed == (
        (set(range(made, newest + 1)) if later else set()) | (set(range(1, newest + 1)) if 0.9 in later else set())
    )


# -- on a run's folder ------------------------------------------------------------------------------------


def test_an_average_goes_on_from_the_one_before_and_is_the_same_from_the_beginning(run: Path) -> None:
    context = opened(run)
    make(context, 2)
    make(context, 3)
    going_on = references.recipe(context, 4, 0.5)
    assert [source.folder.name for source in going_on.added] == ["round-3"]
    assert going_on.below.folder.name.startswith("round-3-")
    fourth = make(context, 4)
    shutil.rmtree(run / "references")
    from_the_beginning = references.recipe(context, 4, 0.5)
    assert from_the_beginning.below == average.Source(context.initial.folder, context.initial.weights_hash)
    assert len(from_the_beginning.added) == 3
    assert make(context, 4) == fourth
    assert references.recipe(context, 4, 0.5).added == (), "it is there"


def test_another_decay_or_another_model_is_another_average(run: Path) -> None:
    context = opened(run)
    make(context, 3)
    assert references.recipe(context, 4, 0.9).below.weights_hash == context.initial.weights_hash
    before = references.average_id(context, 4, 0.5)
    context.store.put_round(2, weights_hash="others", tokenizer_hash="t")
    assert references.average_id(context, 4, 0.5) != before
    assert references.average_id(context, 2, 0.5) == references.average_id(opened(run), 2, 0.5)


def test_a_damaged_average_is_not_gone_on_from(run: Path) -> None:
    context = opened(run)
    make(context, 3)
    (file,) = (run / "references").glob("round-3-*/model.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert references.recipe(context, 4, 0.5).below.weights_hash == context.initial.weights_hash


def test_an_average_takes_the_place_of_the_models_in_it(run: Path) -> None:
    make(opened(run), 3)
    apply_retention(opened(run, checkpoints="last", last=1), 3)
    assert models(run) == {3}, "M1 and M2 are in the average for round 3"
    references.check(opened(run, checkpoints="last", last=1), 4)
    shutil.rmtree(run / "references")
    with pytest.raises(
        WeightsNotKept, match=r"round 4 is compared with an average of M0 to M3 .*M1 were removed \(keep.last=1\)"
    ):
        references.check(opened(run), 4)
    references.check(opened(run, "initial"), 4)


def test_models_stay_until_an_average_has_them(run: Path) -> None:
    apply_retention(opened(run, ["previous", "previous", "previous", ALWAYS], checkpoints="last", last=1), 3)
    assert models(run) == {1, 2, 3}
    apply_retention(opened(run, "previous", checkpoints="last", last=1), 3)
    assert models(run) == {3}


def test_superseded_averages_go_when_a_round_has_ended(run: Path) -> None:
    context = opened(run)
    make(context, 2)
    make(context, 3)
    make(context, 3, ema=0.9)
    apply_retention(context, 3)
    assert [folder.name for folder in (run / "references").iterdir()] == [
        references.recipe(context, 3, 0.5).folder.name
    ]
    # A stage of an earlier round was made again: what the newest round needs stays.
    apply_retention(context, 1)
    assert there(run) == {"round-3"}
    apply_retention(opened(run, "previous"), 3)
    assert there(run) == set()


def test_gc_lists_them_and_leftovers(run: Path) -> None:
    make(opened(run), 3)
    (run / "references/.round-4-0a1b2c3d.partial").mkdir()
    for reference, kinds in ((ALWAYS, {"half-written"}), ("previous", {"half-written", "reference"})):
        context = opened(run, reference)
        assert {item.kind for item in find(context, Options())} == kinds
    assert sum(n for _, n in remove(context, find(context, Options()))) > 0
    assert list((run / "references").iterdir()) == []


def test_hashes_are_the_stores(run: Path) -> None:
    context = opened(run)
    rows = {row.round: row.weights_hash for row in context.store.rows(Checkpoint)}
    make(context, 4)
    (manifest,) = (run / "references").glob("round-4-*/average.json")
    assert json.loads(manifest.read_text())["models"] == [context.initial.weights_hash, rows[1], rows[2], rows[3]]

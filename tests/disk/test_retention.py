from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from selfalign.disk import kept, retention
from selfalign.disk.retention import apply_retention, restore
from selfalign.errors import BadInput, WeightsMismatch, WeightsNotKept
from selfalign.identity import hash_weights
from selfalign.models.resolve import check_folder
from selfalign.stages.context import RunContext
from selfalign.training import bitdelta
from selfalign.types import Checkpoint
from tests.trained_rounds import context_of, make_rounds


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rounds(tmp_path_factory.mktemp("made") / "run", tiny_model)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def hashes(context: RunContext) -> dict[int, str]:
    return {row.round: row.weights_hash for row in context.store.rows(Checkpoint)}


def weights(run: Path) -> set[int]:
    """Rounds whose weights lie on disk."""
    return {n for n in (1, 2, 3) if list((run / f"checkpoints/round-{n}").glob("*.safetensors"))}


def test_by_default_everything_stays(run: Path) -> None:
    assert apply_retention(context_of(run), 3) == []
    assert weights(run) == {1, 2, 3}


def test_removed_weights_are_still_known_by_their_hash_and_their_rows(run: Path) -> None:
    context = context_of(run, checkpoints="last", last=1)
    before = hashes(context)
    assert {r.round for r in apply_retention(context, 3)} == {1, 2}
    assert weights(run) == {3}
    assert hashes(context) == before
    model = context.model(1)
    assert model.weights_hash == before[1]
    with pytest.raises(WeightsNotKept, match=r"weights of M1 were removed \(keep.last=1\).*resume .* --from-round 0"):
        _ = model.path
    assert context.model(3).path.is_dir()
    told = context.store.query("select round, kind, message from events order by round").to_pylist()
    assert [(row["round"], row["kind"]) for row in told] == [(1, "removed"), (2, "removed")]
    assert "keep.last=1" in told[0]["message"]
    assert apply_retention(context, 3) == [], "done once"


def test_a_round_under_way_keeps_its_parent(run: Path) -> None:
    context = context_of(run, checkpoints="last", last=1)
    apply_retention(context, 2)  # round 3 has trained, but has not ended
    assert weights(run) == {2, 3}


def test_the_best_stays(run: Path) -> None:
    apply_retention(context_of(run, checkpoints="best", best=1), 3)
    assert weights(run) == {1, 3}


@pytest.mark.parametrize(("marker", "left"), [('{"run": "child", "round": 2}', {2, 3}), ("cut off {", {1, 2, 3})])
def test_fork_points_stay(run: Path, marker: str, left: set[int]) -> None:
    (run / ".selfalign/forks").mkdir()
    (run / ".selfalign/forks/child.json").write_text(marker)
    apply_retention(context_of(run, checkpoints="last", last=1), 3)
    assert weights(run) == left


def test_adapters_give_the_same_weights_again_through_a_chain(run: Path) -> None:
    context = context_of(run, **{"as": "adapter"})
    before = hashes(context)
    assert {r.round: r.form for r in apply_retention(context, 3)} == {1: "adapter", 2: "adapter"}
    assert weights(run) == {3}
    with pytest.raises(WeightsNotKept, match="selfalign checkpoints restore"):
        _ = context.model(2).path
    done = restore(context, 2)
    assert done.exact
    assert done.weights_hash == before[2]
    assert weights(run) == {2, 3}, "M1, rebuilt on the way, was not left behind"
    assert context.model(2).path.is_dir()
    assert not list((run / "checkpoints").glob(".*"))


def test_round_by_round_as_a_run_does_it(run: Path) -> None:
    context = context_of(run, **{"as": "adapter"})
    for round in (1, 2, 3):
        apply_retention(context, round)
    assert weights(run) == {3}
    assert restore(context, 1).exact
    assert restore(context, 2).exact


def test_an_adapter_that_goes_on_is_added_to_m0_whatever_became_of_the_rounds_between(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = make_rounds(tmp_path / "run", tiny_model, chain="stack")
    context = context_of(run, **{"as": "adapter"})
    assert {r.round: r.form for r in apply_retention(context, 3)} == {1: "adapter", 2: "adapter"}
    assert {r.round for r in apply_retention(context_of(run, checkpoints="last", last=2), 3)} == {1}
    done = restore(context_of(run), 2)
    assert done.exact
    assert done.weights_hash == hashes(context)[2]


def test_weights_stay_where_the_adapter_does_not_give_them_again(run: Path) -> None:
    scaled = run / "checkpoints/round-1/adapter/adapter_config.json"
    scaled.write_text(scaled.read_text().replace('"lora_alpha": 32', '"lora_alpha": 31'))
    context = context_of(run, **{"as": "adapter"})
    assert [r.round for r in apply_retention(context, 3)] == [2]
    assert weights(run) == {1, 3}
    assert restore(context, 2).exact


def test_bitdelta_comes_back_as_an_approximation_that_must_be_allowed(run: Path) -> None:
    context = context_of(run, **{"as": "bitdelta"})
    before = hashes(context)
    apply_retention(context, 3)
    assert weights(run) == {3}
    detail = json.loads(context.store.query("select detail from events where round = 2").to_pylist()[0]["detail"])
    assert 0 < detail["weight_error"] < detail["delta_error"] < 1
    done = restore(context, 2)
    assert not done.exact
    assert done.weights_hash == hash_weights(run / "checkpoints/round-2") != before[2]
    assert hashes(context) == before
    with pytest.raises(WeightsNotKept, match=r"keep\.allow_lossy"):
        _ = context.model(2).path
    assert context.model(2).weights_hash == before[2], "round 3 began from the exact weights"

    lossy = context_of(run, allow_lossy=True, **{"as": "bitdelta"})
    with lossy.store.write() as transaction:  # as `resume --from-round 2` leaves it
        transaction.execute("delete from rounds where round = 3")
    model = lossy.model(2)
    assert model.path.is_dir()
    assert (model.weights_hash, model.original_hash) == (done.weights_hash, before[2])


def test_an_approximation_that_was_changed_is_refused(run: Path) -> None:
    context = context_of(run, allow_lossy=True, **{"as": "bitdelta"})
    apply_retention(context, 3)
    restore(context, 1)
    shutil.copyfile(run / "checkpoints/round-3/model.safetensors", run / "checkpoints/round-1/model.safetensors")
    with pytest.raises(WeightsMismatch, match="neither"):
        context.model(1)


@pytest.mark.parametrize("form", ["adapter", "bitdelta", "full"])
def test_a_restored_folder_elsewhere_is_a_model(run: Path, tmp_path: Path, form: str) -> None:
    context = context_of(run, **{"as": form})
    apply_retention(context, 3)
    done = restore(context, 1, tmp_path / "elsewhere" / "m1")
    assert check_folder(tmp_path / "elsewhere" / "m1")
    assert done.exact is (form != "bitdelta")
    assert hash_weights(done.path) == done.weights_hash
    assert {path.name for path in done.path.iterdir()} >= {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert not (done.path / kept.RECORD).exists()
    assert 1 not in weights(run) or form == "full"
    with pytest.raises(BadInput, match="is not empty"):
        restore(context, 1, done.path)


def test_removed_weights_cannot_be_restored(run: Path) -> None:
    context = context_of(run, checkpoints="last", last=1)
    apply_retention(context, 3)
    with pytest.raises(WeightsNotKept, match="cannot be restored"):
        restore(context, 1)
    with pytest.raises(BadInput, match="no checkpoint of round 9"):
        restore(context, 9)


@pytest.mark.parametrize(
    ("form", "where"),
    [
        *((form, where) for form in ("adapter", "bitdelta", "removed") for where in ("before", "after")),
        ("removed", "half dropped"),
    ],
)
def test_a_kill_at_any_point_loses_nothing_and_is_finished_later(
    run: Path, monkeypatch: pytest.MonkeyPatch, form: str, where: str
) -> None:
    keep = {"checkpoints": "last", "last": 1} if form == "removed" else {"as": form}
    context = context_of(run, **keep)
    before = hashes(context)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    target = {"before": (kept, "write"), "after": (retention, "_drop"), "half dropped": (retention.shutil, "rmtree")}
    monkeypatch.setattr(*target[where], killed)
    with pytest.raises(Killed):
        apply_retention(context, 3)
    monkeypatch.undo()
    again = context_of(run, **keep)
    known = {n: again.model(n).weights_hash for n in (1, 2, 3)}
    assert known == before
    apply_retention(again, 3)
    assert weights(run) == {3}
    if form == "adapter":
        assert restore(again, 1).exact
    if form == "bitdelta":
        assert not list((run / "checkpoints").rglob("*.partial"))


def test_a_cut_compressed_file_is_named(run: Path) -> None:
    context = context_of(run, **{"as": "bitdelta"})
    apply_retention(context, 3)
    file = run / "checkpoints/round-1" / bitdelta.FOLDER / bitdelta.FILE
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises((BadInput, SafetensorError), match=r"bitdelta\.safetensors"):
        restore(context, 1)

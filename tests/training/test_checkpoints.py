from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfalign.errors import StageFailed
from selfalign.identity import hash_weights
from selfalign.space import folder_bytes
from selfalign.training import checkpoints
from selfalign.training.checkpoints import (
    check_disk,
    mark_complete,
    newest_complete,
    out_of_space_is_clear,
    publish,
    required_bytes,
    stored_dtype,
)


@pytest.fixture
def new(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / ".partial"))


def test_publishing_moves_the_whole_folder(new: Path, tmp_path: Path, tiny_model: Path) -> None:
    publish(new, tmp_path / "checkpoints" / "round-1")
    assert not new.exists()
    final = tmp_path / "checkpoints" / "round-1"
    assert hash_weights(final) == hash_weights(tiny_model)
    assert {p.name for p in final.iterdir()} == {p.name for p in tiny_model.iterdir()}
    publish(new, final)  # again, as after a kill right after the rename


def test_the_same_weights_are_kept_once(new: Path, tmp_path: Path, tiny_model: Path) -> None:
    final = Path(shutil.copytree(tiny_model, tmp_path / "final"))
    (final / "note").write_text("first")
    publish(new, final)
    assert not new.exists() and (final / "note").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_other_weights_are_moved_aside_not_deleted(
    new: Path, tmp_path: Path, tiny_model: Path, other_model: Path
) -> None:
    final = Path(shutil.copytree(other_model, tmp_path / "final"))
    publish(new, final)
    assert hash_weights(final) == hash_weights(tiny_model)
    assert hash_weights(tmp_path / "final.replaced-1") == hash_weights(other_model)


def test_an_unreadable_final_is_replaced_and_kept_aside(new: Path, tmp_path: Path, tiny_model: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "model.safetensors").write_bytes(b"cut")
    publish(new, final)
    assert hash_weights(final) == hash_weights(tiny_model)
    assert (tmp_path / "final.replaced-1" / "model.safetensors").read_bytes() == b"cut"


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs, and no handler for errors sees it."""


@pytest.mark.parametrize("had_final", [False, True])
def test_a_kill_between_any_two_steps_loses_nothing(
    tmp_path: Path, tiny_model: Path, other_model: Path, monkeypatch: pytest.MonkeyPatch, had_final: bool
) -> None:
    done = False
    for survived in range(100):
        base = tmp_path / f"case{survived}"
        source = Path(shutil.copytree(tiny_model, base / ".partial"))
        final = base / "final"
        if had_final:
            shutil.copytree(other_model, final)
        left = survived

        def step(original: Any) -> Any:
            def stepped(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return original(*args, **kwargs)

            return stepped

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_fsync", step(checkpoints._fsync))
            patch.setattr(Path, "rename", step(Path.rename))
            patch.setattr(shutil, "rmtree", step(shutil.rmtree))
            try:
                publish(source, final)
                done = True
            except Killed:
                pass
        whole = {hash_weights(p) for p in base.iterdir()}
        assert hash_weights(tiny_model) in whole
        assert not had_final or hash_weights(other_model) in whole
        if final.exists() and not had_final:
            assert hash_weights(final) == hash_weights(tiny_model)
        publish(source, final)
        assert hash_weights(final) == hash_weights(tiny_model)
        if done:
            break
    assert done and survived > 5


def test_everything_is_flushed_before_the_rename(new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = checkpoints._fsync, Path.rename
    monkeypatch.setattr(checkpoints, "_fsync", lambda path: (events.append(path.name), fsync(path)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    names = {p.name for p in new.iterdir()}
    publish(new, tmp_path / "final")
    before = events[: events.index("rename")]
    assert names | {".partial"} <= set(before)
    assert tmp_path.name in events[events.index("rename") :]


def test_sizes(tiny_model: Path) -> None:
    weights = (tiny_model / "model.safetensors").stat().st_size
    assert folder_bytes(tiny_model) == sum(p.stat().st_size for p in tiny_model.iterdir())
    assert required_bytes(tiny_model, save_state=False) == folder_bytes(tiny_model)
    # Two states of float32 weights and two moments each: six times the float32 weights, header aside.
    extra = required_bytes(tiny_model, save_state=True) - folder_bytes(tiny_model)
    assert 0.9 * 6 * weights < extra <= 6 * weights
    assert stored_dtype(tiny_model) == "F32"


def test_a_disk_too_small_is_said_before_work_starts(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "yet", needed=1)
    with pytest.raises(StageFailed, match=r"needs 1000000 TB, .* are free"):
        check_disk(tmp_path / "not" / "yet", needed=10**18)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_frees_what_was_half_written(tmp_path: Path, error: Exception) -> None:
    half = tmp_path / "half"
    half.mkdir()
    with pytest.raises(StageFailed, match="the disk is full") as caught, out_of_space_is_clear(tmp_path, discard=half):
        raise error
    assert "\n" not in str(caught.value)
    assert not half.exists()


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="else"), out_of_space_is_clear(tmp_path, discard=tmp_path / "half"):
        raise ValueError("something else")


def state(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text(str(step))
    return path


def test_only_the_newest_complete_state_of_this_training_is_kept(tmp_path: Path) -> None:
    mark_complete(state(tmp_path, 2), "mine")
    mark_complete(state(tmp_path, 10), "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]
    state(tmp_path, 12)  # killed while writing
    assert newest_complete(tmp_path, "mine") == tmp_path / "checkpoint-10"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]
    assert newest_complete(tmp_path, "another") is None
    assert list(tmp_path.iterdir()) == []


def test_a_torn_marker_is_no_marker(tmp_path: Path) -> None:
    (state(tmp_path, 3) / "COMPLETE.json").write_text('{"finger')
    assert newest_complete(tmp_path, "mine") is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this container may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_saving_onto_a_full_disk(small_disk: Path, tiny_model: Path) -> None:
    from selfalign.training.policy import load_model, save_folder

    model = load_model(tiny_model)
    (small_disk / "other").write_bytes(bytes(960 * 1024))
    output = small_disk / "output"
    with pytest.raises(StageFailed, match="the disk is full"), out_of_space_is_clear(output, discard=output):
        save_folder(model, tiny_model, output)
    assert not output.exists()

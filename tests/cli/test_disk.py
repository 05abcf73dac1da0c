from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.identity import hash_weights
from selfalign.workspace import Workspace
from tests.cli.test_commands import selfalign
from tests.trained_rounds import make_rounds


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of two rounds under runs/, whose config keeps adapters."""
    folder = tmp_path_factory.mktemp("cli")
    run = make_rounds(folder / "runs/made", tiny_model, rounds=2)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("as: full", "as: adapter"))
    (run / "checkpoints/.round-3.partial").mkdir()
    (run / "checkpoints/.round-3.partial/model.safetensors").write_bytes(bytes(2_000_000))
    return folder


def test_list_collect_and_restore(folder: Path) -> None:
    run = folder / "runs/made"
    whole = hash_weights(run / "checkpoints/round-1")
    listed = selfalign("gc", "made", "--dry-run", cwd=folder)
    assert listed.returncode == 0, listed.stderr
    assert "half-written" in listed.stdout and "keep.as=adapter" in listed.stdout
    refused = selfalign("gc", "made", cwd=folder)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (run / "checkpoints/.round-3.partial").exists()

    with Workspace(run).lock():
        busy = selfalign("gc", "--all", "--yes", "--json", cwd=folder)
        assert "left alone" in busy.stderr
        assert json.loads(busy.stdout)[0]["removed"] is False

    done = selfalign("gc", "--all", "--yes", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["removed"]
    assert report["bytes"] > 2_000_000
    assert {item["kind"] for item in report["items"]} == {"half-written", "weights"}

    rows = json.loads(selfalign("checkpoints", "list", "made", "--json", cwd=folder).stdout)
    assert [(row["model"], row["form"]) for row in rows] == [("M1", "adapter"), ("M2", "full")]
    assert rows[0]["note"] == "keep.as=adapter"

    elsewhere = selfalign("checkpoints", "restore", "made", "1", "--as-folder", "m1", "--json", cwd=folder)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert json.loads(elsewhere.stdout) == {"round": 1, "path": "m1", "weights_hash": whole, "exact": True}
    here = selfalign("checkpoints", "restore", "made", "1", cwd=folder)
    assert "exactly as they were trained" in here.stdout
    assert hash_weights(run / "checkpoints/round-1") == whole
    assert "form" in selfalign("checkpoints", "list", "made", cwd=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("gc",), "--all"),
        (("gc", "made", "--all"), "name one run"),
        (("gc", "made", "--older-than", "soon"), "7d"),
        (("gc", "nothing"), "no run here"),
        (("checkpoints", "restore", "made", "7"), "no checkpoint of round 7"),
        (("checkpoints", "restore", "made", "2", "--measure"), "no held-out answers"),
    ],
)
def test_wrong_arguments_are_one_line(folder: Path, arguments: tuple[str, ...], expected: str) -> None:
    done = selfalign(*arguments, cwd=folder)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr

"""The file takes the old one's place whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.errors import BadInput
from selfalign.report import javascript
from selfalign.report.figures import RunFigures
from selfalign.report.write import report_json, write_report
from selfalign.workspace import Workspace


def test_a_report_replaces_the_one_before(made: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("old")
    assert write_report([made], output) == output.stat().st_size > 500_000
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_written_is_named(made: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing/report\.html: cannot be written: .*--output"):
        write_report([made], tmp_path / "missing" / "report.html")


def test_the_data_is_json(figures: RunFigures) -> None:
    (run,) = json.loads(report_json([figures]))
    assert run["label"] == "made"
    assert {"metric": "pass_rate_strict", "round": 3, "n": 10}.items() <= next(
        row for row in run["measured"] if row["metric"] == "pass_rate_strict" and row["round"] == 3
    ).items()
    assert run["examples"][0]["better"]["role"] == "chosen"


def test_the_scripts_are_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "cache"))
    first = javascript.vega_bundle()
    (kept,) = (tmp_path / "cache").iterdir()
    assert "vegaEmbed" in first
    kept.write_text("kept", encoding="utf-8")
    assert javascript.vega_bundle() == "kept"

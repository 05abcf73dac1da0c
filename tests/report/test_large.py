"""A cheap version of tests/benchmarks/report.py: a page holds figures and a few texts, whatever the run's size."""

from __future__ import annotations

from pathlib import Path

from selfalign.report.write import write_report
from tests.checks.synthetic import SAMPLES, make_run


def test_the_page_does_not_hold_the_run(tmp_path: Path) -> None:
    workspace = make_run(tmp_path, 500, text="a word or two " * 40)
    size = write_report([workspace], tmp_path / "report.html")
    assert f"{500 * SAMPLES} rows" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert size < 1_200_000, "of which the plots' scripts are 0.9 MB, and the texts of four pairs most of the rest"

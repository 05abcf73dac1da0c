"""Each plot has rows, a chart of them, or a word on why it is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from selfalign.report.figures import RunFigures
from selfalign.report.plots import Plot, sections
from selfalign.report.reading import read_runs
from selfalign.workspace import Workspace


def plots(runs: list[RunFigures]) -> dict[str, Plot]:
    return {plot.name: plot for part in sections(runs) for plot in part.plots}


def fields(spec: Any) -> Iterator[str]:
    """Every field that a specification draws."""
    if isinstance(spec, dict):
        if isinstance(spec.get("field"), str):
            yield spec["field"]
        for member in spec.values():
            yield from fields(member)
    elif isinstance(spec, list):
        for member in spec:
            yield from fields(member)


def encodings(spec: Any, channel: str) -> list[Any]:
    return [layer["encoding"][channel] for layer in spec["layer"] if channel in layer["encoding"]]


def test_every_plot_is_drawn_or_says_why_not(figures: RunFigures) -> None:
    found = plots([figures])
    assert {plot.name for plot in found.values() if not plot.spec} == {
        "win_rate_vs_m0", "plain_text", "near_duplicates", "judge_drift", "self_judging",
        "reward_margin", "loss", "judge_readable",
    }  # fmt: skip
    for plot in found.values():
        assert bool(plot.spec) == bool(plot.rows) != bool(plot.absent), plot.name


def test_charts_draw_what_their_rows_have(figures: RunFigures) -> None:
    for plot in plots([figures]).values():
        if plot.spec:
            assert plot.spec["data"] == {"name": "rows"}
            missing = set(fields(plot.spec)) - set(plot.rows[0])
            assert not missing, (plot.name, missing)
            assert set(plot.columns) <= set(plot.rows[0]), plot.name


def test_a_curve_has_the_interval_and_an_honest_axis(figures: RunFigures) -> None:
    plot = plots([figures])["pass_rate_strict"]
    assert [(row["round"], round(row["low"], 2), round(row["high"], 2)) for row in plot.rows if not row["branch"]] == [
        (0, 0.2, 0.3), (1, 0.23, 0.33), (2, 0.26, 0.36), (3, 0.29, 0.39),
    ]  # fmt: skip
    assert [end["field"] for end in encodings(plot.spec, "y2")] == ["high"]
    assert {y["scale"]["zero"] for y in encodings(plot.spec, "y") if "scale" in y} == {True}


def test_chance_is_drawn_where_there_is_one(figures: RunFigures) -> None:
    spec = plots([figures])["judge_accuracy"].spec
    assert spec is not None
    assert spec["layer"][0]["encoding"]["y"]["datum"] == 0.5


def test_a_branch_is_a_line_of_its_own(figures: RunFigures) -> None:
    plot = plots([figures])["pass_rate_strict"]
    assert [row["round"] for row in plot.rows if row["line"] == "made, branch b1"] == [2]
    assert encodings(plot.spec, "color")[0]["scale"]["domain"] == ["made", "made, branch b1"]


def test_runs_have_one_colour_on_the_whole_page(made: Workspace, other: Workspace) -> None:
    runs = read_runs([made, other], examples=0)
    found = plots(runs)
    for name in ("pass_rate_strict", "length_by_kind", "displacement", "judge_accuracy"):
        assert encodings(found[name].spec, "color")[0]["scale"]["domain"][:2] == ["made", "other"], name
    # Series of a curve are told apart by their dashes then.
    assert [e["field"] for e in encodings(found["displacement"].spec, "strokeDash")] == ["series"]
    assert {"yield_funnel-1", "yield_funnel-2", "yields-1", "yields-2"} <= found.keys()


def test_bars_show_the_last_rounds_only(other: Workspace) -> None:
    found = plots(read_runs([other], examples=0))
    assert sorted({row["round"] for row in found["yield_funnel"].rows}) == [2, 3, 4, 5]
    assert len({row["round"] for row in found["pass_rate_strict"].rows}) == 6


def test_gold_accuracy_by_kind_is_of_the_runs_judge_a_column_a_model(figures: RunFigures) -> None:
    plot = plots([figures])["judge_by_kind"]
    assert plot.spec is not None
    assert {(row["down"], row["across"], row["judge"]) for row in plot.rows} == {
        (kind, f"M{t}", "weighted") for kind in ("empty", "off topic") for t in range(4)
    }
    x, y = (encodings(plot.spec, channel)[0]["sort"] for channel in "xy")
    assert (x, y) == (["M0", "M1", "M2", "M3"], ["empty", "off topic"])
    assert {color["scale"]["domain"][-1] for color in encodings(plot.spec, "color") if "scale" in color} == {1}


def test_flips_are_a_bar_each_way(figures: RunFigures) -> None:
    plot = plots([figures])["held_out_flips"]
    assert [(row["round"], row["change"], row["n"]) for row in plot.rows][:4] == [
        (1, "gained", 1), (1, "lost", 0), (2, "gained", 0), (2, "lost", 2),
    ]  # fmt: skip


def test_reviews_are_a_table(figures: RunFigures) -> None:
    (table,) = [table for part in sections([figures]) for table in part.tables if table.name == "reviews"]
    assert [(row["round"], row["accepted"], row["changed"]) for row in table.rows] == [
        (1, 1, "M1 (1), M2 (1)"),
        (2, 1, None),
    ]


def test_a_value_that_is_no_number_is_no_point(figures: RunFigures) -> None:
    assert any(found.metric == "judge_drift" and found.value is None for found in figures.measured)
    assert plots([figures])["judge_drift"].spec is None


def test_specifications_are_json_without_rows(figures: RunFigures) -> None:
    for plot in plots([figures]).values():
        assert "datasets" not in json.dumps(plot.spec)

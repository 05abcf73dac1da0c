"""A run that resamples its candidates and pairs neighbours; the queries of docs/resampling.md are asked of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from selfalign.changes import stale_stages
from selfalign.config import load_config
from selfalign.plan import estimate
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.e2e.project import Project

PAGE = (Path(__file__).parent.parent.parent / "docs" / "resampling.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
RESAMPLE = {"id": "rso", "accept": 4, "beta": 0.2}
GENERATE = {
    "candidates": 8, "temperature": 1.0, "top_p": 1.0, "max_tokens": 24, "engine": {"id": "transformers", "max_rows": 6},
}  # fmt: skip


@pytest.fixture(scope="module")
def resampled(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_api: str) -> Project:
    """Two rounds of 6 prompts with 8 candidates, of which 4 are accepted; the samples of a prompt are two batches."""
    project = Project(tmp_path_factory.mktemp("resampled") / "project", tiny_model, prefect_api)
    project.write(resample=RESAMPLE, pair="first_round", generate=GENERATE)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "24 of 48 scored candidates of 6 prompts, acceptance rate 0." in done.stderr
    return project


def test_pairs_are_neighbours_in_the_order_of_acceptance(resampled: Project) -> None:
    rows = resampled.sql("select * from selections")
    assert {row["resampler"] for row in rows} == {"rso"} and len(rows) == 2 * 48
    for round in (1, 2):
        orders: dict[str, list[int]] = {}
        for row in rows:
            if row["round"] == round and row["accepted"]:
                orders.setdefault(row["prompt_id"], []).append(row["accept_order"])
        assert len(orders) == 6 and all(sorted(order) == [0, 1, 2, 3] for order in orders.values())
    pairs = resampled.sql(
        "select p.round, p.margin, least(a.accept_order, b.accept_order) as first, abs(a.accept_order - b.accept_order) as "
        "apart from pairs p join selections a on a.candidate_id = chosen_id join selections b on b.candidate_id = rejected_id"
    )
    assert {row["round"] for row in pairs} == {1, 2}
    assert all(row["first"] % 2 == 0 and row["apart"] == 1 and row["margin"] > 0 for row in pairs)
    # Two matches a prompt: each is a pair, or counted with its reason.
    for stage in resampled.sql("select rows_out, detail from stages where stage = 'pair'"):
        assert stage["rows_out"] + sum(json.loads(stage["detail"]).get("skipped", {}).values()) == 12


def test_the_run_is_whole_and_starting_again_does_nothing(resampled: Project) -> None:
    again = resampled.selfalign("run", "run.yaml")
    assert again.returncode == 0, again.stderr
    assert resampled.sql("select max(attempt) n from stages") == [{"n": 1}]
    verified = resampled.selfalign("verify", "runs/tiny")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_queries_of_the_page(resampled: Project, number: int) -> None:
    rows = resampled.sql(QUERIES[number])
    assert rows
    if "metric" in rows[0]:
        assert len(rows) == 6
        assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 6 for row in rows)
    if "effective_size" in rows[0]:
        assert all(1 <= row["effective_size"] <= 8 + 1e-9 for row in rows)


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("resample.beta=0.3", {"resample", "pair"}),
        ("pair=tournament", {"pair"}),
        # The stage is left out: its rows must not tell of candidates that were refused.
        ("resample=null", {"resample", "pair"}),
        ("execution.approve=true", set()),
    ],
)
def test_what_a_change_concerns(
    resampled: Project, change: str, stale: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(resampled.folder)
    config = load_config(Path("run.yaml"), [change])
    store = Store(resampled.workspace / "store.duckdb")
    found = stale_stages(RunContext(config, Workspace(resampled.workspace), store, Silent()))
    first = [name for round, name in found if round == 1]
    assert {name for name in first if name in ("prompts", "generate", "judge", "resample", "pair")} == stale
    assert ("train" in first) == bool(stale)
    work = estimate(config)
    assert ("resample" in {row["stage"] for row in work["stages"]}) == (config.resample is not None)
    (pairs,) = (row["rows"] for row in work["stages"] if row["stage"] == "pair")
    assert pairs == 6 * {"pair=tournament": 3, "resample=null": 4}.get(change, 2)


def test_a_fork_has_the_selections_of_its_rounds(resampled: Project) -> None:
    done = resampled.selfalign("fork", "runs/tiny", "--round", "1", "forked", "--no-start")
    assert done.returncode == 0, done.stderr
    fork = Project(resampled.folder, resampled.model, resampled.api, name="forked")
    assert fork.sql("select distinct round from selections") == [{"round": 1}]
    assert fork.sql("select distinct round, of_stage from archived_selections") == [
        {"round": 2, "of_stage": "resample"}
    ]
    assert fork.sql("select count(*) n from archived_evaluations where of_stage = 'resample'") == [{"n": 3}]

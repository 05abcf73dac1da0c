"""A run that starts from preference pairs which somebody else made."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from selfalign.config import load_config, validate_config
from selfalign.errors import ConfigError, PromptFileError
from selfalign.export.request import Request, checked
from selfalign.export.run import export
from selfalign.progress import Silent
from selfalign.stages.context import RunContext
from selfalign.stages.preferences import load
from selfalign.store.store import Store, read_sql
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.in_process import run_whole
from tests.e2e.project import HELD_OUT_PROMPTS, Project

GOOD: list[dict[str, Any]] = [
    {"prompt": f"What is {n} plus one?", "chosen": f"It is {n + 1}.", "rejected": "I do not know that.", "score_chosen": 4, "score_rejected": 1.5}
    for n in range(4)
] + [
    {
        "chosen": [{"role": "user", "content": "Greet me."}, {"role": "assistant", "content": "Good morning!"}],
        "rejected": [{"role": "user", "content": "Greet me."}, {"role": "assistant", "content": "Go away, please."}],
    }
]  # fmt: skip
BAD: dict[str, dict[str, Any]] = {
    "empty_answer": {"prompt": "a", "chosen": " ", "rejected": "b"},
    "same_answers": {"prompt": "a", "chosen": "It is so.", "rejected": "it is so"},
    "scores_contradict": {"prompt": "a", "chosen": "x", "rejected": "y", "chosen_score": 1, "rejected_score": 2},
    "repeated": {**GOOD[0], "chosen": GOOD[0]["rejected"], "rejected": GOOD[0]["chosen"], "score_chosen": 9},
    "not_a_pair": {"prompt": "a", "completion": "x"},
    "held_out": {"prompt": HELD_OUT_PROMPTS[0]["text"] + " Thanks", "chosen": "x", "rejected": "y"},
    "several_turns": {
        "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        "chosen": "x", "rejected": "y",
    },
    "other_system_prompt": {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}], "chosen": "x", "rejected": "y"},
    "too_long": {"prompt": "a", "chosen": "x" * 2000, "rejected": "y"},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    project = Project(tmp_path_factory.mktemp("preferences") / "project", tiny_model, None)
    config = project.write(
        preferences=["given.jsonl"], policy={"data": ["this", "all"]},
        train={"id": "dpo", "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4, "epochs": 1}, 
        evaluate={"log_ratio": False, "metrics": ["length"]},
    )  # fmt: skip
    lines = [json.dumps(row) for row in [*GOOD, *BAD.values()]]
    (project.folder / "given.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with contextlib.chdir(project.folder):
        workspace = run_whole(load_config(config))
    return Workspace(project.folder / workspace.path)


def sql(run: Workspace, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_sql(run.store_path, query).to_pylist()
    return found


def test_pairs_are_rows_of_round_0_and_what_is_refused_is_counted(run: Workspace) -> None:
    pairs = sql(run, "select * from pair_text where round = 0 order by prompt")
    assert [(p["prompt"], p["chosen"], p["rejected"]) for p in pairs] == [
        ("Greet me.", "Good morning!", "Go away, please."),
        *((row["prompt"], row["chosen"], row["rejected"]) for row in GOOD[:4]),
    ]
    assert [p["margin"] for p in pairs] == [1.0, 2.5, 2.5, 2.5, 2.5]
    refused = sql(run, "select message, (detail::json ->> 'rows')::int as n from events where kind = 'not_imported'")
    assert {row["message"]: row["n"] for row in refused} == dict.fromkeys(BAD, 1)


def test_nobody_knows_which_weights_wrote_them(run: Workspace) -> None:
    found = sql(
        run,
        "select distinct weights_hash, origin, engine, isnan(logprob) as nan from candidates where round = 0 and split = 'train'",
    )
    assert found == [{"weights_hash": "imported:given.jsonl", "origin": "imported", "engine": "imported", "nan": True}]


def test_they_train_the_rounds_whose_policy_takes_them(run: Workspace) -> None:
    taken = sql(run, "select round, count(*) as n from trained_on where from_round = 0 group by round")
    assert taken == [{"round": 2, "n": len(GOOD)}]
    lines = sql(
        run,
        "select round, trained_round, weights_hash, checkpoint_id from lineage where round = 0 and trained_round is not null",
    )
    assert len(lines) == 2 * len(GOOD)
    assert {(row["trained_round"], row["weights_hash"]) for row in lines} == {(2, "imported:given.jsonl")}
    assert all(row["checkpoint_id"] for row in lines)


def test_the_run_is_whole(run: Workspace) -> None:
    with contextlib.chdir(run.path.parent.parent):
        assert verify(run).findings == ()
    store = Store(run.store_path)
    try:
        with store.write() as transaction:
            transaction.execute(
                "UPDATE candidates SET weights_hash = 'w', digest = NULL WHERE round = 0 AND split = 'train'"
            )
            findings = {finding.check for finding in verify(run, hashes=False).findings}
            assert "not_imported" in findings
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def test_they_are_exported_with_where_they_come_from(run: Workspace, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    export(run, checked(Request("pairs", tmp_path / "p.parquet", rounds=(0,))))
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(rows) == len(GOOD)
    assert {(row["chosen_weights_hash"], tuple(row["trained_rounds"]), row["judge"]) for row in rows} == {
        ("imported:given.jsonl", (2,), "imported")
    }


def test_the_same_pairs_from_parquet_and_from_a_folder(run: Workspace, tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_list(GOOD[:4])
    data.to_parquet(tmp_path / "given.parquet")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "given")
    config = run.load_config()
    expected = [(row["prompt"], row["chosen"]) for row in GOOD[:4]]
    for name in ("given.parquet", "given"):
        asked = config.model_copy(update={"preferences": [str(tmp_path / name)]})
        with contextlib.chdir(run.path.parent.parent):
            found, refused = load(RunContext(asked, run, Store(run.store_path), Silent()))
        assert [(pair.prompt, pair.chosen) for _, pair in found] == expected and not refused


def test_what_cannot_be_used_at_all_is_refused_before_the_start(run: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(BAD["same_answers"]) + "\n")
    config = run.load_config().model_copy(update={"preferences": [str(path)]})
    with (
        contextlib.chdir(run.path.parent.parent),
        pytest.raises(PromptFileError, match=r"no usable pair in .*\(1 same_answers\)"),
    ):
        load(RunContext(config, run, Store(run.store_path), Silent()))
    with pytest.raises(ConfigError, match="no round trains on them"):
        validate_config({"name": "x", "preferences": ["a.jsonl"]}, "t")

"""What a user can get wrong: one line, the right exit code, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project
from tests.tiny_model import make_tiny_model


@pytest.fixture
def offline(tmp_path: Path, tiny_model: Path) -> Project:
    """For errors that come before Prefect is needed."""
    return Project(tmp_path / "project", tiny_model, None)


def refused(project: Project, *arguments: str, code: int = 2) -> str:
    done = project.selfalign(*arguments)
    assert done.returncode == code, done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "./nowhere"}, "nowhere"),
        ({"genrate": {}}, "did you mean 'generate'?"),
        ({"rounds": -2}, "rounds"),
        ({"generate": {"candidates": 3, "max_tokens": -1}}, "generate.max_tokens"),
        ({"judge": {"id": "rubric_votes", "rubric": "judges/none"}}, "judges/none"),
        (
            {
                "evaluate": {
                    "win_rate": {
                        "judge": {
                            "id": "openai",
                            "base_url": "http://127.0.0.1:9/v1",
                            "model": "m",
                            "api_key_env": "SELFALIGN_NO_KEY",
                        }
                    }
                }
            },
            "variable SELFALIGN_NO_KEY is not set",
        ),
        ({"generate": {"max_tokens": 1000}}, "exceeds the model's window"),
        ({"prompts": {"sources": [{"id": "jsonl", "path": "missing.jsonl"}]}}, "missing.jsonl"),
    ],
)
def test_a_config_that_cannot_run_leaves_nothing_behind(
    offline: Project, changes: dict[str, Any], expected: str
) -> None:
    offline.write(**changes)
    assert expected in refused(offline, "run", "run.yaml")
    assert not offline.workspace.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "train.jsonl"),
        ('{"text": "fine"}\n{"text": ', "train.jsonl:2"),
        ('{"txet": "fine"}', "train.jsonl:1"),
        ('{"text": "x", "instruction_id_list": ["no:such"], "kwargs": [{}]}', "no:such"),
        (
            '{"text": "fine"}\n{"text": "x", "instruction_id_list": ["length_constraints:number_words"], '
            '"kwargs": [{"num_words": "many", "relation": "at least"}]}',
            "train.jsonl:2: length_constraints:number_words",
        ),
        ("\udcff", "UTF-8"),
    ],
    ids=["empty", "cut", "no text", "unknown constraint", "unusable arguments", "not UTF-8"],
)
def test_a_wrong_prompt_file_is_named_with_its_line(offline: Project, text: str, expected: str) -> None:
    offline.write()
    (offline.folder / "train.jsonl").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    assert expected in refused(offline, "run", "run.yaml")


def test_a_training_prompt_that_repeats_a_held_out_one_is_refused(offline: Project) -> None:
    offline.write()
    with (offline.folder / "train.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"text": "Describe a river and do not write any comma at all, please!"}))
    assert "repeat held-out ones" in refused(offline, "run", "run.yaml")


def test_a_prompt_longer_than_the_window_is_named(offline: Project) -> None:
    offline.write()
    (offline.folder / "train.jsonl").write_text(json.dumps({"text": "word " * 400}))
    assert "'word word" in refused(offline, "run", "run.yaml")


def test_a_store_from_a_newer_version_is_refused_and_kept(offline: Project) -> None:
    import duckdb

    from selfalign.store.store import Store

    offline.write()
    offline.workspace.mkdir(parents=True)
    store = offline.workspace / "store.duckdb"
    Store(store).create()
    with duckdb.connect(str(store)) as connection:
        connection.execute("insert into schema_version (version) values (99)")
    before = store.read_bytes()
    assert "99" in refused(offline, "run", "run.yaml")
    assert store.read_bytes() == before


def test_a_file_that_is_no_store_is_refused_and_kept(offline: Project) -> None:
    offline.write()
    offline.workspace.mkdir(parents=True)
    (offline.workspace / "store.duckdb").write_bytes(b"these are my notes\n" * 100)
    refused(offline, "run", "run.yaml")
    assert (offline.workspace / "store.duckdb").read_bytes() == b"these are my notes\n" * 100


def test_sql_cannot_write_and_says_what_is_wrong(offline: Project) -> None:
    from selfalign.store.store import Store

    offline.workspace.mkdir(parents=True)
    Store(offline.workspace / "store.duckdb").create()
    refused(offline, "sql", "runs/tiny", "delete from pairs")
    assert "no_such" in refused(offline, "sql", "runs/tiny", "select * from no_such")
    assert "no run here" in refused(offline, "sql", "runs/other", "select 1")


def test_a_judge_whose_every_answer_is_nonsense_stops_the_run(project: Project) -> None:
    project.write(judge={"id": "rubric_votes", "max_tokens": 12, "votes": 2, "min_valid_votes": 1}, rounds=1)
    message = refused(project, "run", "run.yaml")
    assert "valid" in message
    kept = project.sql("select count(*) n, count(score) scored from judgements where judge = 'rubric_votes'")[0]
    assert kept["n"] > 0, "raw judgements are kept"
    assert kept["scored"] == 0
    assert project.sql("select count(*) n from checkpoints") == [{"n": 0}]
    assert project.sql("select status from stages where stage = 'judge'") == [{"status": "empty"}]


def test_a_model_without_weights_or_with_pickles_only(offline: Project, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "broken")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    offline.write(model=str(folder))
    assert "safetensors" in refused(offline, "run", "run.yaml")

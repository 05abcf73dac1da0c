from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfalign.disk import retention
from selfalign.disk.cleanup import Item, Options, find, remove
from selfalign.space import folder_bytes
from selfalign.stages.context import RunContext
from selfalign.types import Event
from tests.trained_rounds import context_of, make_rounds


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rounds(tmp_path_factory.mktemp("made") / "run", tiny_model, rounds=2)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def write(path: Path, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def named(items: Sequence[Item]) -> dict[str, str]:
    return {item.name: item.kind for item in items}


def removed(context: RunContext, options: Options = Options()) -> int:  # noqa: B008
    return sum(n_bytes for _, n_bytes in remove(context, find(context, options)))


def test_a_tidy_run_has_nothing_to_give(run: Path) -> None:
    assert find(context_of(run), Options()) == []


def test_leftovers_of_kills_go_and_their_bytes_are_counted(run: Path) -> None:
    context = context_of(run)
    before = folder_bytes(run)
    write(run / "checkpoints/.round-3.partial/model.safetensors", 5000)
    write(run / "checkpoints/round-2/.bitdelta.partial/bitdelta.safetensors", 300)
    write(run / "checkpoints/round-1.replaced-1/model.safetensors", 4000)
    write(run / ".config.yaml.4711", 20)
    write(run / ".store.duckdb.1f3a5b7c", 700)
    assert named(find(context, Options())) == {
        "checkpoints/.round-3.partial": "half-written",
        "checkpoints/round-2/.bitdelta.partial": "half-written",
        ".config.yaml.4711": "half-written",
        ".store.duckdb.1f3a5b7c": "half-written",
        "checkpoints/round-1.replaced-1": "replaced",
    }
    assert removed(context) == 5000 + 300 + 4000 + 20 + 700
    assert folder_bytes(run) == before
    assert find(context, Options()) == []


def test_scratch_goes_only_once_its_stage_is_done(run: Path) -> None:
    context = context_of(run)
    for stage in ("generate", "train"):
        write(run / f".selfalign/jobs/round-2-{stage}-0123abcd/scratch/checkpoints/checkpoint-1/optimizer.pt")
        context.store.start_stage(2, stage, "0123abcdef")
    write(run / ".selfalign/jobs/somebody-elses/file")
    context.store.finish_stage(2, "train", "0123abcdef", rows_in=1, rows_out=1)
    assert named(find(context, Options())) == {".selfalign/jobs/round-2-train-0123abcd": "job"}
    removed(context)
    assert (run / ".selfalign/jobs/round-2-generate-0123abcd/scratch").exists()


def test_logs_and_prefects_history_go_by_age(run: Path) -> None:
    context = context_of(run)
    old = time.time() - 3 * 86400
    for path in ("logs/round-1-train.log", ".selfalign/prefect/prefect.db", ".selfalign/prefect/storage/x"):
        os.utime(write(run / path), (old, old))
    write(run / "logs/round-2-train.log")
    assert find(context, Options()) == []
    found = named(find(context, Options(older_than=86400)))
    assert found == {"1 files in logs": "log", ".selfalign/prefect": "prefect"}
    write(run / ".selfalign/prefect/prefect.db")
    assert ".selfalign/prefect" not in named(find(context, Options(older_than=86400))), "the server wrote just now"
    removed(context, Options(older_than=86400))
    assert [path.name for path in (run / "logs").iterdir()] == ["round-2-train.log"]


def test_weights_go_as_the_policy_says_and_only_then(run: Path) -> None:
    assert find(context_of(run), Options()) == []
    context = context_of(run, checkpoints="last", last=1)
    items = find(context, Options())
    assert [(item.kind, item.name) for item in items] == [("weights", "M1")]
    before = folder_bytes(run / "checkpoints/round-1")
    freed = removed(context)
    after = folder_bytes(run / "checkpoints/round-1")
    assert before * 0.9 < items[0].n_bytes
    assert freed == before - after
    assert find(context, Options()) == []


def test_weights_that_a_kill_left_behind_are_finished(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(run, checkpoints="last", last=1)
    monkeypatch.setattr(retention, "_drop", lambda folder, record: None)
    retention.apply_retention(context, 2)
    monkeypatch.undo()
    items = find(context, Options())
    assert [item.name for item in items] == ["M1"]
    assert "a kill left them behind" in items[0].why
    assert removed(context) > 0
    assert not list((run / "checkpoints/round-1").glob("*.safetensors"))


@pytest.fixture
def branched(run: Path) -> Path:
    """Round 2 was set aside as branch `old`, with many events and a folder of its own; M1 is shared by both."""
    context = context_of(run)
    shutil.copytree(run / "checkpoints/round-2", run / "checkpoints/round-2-0123abcd")
    context.store.insert([Event(f"e{i}", 2, "x", "note", None, "word " * 300, "{}") for i in range(4000)])
    with context.store.write() as transaction:
        transaction.execute("insert into branches values ('old', now(), 2, 'train', 'resume', 'resumed', '{}')")
        transaction.execute("insert into archived_events select 'old', 'train', * from events")
        transaction.execute("delete from events")
        transaction.execute("insert into archived_checkpoints select 'old', 'train', * from checkpoints")
        transaction.execute("update archived_checkpoints set path = 'checkpoints/round-2-0123abcd' where round = 2")
    return run


def count(context: RunContext, table: str) -> Any:
    return context.store.query(f"select count(*) n from {table}").to_pylist()[0]["n"]


def test_branches_go_only_when_asked_with_their_own_folders(branched: Path) -> None:
    context = context_of(branched)
    assert not any(item.kind == "branch" for item in find(context, Options()))
    size = context.workspace.store_path.stat().st_size
    items = find(context, Options(branches=True))
    assert [(item.kind, item.name) for item in items if item.kind == "branch"] == [("branch", "old")]
    done = list(remove(context, items))
    assert {item.kind for item, _ in done} == {"branch", "store"}
    assert not (branched / "checkpoints/round-2-0123abcd").exists()
    assert (branched / "checkpoints/round-1/model.safetensors").exists(), "the present history names it"
    assert [count(context, t) for t in ("branches", "archived_events", "archived_checkpoints")] == [0, 0, 0]
    assert count(context, "checkpoints") == 2
    assert context.workspace.store_path.stat().st_size < size, "the file itself has shrunk"


def test_a_branch_that_another_run_was_forked_from_keeps_its_weights(branched: Path) -> None:
    write(branched / ".selfalign/forks/child.json").write_text('{"round": 2}')
    context = context_of(branched)
    list(remove(context, find(context, Options(branches=True))))
    assert (branched / "checkpoints/round-2-0123abcd").exists()

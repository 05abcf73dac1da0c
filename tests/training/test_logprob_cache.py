from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfalign.training import logprob_cache
from selfalign.types import TokenSequence

SEQUENCES = [TokenSequence((1, 2), (3,)), TokenSequence((1,), (2, 3))]


def test_a_key_is_of_weights_and_of_where_the_completion_begins() -> None:
    moved = [TokenSequence((1, 2, 3), ()), TokenSequence((1,), (2, 3))]
    keys = {logprob_cache.key(*of) for of in (("w", SEQUENCES), ("v", SEQUENCES), ("w", SEQUENCES[::-1]), ("w", moved))}
    assert len(keys) == 4 and logprob_cache.key("w", list(SEQUENCES)) in keys


def test_every_bit_comes_back(tmp_path: Path) -> None:
    values = [-0.1, -1 / 3, -1e-300, -123456.789012345]
    logprob_cache.write(tmp_path / "new", "k", values)
    assert logprob_cache.read(tmp_path / "new", "k", 4) == values
    assert logprob_cache.read(tmp_path / "new", "k", 3) is None
    assert logprob_cache.read(tmp_path / "new", "other", 4) is None


def test_the_least_recently_used_go_first_and_the_newest_stays(tmp_path: Path) -> None:
    for age, name in enumerate(("c", "b", "a")):
        logprob_cache.write(tmp_path, name, [-1.0])
        os.utime(tmp_path / f"logprobs-{name}.json", (1000 - age, 1000 - age))
    assert logprob_cache.read(tmp_path, "a", 1) == [-1.0]  # the oldest, but now used
    size = (tmp_path / "logprobs-a.json").stat().st_size
    logprob_cache.write(tmp_path, "d", [-1.0], max_bytes=2 * size)
    assert {p.name for p in tmp_path.iterdir()} == {"logprobs-a.json", "logprobs-d.json"}
    logprob_cache.write(tmp_path, "e", [-1.0] * 100, max_bytes=1)
    assert {p.name for p in tmp_path.iterdir()} == {"logprobs-e.json"}


@pytest.mark.parametrize("torn", ["", '{"log_probs": [-1.0', '{"log_probs": ["x"]}', "[]", "\udcff"])
def test_what_a_power_cut_left_is_not_read(tmp_path: Path, torn: str) -> None:
    (tmp_path / "logprobs-k.json").write_bytes(torn.encode("utf-8", "surrogateescape"))
    assert logprob_cache.read(tmp_path, "k", 1) is None


def test_what_a_kill_left_aside_goes_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".logprobs-k.json.4711").write_text("half")
    logprob_cache.write(tmp_path, "k", [-1.0])
    assert [p.name for p in tmp_path.iterdir()] == ["logprobs-k.json"]


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    logprob_cache.write(tmp_path / "file", "k", [-1.0])
    assert logprob_cache.read(tmp_path / "file", "k", 1) is None

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from selfalign.errors import BadInput, DiskFull, StageFailed
from selfalign.space import folder_bytes, full_disk_explained, is_disk_full, shown

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file data/0"),
    Exception("TransactionContext Error: Failed to commit: Could not write file: No space left on device"),
]


@pytest.mark.parametrize("error", FULL)
def test_every_library_says_it_differently(tmp_path: Path, error: Exception) -> None:
    assert is_disk_full(error)
    with pytest.raises(DiskFull, match=r"the disk is full .* free") as told, full_disk_explained(tmp_path):
        raise ValueError("a consequence") from error
    assert told.value.exit_code == 1
    assert "\n" not in str(told.value)


def test_the_file_is_named_where_it_is_known(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="half-written"), full_disk_explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "half-written"))


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (ValueError("else"), BadInput("x"), StageFailed("y"), OSError(errno.EACCES, "Permission denied")):
        with pytest.raises(type(error)) as raised, full_disk_explained(tmp_path):
            raise error
        assert raised.value is error


def test_an_unexplained_failure_on_a_disk_with_nothing_left_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfalign import space

    monkeypatch.setattr(space, "free_bytes", lambda path: 4096)
    with pytest.raises(DiskFull), full_disk_explained(tmp_path):
        raise RuntimeError("Server error '500 Internal Server Error'")
    with pytest.raises(StageFailed, match="judge"), full_disk_explained(tmp_path):
        raise StageFailed("a reason of its own: the judge")


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(1000))
    (tmp_path / "c").write_bytes(bytes(24))
    assert folder_bytes(tmp_path) == 1024
    assert folder_bytes(tmp_path / "c") == 24
    assert folder_bytes(tmp_path / "nothing") == 0
    assert [shown(n) for n in (12, 1500, 538e6, 1.1e9, 2.5e12)] == ["12 B", "1.5 kB", "538 MB", "1.1 GB", "2.5 TB"]

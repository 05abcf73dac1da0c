"""A run's folder: where things are, who holds it, and which processes a killed run left behind.

runs/<name>/
  store.duckdb          every row
  config.yaml           the validated config, defaults included
  prompts/              optional: prompt files here win over the shipped ones
  reviews.jsonl         optional: what people said of pairs (reviews.py); only ever added to
  checkpoints/round-1/  M_1 ... as plain Hugging Face folders; the table `checkpoints` says which is current
  references/           averages of these, where a round's loss is compared with one; made again where they are missing
  logs/                 one file a stage
  report.html           the newest report
  .selfalign/           lock, process records, jobs under way, Prefect's own data
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import psutil
import yaml

from selfalign.config import RunConfig, load_config
from selfalign.durable import read_object, write_atomic
from selfalign.errors import ConfigError, StageFailed, StoreError, WorkspaceBusy
from selfalign.identity import hash_weights

#: Inside a published checkpoint: what made it. Written last, so a folder that has it is complete.
MANIFEST = "selfalign.json"
#: What a process record may be, so that a reused pid is never killed for another's sins.
_START_TOLERANCE_S = 2.0


class Workspace:
    """Paths of a run. Creates nothing until :meth:`create`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store_path = path / "store.duckdb"
        self.config_path = path / "config.yaml"
        self.prompts = path / "prompts"
        self.reviews = path / "reviews.jsonl"
        self.checkpoints = path / "checkpoints"
        self.references = path / "references"
        self.logs = path / "logs"
        self.report = path / "report.html"
        self.state = path / ".selfalign"
        self.jobs = self.state / "jobs"
        self.prefect = self.state / "prefect"
        self._lock_path = self.state / "lock"
        self._processes_path = self.state / "processes.json"
        #: Inode of the lock file while this object holds it.
        self._held: int | None = None

    @classmethod
    def existing(cls, path: Path) -> Workspace:
        """The workspace at ``path``, or the run of that name under runs/.

        Raises:
            StoreError: there is none.
        """
        for candidate in (path, Path("runs") / path):
            if (candidate / "store.duckdb").is_file():
                return cls(candidate)
        raise StoreError(f"{path}: no run here (no store.duckdb); 'selfalign run CONFIG' makes one")

    def create(self) -> None:
        """Make the folders that are not there.

        Raises:
            ConfigError: one of them is a file.
            StageFailed: they cannot be made.
        """
        try:
            for folder in (self.path, self.checkpoints, self.logs, self.jobs, self.prefect):
                folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ConfigError(f"workspace {self.path}: {error.filename} is a file, not a folder") from None
        except OSError as error:
            raise StageFailed(f"workspace {self.path}: cannot be created: {error.strerror}") from None

    def checkpoint_folder(self, round: int, fingerprint: str) -> Path:
        """Where the training with ``fingerprint`` publishes M_round: round-N, unless that is another training's."""
        folder = self.checkpoints / f"round-{round}"
        if not folder.exists() or made_by(folder) == fingerprint:
            return folder
        return folder.with_name(f"{folder.name}-{fingerprint[:8]}")

    def job_folder(self, round: int, stage: str, fingerprint: str) -> Path:
        """Where a stage and its process hand rows to one another (stages/jobs.py)."""
        return self.jobs / f"round-{round}-{stage}-{fingerprint[:8]}"

    def job_folders(self, round: int, stage: str) -> list[Path]:
        """Folders of a stage's jobs that are there, whatever their fingerprint."""
        return list(self.jobs.glob(f"round-{round}-{stage}-*"))

    def stage_log(self, job: Path) -> Path:
        """Log file of a job: one a round and stage, whatever its settings."""
        return self.logs / f"{job.name.rpartition('-')[0]}.log"

    def save_config(self, config: RunConfig) -> None:
        """Keep a copy of the validated config, defaults included."""
        text = "# Written by 'selfalign run'; edit your own file, not this copy.\n"
        text += yaml.safe_dump(config.snapshot(), sort_keys=False, allow_unicode=True)
        write_atomic(self.config_path, text)

    def load_config(self, overrides: list[str] | None = None) -> RunConfig:
        """The config that the run was last started with, in the folder where it lies now.

        Raises:
            ConfigError: the copy is gone or damaged.
        """
        config = load_config(self.config_path, overrides)
        return (
            config if config.workspace_path() == self.path else config.model_copy(update={"workspace": str(self.path)})
        )

    def weights_hash(self, folder: Path) -> str:
        """As identity.hash_weights; remembered while no weights file changes its size, time or inode.

        Only for looking things up: a stage that loads weights hashes what it loads.
        """
        state = [
            [path.name, status.st_size, status.st_mtime_ns, status.st_ino]
            for path in sorted(folder.glob("*.safetensors"))
            for status in [path.stat()]
        ]
        key = str(folder.resolve())
        remembered = self.recall("weights")
        known = remembered.get(key)
        if not known or not state or known["state"] != state:
            known = {"state": state, "hash": hash_weights(folder)}
            self.remember("weights", {**remembered, key: known})
        return str(known["hash"])

    def recall(self, name: str) -> dict[str, Any]:
        """What :meth:`remember` kept; empty where there is nothing, or nothing readable."""
        return read_object(self.state / f"{name}.json")

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Keep something that can be found out again at any time; a full disk is no reason to stop."""
        if self.state.is_dir():
            with contextlib.suppress(OSError):
                write_atomic(self.state / f"{name}.json", json.dumps(value))

    # -- one run at a time ------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace; the kernel frees the lock when the process dies, however it dies.

        Raises:
            WorkspaceBusy: another process holds it; the message names it.
        """
        import fcntl

        self.state.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a+") as handle:
            if not _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise WorkspaceBusy(f"{self.path}: already running ({holder}); wait for it, or stop it and run again")
            handle.truncate(0)
            handle.write(f"pid {os.getpid()}")
            handle.flush()
            self._held = os.fstat(handle.fileno()).st_ino
            try:
                yield
            finally:
                self._held = None

    def check_held(self) -> None:
        """Make sure that the lock we hold is still the one that others would ask for.

        Raises:
            StageFailed: its file was removed or replaced (somebody cleaned up, a network file system came back
                without its locks): from here on another run may write to this workspace.
        """
        if self._held is None:
            return
        try:
            same = self._lock_path.stat().st_ino == self._held
        except OSError:
            same = False
        if not same:
            raise StageFailed(
                f"{self._lock_path}: this run's lock was removed or replaced while it ran, so another may have started; "
                f"nothing was written after that; see that no other run is at work here, then run again"
            )

    def holder(self) -> int | None:
        """Pid of the process that holds the workspace now, or None."""
        import fcntl

        try:
            with self._lock_path.open() as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return int(handle.read().split()[-1])
        except (FileNotFoundError, ValueError, IndexError):
            pass
        return None

    # -- processes that outlive a kill -9 -----------------------------------------------------------

    def record_process(self, pid: int, what: str) -> None:
        """Remember a child by pid and start time, so that a later start can end it if it was orphaned."""
        with contextlib.suppress(psutil.Error):
            records = [r for r in self._process_records() if r["pid"] != pid]
            records.append({"pid": pid, "started": psutil.Process(pid).create_time(), "what": what})
            write_atomic(self._processes_path, json.dumps(records))

    def reap(self) -> list[str]:
        """End recorded processes that are still alive; returns what they were. Call with the lock held."""
        ended = []
        for record in self._process_records():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(record["pid"])
                if abs(process.create_time() - record["started"]) > _START_TOLERANCE_S:
                    continue  # the pid belongs to somebody else by now
                for member in [*process.children(recursive=True), process]:
                    with contextlib.suppress(psutil.Error):
                        member.send_signal(signal.SIGKILL)
                process.wait(10)
                ended.append(f"{record['what']} (pid {record['pid']})")
        self._processes_path.unlink(missing_ok=True)
        return ended

    def _process_records(self) -> list[dict[str, Any]]:
        try:
            records = json.loads(self._processes_path.read_text())
        except (FileNotFoundError, ValueError):
            return []
        return [r for r in records if isinstance(r, dict) and {"pid", "started", "what"} <= set(r)]


def made_by(checkpoint: Path) -> str | None:
    """Fingerprint of the training that published the folder ``checkpoint``; None if it does not say."""
    try:
        fingerprint: str | None = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint


def _locked(handle: TextIO, mode: int) -> bool:
    """Try for a moment: somebody who asks for the holder has the lock for an instant."""
    import fcntl

    for _ in range(5):
        try:
            fcntl.flock(handle, mode)
            return True
        except OSError:
            time.sleep(0.05)
    return False

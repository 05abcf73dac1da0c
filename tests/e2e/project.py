"""A project on disk with the tiny model, and ways to run it; for every test that needs a whole run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.e2e import warm

TRAIN_PROMPTS = [
    {
        "text": f"Say something short about number {i}, with the letter e in it.",
        "instruction_id_list": ["keywords:letter_frequency"],
        "kwargs": [{"letter": "e", "let_frequency": 1, "let_relation": "at least"}],
    }
    for i in range(12)
]
HELD_OUT_PROMPTS = [
    {
        "text": f"Describe {thing} and do not write any comma at all please.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    }
    for thing in ("a river", "the moon", "old bread", "seven cats", "my left shoe", "the sea", "winter", "a red door")
]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server on loopback, with its data in ``home``; gives its API's address."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_MEMO_STORE_PATH": str(home / "memo.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.5)
        else:
            raise RuntimeError(f"Prefect's server did not start: {(home / 'server.log').read_text()[-2000:]}")
        yield url
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]:
            process.kill()
        server.wait()


def ask(api: str, path: str, body: Any = None) -> Any:
    """Prefect's answer to a POST of ``body``."""
    data = json.dumps(body or {}).encode()
    request = urllib.request.Request(f"{api}/{path}", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


#: Value of a key that a config is to be written without.
LEFT_OUT = object()


@dataclass
class Project:
    """A folder with a config, prompts and the tiny model, and ways to run it."""

    folder: Path
    model: Path
    api: str | None
    name: str = "tiny"
    #: Environment variables of its runs, on top of our own.
    extra: dict[str, str] = field(default_factory=dict)

    def write(self, **changes: Any) -> Path:
        """Write the config with ``changes``; a key that is LEFT_OUT is not written: the program's default holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, prompts in (("train.jsonl", TRAIN_PROMPTS), ("held.jsonl", HELD_OUT_PROMPTS)):
            if not (self.folder / name).exists():
                (self.folder / name).write_text("\n".join(json.dumps(p) for p in prompts), encoding="utf-8")
        config = {
            "name": "tiny",
            "seed": 3,
            "rounds": 2,
            "model": str(self.model),
            "prompts": {
                "per_round": 6,
                "sources": [{"id": "jsonl", "path": "train.jsonl"}],
                "held_out": [{"id": "jsonl", "path": "held.jsonl"}],
            },
            "generate": {
                "candidates": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 24,
                "engine": {"id": "transformers", "max_rows": 6},
            },
            "judge": {
                "id": "weighted",
                "members": [{"id": "verifier", "weight": 1.0}, {"id": "rubric_logits", "weight": 0.5}],
            },
            "train": {"id": "dpo", "learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 2, "epochs": 2,
                      "save_every": 2},
            "calibrate": {"enabled": "never"},
            # Figures of a tiny model are noise; tests of gates set their own.
            "gates": [],
            # A stage that a test kills must stop the run, not be tried again. A report takes seconds.
            "execution": {"retries": 0, "report": False},
        }  # fmt: skip
        config.update(changes)
        path = self.folder / "run.yaml"
        given = {key: value for key, value in config.items() if value is not LEFT_OUT}
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        return path

    @property
    def workspace(self) -> Path:
        return self.folder / "runs" / self.name

    def environment(self) -> dict[str, str]:
        server = {"PREFECT_API_URL": self.api} if self.api else {}
        trace = {"SELFALIGN_TRACE": str(self.folder / "trace.log")}
        return {**os.environ, **warm.environment(), **server, **trace, **self.extra, "COLUMNS": "200"}

    def selfalign(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "selfalign", *arguments], cwd=self.folder, env=self.environment(),
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "start.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "selfalign", *arguments], cwd=self.folder, env=self.environment(),
                stdout=log, stderr=log, start_new_session=True,
                # A shell starts background jobs with SIGINT ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
            )  # fmt: skip

    def sql(self, query: str) -> list[dict[str, Any]]:
        from selfalign.store.store import read_sql

        rows: list[dict[str, Any]] = read_sql(self.workspace / "store.duckdb", query).to_pylist()
        return rows

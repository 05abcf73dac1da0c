from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from selfalign.workspace import Workspace
from tests.export.made import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_run(tmp_path_factory.mktemp("cli") / "made")


def selfalign(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-m", "selfalign", *map(str, arguments)], capture_output=True, text=True,
        env={**clean, "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload asks for; remembers what it was told."""

    told: list[tuple[str, bytes, str | None]]

    def do_GET(self) -> None:
        self._answer({"name": "me", "type": "user", "auth": {}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        type(self).told.append((self.path, body, self.headers["Authorization"]))
        if self.path == "/api/repos/create":
            self._answer({"url": f"http://{self.headers['Host']}/datasets/me/made", "name": "me/made"})
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        else:
            self._answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/datasets/me/made/commit/{'1' * 40}",
                    "commitOid": "1" * 40,
                }
            )

    def _answer(self, found: object) -> None:
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.told = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_it_says_what_it_wrote(run: Workspace, tmp_path: Path) -> None:
    done = selfalign("export", run.path, "pairs", "--output", tmp_path / "out", "--split", "0.4", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["rows"] == 12 and set(said["splits"]) == {"train", "test"}
    assert Path(said["card"]).is_file() and said["columns"][:3] == ["prompt", "chosen", "rejected"]
    plain = selfalign("export", run.path, "sft")
    assert "14 rows of 8 prompts (train 14)" in plain.stdout
    assert (run.path / "exports" / "sft-parquet" / "README.md").is_file()


def test_nothing_to_export_is_exit_code_2(run: Workspace, tmp_path: Path) -> None:
    done = selfalign("export", run.path, "pairs", "--rounds", "9", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "nothing to export" in done.stderr and done.stderr.count("\n") == 1


def test_a_push_is_private_and_keeps_the_benchmarks_back(run: Workspace, tmp_path: Path, hub: str) -> None:
    benchmark = tmp_path / "bench.txt"
    benchmark.write_text("Say something about number 3.\n")
    done = selfalign(
        "export", run.path, "pairs", "--output", tmp_path / "out", "--decontaminate", benchmark, "--ngram", 5,
        "--push", "me/made", HF_ENDPOINT=hub, HF_TOKEN="hf_x", HF_HUB_DISABLE_XET="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pushed to" in done.stdout and "left out: 2 rows" in done.stdout
    made, *_, commit = Hub.told
    wanted = json.loads(made[1])
    assert (wanted["name"], wanted["organization"], wanted["type"]) == ("made", "me", "dataset")
    assert wanted["visibility"] == "private"
    assert {told[2] for told in Hub.told} == {"Bearer hf_x"}
    lines = [json.loads(line) for line in commit[1].splitlines()]
    files = {line["value"]["path"] for line in lines if line["key"] == "file"}
    assert files == {"README.md", "selfalign_export.json", "data/train-00000-of-00001.parquet"}
    assert (tmp_path / "out" / "contamination.jsonl").is_file()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "no token"),
        ({"HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_a_push_that_cannot_be_is_refused_before_any_work(
    run: Workspace, tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    home = {"HF_HOME": str(tmp_path / "hf")}
    done = selfalign("export", run.path, "pairs", "--output", tmp_path / "out", "--push", "me/x", **home, **environment)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()

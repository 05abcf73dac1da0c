"""A real tiny run with texts that are no friends of web pages, and its pages."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from selfalign.browse.access import access_for
from selfalign.browse.app import make_app
from selfalign.config import load_config
from selfalign.workspace import Workspace
from tests.e2e.in_process import run_whole
from tests.e2e.project import Project

BASE = "http://localhost:8777"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)> & \"quoted\" {{ 7 * 7 }} \u202egnirts"


@pytest.fixture(scope="session")
def browsed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    """One whole round; read-only, see :func:`workspace`."""
    project = Project(tmp_path_factory.mktemp("browse") / "project", tiny_model, None)
    project.folder.mkdir()
    rule = {"instruction_id_list": ["keywords:letter_frequency"],
            "kwargs": [{"letter": "e", "let_frequency": 1, "let_relation": "at least"}]}  # fmt: skip
    prompts = [
        {
            "text": f"{HOSTILE} number {i}",
            "language": "en" if i % 2 else "de",
            "category": ("letter", "story")[i // 4],
            **rule,
        }
        for i in range(8)
    ]
    (project.folder / "train.jsonl").write_text("\n".join(map(json.dumps, prompts)), encoding="utf-8")
    path = project.write(
        rounds=1, pair={"id": "max_min"}, evaluate={"log_ratio": False},
        prompts={"per_round": 8, "sources": [{"id": "jsonl", "path": "train.jsonl"}],
                 "held_out": [{"id": "jsonl", "path": "held.jsonl"}]},
    )  # fmt: skip
    with contextlib.chdir(project.folder):
        run_whole(load_config(path))
    return Workspace(project.workspace)


@pytest.fixture
def workspace(browsed: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the run, without its weights."""
    target = tmp_path / "tiny"
    shutil.copytree(browsed.path, target, ignore=shutil.ignore_patterns("*.safetensors", "jobs"))
    return Workspace(target)


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    return pages(workspace)


def pages(workspace: Workspace, host: str = "127.0.0.1", token: bool = False) -> TestClient:
    app = make_app(workspace, access_for(host, 8777, ["box.example"], token=token), "tester")
    return TestClient(app, base_url=BASE, follow_redirects=False)

"""Every command and every piece of code of the tutorials runs, on the tiny model, in the folders that they are about."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from selfalign.config import validate_config
from tests.e2e.project import Project
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parent.parent.parent
TUTORIALS = ROOT / "docs" / "tutorials"
#: Servers, which would not end: only their arguments are looked at.
_STAY = ("serve", "browse")
#: What makes a tutorial's config a tiny one.
_SMALL = {
    "prompts": {"per_round": 4, "only_constrained": True, "languages": None},
    "generate": {"candidates": 3, "max_tokens": 16, "temperature": 1.0, "top_p": 1.0},
    "evaluate": {"prompts": 8, "log_ratio": False},
    "gates": [],
    "pair": {"id": "max_min"},
    "rounds": 1,
    "train": {"id": "dpo", "learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 2},
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (TUTORIALS / page).read_text(encoding="utf-8"), re.M | re.S)


def commands(page: str) -> Iterator[list[str]]:
    """The commands of a page's shell blocks, one by one; a quoted argument may go over several lines."""
    for block in blocks(page, "sh"):
        lines = shlex.shlex(block, posix=True, punctuation_chars="\n")
        lines.whitespace, lines.whitespace_split = " \t", True
        words: list[str] = []
        for word in [*lines, "\n"]:
            if set(word) != {"\n"}:
                words.append(word)
            elif words:
                yield words
                words = []


def follow(project: Project, page: str) -> None:
    """Run a page's commands from the project's folder on."""
    for words in commands(page):
        if words[0] == "cd":
            project.folder = project.folder / words[1]
            _shrink(project)
            continue
        assert words[0] == "selfalign", f"{page}: {words}"
        if words[1] in _STAY:
            words = [words[0], words[1], "--help"]
        done = project.selfalign(*words[1:])
        assert done.returncode == 0, f"{page}: {shlex.join(words)}\n{done.stdout}{done.stderr}"


def _shrink(project: Project) -> None:
    path = project.folder / "run.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **_SMALL, "model": str(project.model)}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tutorials") / "model", context=2048)


@pytest.fixture
def project(finished_runs: Project, tmp_path: Path) -> Project:
    """A copy of the finished run in runs/quickstart, its config in flows/quickstart.yaml."""
    shutil.copytree(finished_runs.folder, tmp_path / "project")
    (tmp_path / "project" / "flows").mkdir()
    shutil.move(tmp_path / "project" / "run.yaml", tmp_path / "project" / "flows" / "quickstart.yaml")
    return Project(tmp_path / "project", finished_runs.model, None, name="quickstart")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Project:
    """Tutorial 2, followed: a workspace of one's own with a finished round in runs/myrun."""
    project = Project(tmp_path_factory.mktemp("mine"), model, None, name="myrun")
    follow(project, "your-model-and-prompts.md")
    return project


def test_first_run(project: Project) -> None:
    follow(project, "first-run.md")


def test_your_model_and_prompts(mine: Project) -> None:
    assert (mine.folder / "runs" / "myrun" / "store.duckdb").is_file()


def test_write_a_judge(mine: Project) -> None:
    (rubric,) = blocks("write-a-judge.md", "jinja")
    (mine.folder / "prompts" / "judges" / "customer.j2").write_text(rubric, encoding="utf-8")
    follow(mine, "write-a-judge.md")
    (judge,) = (yaml.safe_load(block) for block in blocks("write-a-judge.md", "yaml"))
    members = validate_config({"name": "x", **judge}, "test").judge.members
    assert [member.judge.id for member in members] == ["verifier", "rubric_logits"]


def test_write_a_pair_builder(
    finished_runs: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(finished_runs, "write-a-pair-builder.md")
    monkeypatch.chdir(finished_runs.folder)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "acme"))
    (code,) = blocks("write-a-pair-builder.md", "python")
    exec(compile(code, "write-a-pair-builder.md", "exec"), {})
    assert re.match(r"\d+ pairs; no pair: \[", capsys.readouterr().out)


def test_resume_and_fork(project: Project) -> None:
    follow(project, "resume-and-fork.md")


def test_schedule(mine: Project) -> None:
    follow(mine, "schedule.md")
    validate_config({"name": "x", **yaml.safe_load(blocks("schedule.md", "yaml")[0])}, "test")


def test_from_laptop_to_gpu(mine: Project) -> None:
    (config,) = (yaml.safe_load(block) for block in blocks("from-laptop-to-gpu.md", "yaml"))
    assert validate_config({"name": "x", **config}, "test").train.method == "lora"
    follow(mine, "from-laptop-to-gpu.md")


@pytest.mark.parametrize("page", sorted(p.name for p in TUTORIALS.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(\s*([^)#\s]+)", (TUTORIALS / page).read_text(encoding="utf-8")):
        assert (TUTORIALS / target).exists(), target


def test_every_page_is_listed_and_followed() -> None:
    index, code = (ROOT / "docs" / "README.md").read_text(), Path(__file__).read_text()
    for page in TUTORIALS.glob("*.md"):
        assert f"tutorials/{page.name}" in index and f'"{page.name}"' in code
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name

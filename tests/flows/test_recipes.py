"""The run configs in flows/ can run as they stand, on the prompts that ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from selfalign.config import load_config
from selfalign.preflight import check
from selfalign.progress import Silent
from selfalign.shipped import recipes
from selfalign.stages.context import RunContext
from selfalign.store.store import Store
from selfalign.work import run_work
from selfalign.workspace import Workspace
from tests.tiny_model import make_tiny_model

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
#: Those with prompts of their own last, so that the others share what is found out about theirs.
NAMES = sorted(recipes(), key=lambda name: (name in ("spin", "dno", "self-rewarding"), name))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all of them: what the checks find out about the same prompts is found out once."""
    return tmp_path_factory.mktemp("recipes") / "run"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One token is one byte here, so that a rubric with prompt and answer needs room.
    return make_tiny_model(tmp_path_factory.mktemp("model") / "model", context=2048)


def test_the_readme_lists_them() -> None:
    listed = re.findall(r"^\| \[([\w-]+)\]\(flows/([\w-]+)\.yaml\)", README, re.MULTILINE)
    assert sorted(listed) == [(name, name) for name in sorted(recipes())]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_passes_every_check_before_a_run(name: str, workspace: Path, model: Path) -> None:
    plain = load_config(recipes()[name])
    assert (plain.name, plain.model) == (name, "smollm2-135m-instruct")
    config = load_config(recipes()[name], [f"model={model}", f"workspace={workspace}"])
    place = Workspace(workspace)
    place.create()
    context = RunContext(config, place, Store(place.store_path), Silent())
    found = check(context)
    trained = sum(not config.teaches(round) for round in range(1, config.rounds + 1))
    assert len(found.training) >= trained * config.prompts.per_round, "no prompt comes twice"
    assert [round for like in run_work(context, found) for round in like.rounds] == list(range(config.rounds + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_that_a_comment_names_can_be_taken(name: str) -> None:
    comments = " ".join(re.findall(r"# (.*)$", recipes()[name].read_text(encoding="utf-8"), re.MULTILINE))
    for judge in re.findall(r"\{id: [^}]*\}", comments):
        assert load_config(recipes()[name], [f"judge={judge}"]).judge.id in judge

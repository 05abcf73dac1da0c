"""docs/extending.md: the package in examples/acme is found by its entry point, and all its plug-ins take part in a run."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.e2e.project import Project
from tests.tiny_model import CHAT_TEMPLATE

ROOT = Path(__file__).parent.parent.parent
ACME = ROOT / "examples" / "acme"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    """The page's config, run for a round with acme on the path as pip would leave it."""
    folder = tmp_path_factory.mktemp("acme")
    settings = tomllib.loads((ACME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "site" / "acme_selfalign-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {settings['name']}\nVersion: {settings['version']}\n")
    lines = [
        line
        for group, entries in settings["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))

    (page,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    project = Project(folder / "project", tiny_model, None, name="acme")
    project.extra["PYTHONPATH"] = os.pathsep.join((str(folder / "site"), str(ACME), str(ROOT)))
    held_out = {"held_out": [{"id": "jsonl", "path": "held.jsonl"}]}
    project.write(**{
        **page,
        "rounds": 1,
        "prompts": {**page["prompts"], **held_out},
        "generate": {**page["generate"], "max_tokens": 24, "temperature": 1.0, "top_p": 1.0},
        "train": {**page["train"], "batch_size": 2, "micro_batch_size": 2},
        "evaluate": {**page["evaluate"], "log_ratio": False},
    })  # fmt: skip
    (project.folder / "chat.jinja").write_text("{# ours #}" + CHAT_TEMPLATE)
    done = project.selfalign("run", "run.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    return project


def rows(project: Project, query: str) -> list[dict[str, object]]:
    done = project.selfalign("sql", "runs/acme", query, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_the_table_has_every_plugin(project: Project) -> None:
    done = project.selfalign("methods", "--json")
    acme = {row["kind"]: row["name"] for row in json.loads(done.stdout) if row["name"].startswith("acme_")}
    table = dict(re.findall(r"^\| `(\w+)` \| \[(\w+)\.py\]", PAGE, re.M))
    assert acme.keys() == table.keys()
    assert all((ACME / "acme_selfalign" / f"{file}.py").is_file() for file in table.values())


def test_all_of_them_took_part(project: Project) -> None:
    (found,) = rows(project, """
        select
            (select list(distinct origin) from prompts where split = 'train') as prompts,
            (select list(distinct engine) from candidates) as engine,
            (select list(distinct judge) from judgements j join candidates using (candidate_id) where split = 'train')
                as judge,
            (select list(distinct resampler) from selections) as resample,
            (select list(distinct builder) from pairs) as pair,
            (select list(distinct trainer) from checkpoints where round = 1) as train,
            (select count(*) from evaluations where metric = 'asks_back_share' and value is not null) as figures,
            (select list(distinct rule) from gate_decisions) as gate
    """)  # fmt: skip
    assert found == {
        "prompts": ["acme_grid"], "engine": ["acme_template"], "judge": ["acme_sentences"],
        "resample": ["acme_distinct"], "pair": ["acme_same_length"], "train": ["acme_exponential"], "figures": 2,
        "gate": ["acme_no_empty"],
    }  # fmt: skip


def test_its_loss_was_guarded_and_trained_on(project: Project) -> None:
    (checkpoint,) = rows(project, "select metrics from checkpoints where round = 1")
    metrics = json.loads(str(checkpoint["metrics"]))
    assert metrics["guard_loss"] == pytest.approx(1.0, abs=1e-4)  # exp(0): policy and reference agree
    assert metrics["steps"] > 0 and metrics["chosen_logp_change"] != 0


def test_a_typo_in_its_settings_is_found_as_in_ours(project: Project) -> None:
    done = project.selfalign("plan", "run.yaml", "--set", "judge.wrods=3")
    assert done.returncode == 2 and "wrods" in done.stderr and "words" in done.stderr

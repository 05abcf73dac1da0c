from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def selfalign(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "selfalign", *arguments], capture_output=True, text=True, cwd=cwd)


COMMANDS = (
    "run", "serve", "pause", "approve", "resume", "fork", "branches", "rollback", "status", "sql", "report", "browse", "verify", "scan", "plan", "init", "methods", "models fetch",
    "calibrate", "compare", "reward", "export", "gc", "checkpoints list", "checkpoints restore",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = selfalign(*command.split(), "--help")
    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert f"selfalign {command}" in shown.stdout


def test_methods_lists_every_kind_and_parses_as_json() -> None:
    found = json.loads(selfalign("methods", "--json").stdout)
    assert {"engine", "prompts", "judge", "resample", "pair", "train", "evaluate", "gate"} == {
        entry["kind"] for entry in found
    }
    assert all(entry["summary"] for entry in found)
    only = json.loads(selfalign("methods", "--kind", "judge", "--json").stdout)
    assert {entry["kind"] for entry in only} == {"judge"}
    assert {
        "verifier", "rubric_votes", "rubric_logits", "weighted", "pairwise", "reference", "critique", "length", "openai", "jury",
        "reward_model",
    } == {entry["name"] for entry in only}  # fmt: skip
    assert selfalign("methods", "--kind", "nothing").returncode == 2


def test_init_gives_files_that_are_then_used(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "mine"
    assert selfalign("init", str(folder)).returncode == 0
    assert selfalign("init", str(folder)).returncode == 2, "what is there is not overwritten"
    model = f"model={tiny_model}"
    sizes = ("--set", "generate.max_tokens=20")
    good = selfalign("plan", "run.yaml", "--set", model, *sizes, "--json", cwd=folder)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["run"] == "mine"
    (folder / "prompts" / "judges" / "additive_short.j2").write_text("broken", encoding="utf-8")
    broken = selfalign("plan", "run.yaml", "--set", model, *sizes, cwd=folder)
    assert broken.returncode == 2
    assert "additive_short.j2" in broken.stderr


def test_init_takes_a_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    unknown = selfalign("init", str(folder), "--recipe", "simppo")
    assert unknown.returncode == 2
    assert "did you mean 'simpo'? known: dno, iterative-dpo, kto, " in unknown.stderr
    assert not folder.exists()
    assert selfalign("init", str(folder), "--recipe", "iterative-dpo").returncode == 0
    written = (folder / "run.yaml").read_text(encoding="utf-8")
    shipped = (ROOT / "flows" / "iterative-dpo.yaml").read_text(encoding="utf-8")
    assert written == shipped.replace("name: iterative-dpo", "name: mine")


def test_the_readme_names_only_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^    |&& |`)selfalign (\w+)", text, re.MULTILINE))
    assert named >= {"run", "sql", "status", "init", "plan"}
    assert named <= {command.split()[0] for command in COMMANDS}

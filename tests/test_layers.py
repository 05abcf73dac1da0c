"""Imports point one way, and looking at the library loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "selfalign"
CAPABILITIES = ("engines", "judges", "pairing", "resampling", "training", "evaluation", "sources", "models", "gates")
#: Pure code over the capabilities' rows.
ABOVE = ("calibration", "gold", "decontamination", "scanning")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


@pytest.mark.parametrize(
    "module", ["selfalign", "selfalign.config", "selfalign.registry", "selfalign.cli.app", "selfalign.report.write"]
)
def test_importing_loads_neither_prefect_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('prefect', 'torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_validating_a_config_loads_no_model_library() -> None:
    code = (
        "import sys; from pathlib import Path; from selfalign.config import load_config;"
        "load_config(Path('flows/quickstart.yaml'));"
        "print([m for m in ('prefect', 'torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    names = imported(path)
    part = path.relative_to(PACKAGE).parts[0]
    if part != "cli":
        assert not any(name.split(".")[0] in ("prefect", "flows") for name in names)
    if part not in ("cli", "report"):
        assert not any(name.startswith("selfalign.report") for name in names), "a report is made of a run, not by it"
    if part in (*CAPABILITIES, *ABOVE):
        upward = ("selfalign.stages", "selfalign.store", "selfalign.rounds", "selfalign.cli", "selfalign.workspace")
        assert not [name for name in names if name.startswith(upward)]
    if part in CAPABILITIES:
        siblings = tuple(f"selfalign.{other}" for other in CAPABILITIES if other != part)
        assert not [name for name in names if name.startswith(siblings)], "capabilities do not know one another"
    if part not in ("export", "cli"):
        assert not [name for name in names if name.startswith("selfalign.export")], (
            "a run does not depend on its exports"
        )
    if part not in ("cli", "browse"):
        assert not [name for name in names if name.startswith("selfalign.browse")], "pages are above everything else"
    if path.parent.name != "store":
        assert "duckdb" not in names, "one module owns the connection"

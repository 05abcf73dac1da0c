"""Files that ship with the package: prompts/, data/ and the recipes in flows/.

In a checkout they are the top-level folders; in an installed wheel prompts/ and data/ lie in selfalign/shipped/.
"""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

from selfalign.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The shipped folder ``name`` ("prompts" or "data")."""
    installed = _PACKAGE / "shipped" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def recipes() -> dict[str, Path]:
    """The run configs that ship, by name."""
    return {path.stem: path for path in sorted((_PACKAGE.parent / "flows").glob("*.yaml"))}


def copy_shipped(folder: Path, recipe: str = "quickstart") -> None:
    """Write a folder a user can edit and run; ``recipe`` becomes its run.yaml.

    Raises:
        ConfigError: the folder exists and is not empty, or there is no such recipe.
    """
    known = recipes()
    if recipe not in known:
        near = difflib.get_close_matches(recipe, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ";"
        raise ConfigError(f"unknown recipe '{recipe}'{hint} known: {', '.join(known)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not an empty folder; name another")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(shipped("prompts"), folder / "prompts")
    shutil.copytree(shipped("data"), folder / "data")
    text = known[recipe].read_text(encoding="utf-8")
    config = re.sub(rf"^name: {recipe}$", f"name: {folder.resolve().name}", text, count=1, flags=re.MULTILINE)
    (folder / "run.yaml").write_text(config, encoding="utf-8")

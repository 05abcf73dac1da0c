"""Files that ship with the package: prompts/, data/ and the example config.

In a checkout they are the top-level folders; in an installed wheel they lie in selfalign/shipped/.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from selfalign.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The shipped folder ``name`` ("prompts" or "data")."""
    installed = _PACKAGE / "shipped" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def copy_shipped(folder: Path) -> None:
    """Write a folder a user can edit and run.

    Raises:
        ConfigError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not an empty folder; name another")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(shipped("prompts"), folder / "prompts")
    shutil.copytree(shipped("data"), folder / "data")
    example = (_PACKAGE.parent / "flows" / "quickstart.yaml").read_text(encoding="utf-8")
    config = example.replace("name: quickstart", f"name: {folder.resolve().name}", 1)
    (folder / "run.yaml").write_text(config, encoding="utf-8")

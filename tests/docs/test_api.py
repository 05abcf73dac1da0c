"""docs/api.md: its modules import without a trace, and everything public in them has a docstring."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
MODULES = re.findall(r"^\| `(selfalign[a-z_.]*)` \|", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M)
_ASK = """
import importlib, json, sys
from tests.docs.test_api import undocumented
print(json.dumps([name for module in sys.argv[1:] for name in undocumented(importlib.import_module(module))]))
"""


def undocumented(module: ModuleType) -> list[str]:
    """Public classes and functions of ``module``, and their methods, without a docstring of ours."""
    own = [
        member
        for name, member in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(member) or inspect.isfunction(member))
        and member.__module__ == module.__name__
    ]
    found = [] if module.__doc__ else [module.__name__]
    for member in own:
        made_up = inspect.isclass(member) and (member.__doc__ or "").startswith(f"{member.__name__}(")  # by dataclass
        if made_up or not member.__doc__:
            found.append(f"{module.__name__}.{member.__qualname__}")
        if inspect.isclass(member):
            found += [
                f"{module.__name__}.{member.__qualname__}.{name}"
                for name, kept in vars(member).items()
                if not name.startswith("_")
                and (isinstance(kept, property | classmethod | staticmethod) or inspect.isfunction(kept))
                and getattr(kept, "__name__", "") != "<lambda>"  # a field's default
                and not inspect.getdoc(getattr(member, name))
            ]
    return found


def test_every_public_name_has_a_docstring_and_importing_does_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){_ASK}", *MODULES],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout), done.stderr) == ([], "")
    assert list(tmp_path.iterdir()) == []


def test_what_the_page_tells_to_import_is_listed() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py")]
    told = {
        name for page in pages for name in re.findall(r"^\s*from (selfalign[a-z_.]*) import", page.read_text(), re.M)
    }
    assert told <= set(MODULES), told - set(MODULES)

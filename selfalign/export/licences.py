"""Under which licence a model or a prompt file is, as far as files beside it say; what nobody said stays unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from selfalign.identity import hash_file
from selfalign.models.embedded import EMBEDDED_NAME
from selfalign.shipped import shipped

UNKNOWN = "unknown"
#: First words of common licence texts -> the Hub's identifier.
_TEXTS = (
    (re.compile(r"Apache License\s+Version 2\.0"), "apache-2.0"), (re.compile(r"MIT License"), "mit"),
    (re.compile(r"BSD 3-Clause"), "bsd-3-clause"), (re.compile(r"LLAMA 3\.1", re.IGNORECASE), "llama3.1"),
    (re.compile(r"LLAMA 3\.2", re.IGNORECASE), "llama3.2"), (re.compile(r"LLAMA 3\.3", re.IGNORECASE), "llama3.3"),
    (re.compile(r"Gemma Terms of Use", re.IGNORECASE), "gemma"),
)  # fmt: skip
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
#: Licence of what ships with this package.
_OWN = "apache-2.0"


def of_model(name: str, folder: Path | None) -> str:
    """Of the model ``name`` in ``folder`` (None: not on this machine)."""
    if name in (EMBEDDED_NAME, "embedded"):
        return _OWN  # SmolLM2's own, as its publishers say; the package that it is taken from ships no other
    return UNKNOWN if folder is None else of_folder(folder)


def of_folder(folder: Path) -> str:
    """By the head of README.md, or by the text of LICENSE."""
    for path in sorted(folder.glob("README*")):
        found = _FRONT_MATTER.match(_begin(path))
        if found and (licence := _named(found[1])):
            return licence
    for path in [*sorted(folder.glob("LICEN[SC]E*")), *sorted(folder.glob("COPYING*"))]:
        text = _begin(path)
        if licence := next((name for pattern, name in _TEXTS if pattern.search(text)), ""):
            return licence
        return f"other (see {path.name} in the model's folder)"
    return UNKNOWN


def of_prompt_file(path: Path) -> str:
    """Of a prompt file: known where it is one that ships with this package, unchanged."""
    own = shipped("data") / path.name
    same = path.is_file() and own.is_file() and hash_file(path) == hash_file(own)
    return f"{_OWN} (ships with selfalign)" if same else UNKNOWN


def _begin(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return ""


def _named(head: str) -> str:
    try:
        data: Any = yaml.safe_load(head)
    except yaml.YAMLError:
        return ""
    return str(data.get("license") or "") if isinstance(data, Mapping) else ""

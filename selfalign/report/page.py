"""The page: one HTML file with its data, styles and scripts in it.

What models and users wrote is text wherever it stands: Jinja escapes it, the embedded JSON cannot end its element, and a
content security policy names the page's two scripts by their hashes and forbids everything else, the network included.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from selfalign import __version__
from selfalign.report.cells import cell
from selfalign.report.diff import Run, word_diff
from selfalign.report.figures import Example, RunFigures, Side
from selfalign.report.javascript import vega_bundle
from selfalign.report.plots import Section, Table, sections
from selfalign.visible import json_safe, visible

_TEMPLATES = Path(__file__).parent / "templates"
#: Characters of a text that are shown.
_LONGEST = 4000


@dataclass(frozen=True)
class ShownSide:
    """An answer with what the other one has not marked."""

    side: Side
    text: Sequence[Run]
    cut: int


@dataclass(frozen=True)
class ShownExample:
    """An example as it stands on the page."""

    example: Example
    prompt: str
    sides: Sequence[ShownSide]


def render(runs: Sequence[RunFigures]) -> str:
    """The report of one run, or of several beside one another, as HTML."""
    parts = sections(runs)
    vega, own = _script(vega_bundle()), _script((_TEMPLATES / "report.js").read_text(encoding="utf-8"))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = lambda value: visible(str(value))
    return environment.get_template("report.html.jinja").render(
        runs=runs,
        title=" and ".join(run.label for run in runs),
        made=datetime.now(UTC),
        version=__version__,
        sections=parts,
        headlines={run.label: headline(run) for run in runs},
        examples={run.label: [_shown(example) for example in run.examples] for run in runs},
        changes={run.label: [_shown(example) for example in run.changes] for run in runs},
        configs={run.label: _yaml(run.about.config) if run.about else "" for run in runs},
        environments={run.label: _yaml(run.about.environment) if run.about else "" for run in runs},
        differences=differences(runs),
        cell=cell,
        data=htmlsafe_json_dumps(_data(parts), dumps=_dumps),
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        vega=vega,
        own=own,
        policy=_policy(vega, own),
    )


def headline(run: RunFigures) -> Mapping[str, str]:
    """The run in a few words; figures are those of the last round that has them."""
    about = run.about
    found = {"where it stands": run.standing.words}
    if about:
        found["started from"] = str(about.config.get("model", "?"))
        found["seed"] = str(about.seed)
        if about.origin:
            found["forked from"] = f"{about.origin.get('run', '?')}, round {about.origin.get('round', '?')}"
    for words, key in {
        "strict pass rate": "pass_rate_strict",
        "against M0": "delta_vs_m0",
        "judge right": "judge_accuracy",
    }.items():
        last = next((row for row in reversed(run.rounds) if getattr(row, key) is not None), None)
        if last:
            found[words] = f"{last.model}: {cell(asdict(last), key)}"
    examples = {"pairs": "pairs", "labels": "labels", "rankings": "rankings"}
    trained = {words: sum(getattr(row, key) or 0 for row in run.rounds) for key, words in examples.items()}
    found["training examples"] = ", ".join(f"{n:,} {words}" for words, n in trained.items() if n) or "none yet"
    found["time in stages"] = cell({"seconds": sum(row.seconds or 0 for row in run.rounds)}, "seconds")
    if about:
        found["begun"] = f"{about.begun:%Y-%m-%d %H:%M} UTC, selfalign {about.version}"
    found["folder"] = run.workspace
    return found


def differences(runs: Sequence[RunFigures]) -> Sequence[tuple[str, Sequence[str]]]:
    """Settings that are not the same in all runs: the key, and its value in each."""
    flat = [_flat(run.about.config) if run.about else {} for run in runs]
    keys = sorted({key for one in flat for key in one} - {"name", "workspace"})
    values = {key: [one.get(key, "–") for one in flat] for key in keys}
    return [(key, found) for key, found in values.items() if len(set(found)) > 1]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Values by dotted key, as --set takes them."""
    if isinstance(value, Mapping) and value:
        members = value.items()
    elif isinstance(value, list) and any(isinstance(member, Mapping) for member in value):
        members = {str(i): member for i, member in enumerate(value)}.items()
    else:
        return {prefix: "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)}
    found: dict[str, str] = {}
    for key, member in members:
        found |= _flat(member, f"{prefix}.{key}" if prefix else str(key))
    return found


def _shown(example: Example) -> ShownExample:
    sides = [side for side in (example.better, example.worse) if side is not None]
    texts = [visible(side.text[:_LONGEST]) for side in sides]
    runs = word_diff(*texts) if len(texts) == 2 else [[Run(text, False)] for text in texts]
    shown = [ShownSide(side, text, max(0, len(side.text) - _LONGEST)) for side, text in zip(sides, runs, strict=True)]
    return ShownExample(example, visible(example.prompt[:_LONGEST]), shown)


def _data(parts: Sequence[Section]) -> dict[str, Any]:
    """What the page's script draws and writes as CSV, by name."""
    found: dict[str, Any] = {}
    for part in parts:
        for plot in part.plots:
            found[plot.name] = {"columns": list(plot.columns), "rows": plot.rows, "spec": plot.spec}
        for table in part.tables:
            found[table.name] = {"columns": _csv_columns(table), "rows": table.rows, "spec": None}
    return found


def _csv_columns(table: Table) -> list[str]:
    """Also the ends of intervals, which the table shows in one cell with their value."""
    keys = list(table.columns)
    known = table.rows[0].keys() if table.rows else ()
    return [name for key in keys for name in (key, f"{key}_low", f"{key}_high") if name == key or name in known]


def _dumps(value: Any, **options: Any) -> str:
    return json_safe(json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"), **options))


def _script(text: str) -> Markup:
    """``text`` as the content of a script element: nothing in it may end the element or begin another one."""
    for tag in ("</script", "<script", "<!--"):
        text = _broken(text, tag)
    return Markup(text)


def _broken(text: str, tag: str) -> str:
    r"""``tag`` with its < as \x3c, which is the same within a string or a regular expression, the only places for it."""
    start = 0
    while (at := text.lower().find(tag, start)) >= 0:
        text = f"{text[:at]}\\x3c{text[at + 1 :]}"
        start = at + 4
    return text


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        f"form-action 'none'"
    )


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)

"""The card of an exported data set: README.md with the YAML head that the Hub reads, from card.md.j2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from selfalign.export.columns import trl_columns
from selfalign.export.counts import Counts
from selfalign.export.filters import REASONS
from selfalign.export.licences import UNKNOWN
from selfalign.export.provenance import Provenance
from selfalign.export.request import REVIEWED, Request
from selfalign.export.targets import SPLITS

_TEMPLATE = Path(__file__).parent / "card.md.j2"
_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
)
#: TRL's trainers for each kind.
TRAINERS = {
    "pairs": ("DPOTrainer", "RewardTrainer"), "unary": ("KTOTrainer",), "sft": ("SFTTrainer",), "judgements": ()
}  # fmt: skip
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


@dataclass(frozen=True)
class Contamination:
    """What was compared with which files; ``too_short`` items have too few words for a gram."""

    files: Mapping[str, int]
    too_short: int
    rows: int
    items: int


def render(
    request: Request,
    origin: Provenance,
    counts: Counts,
    contamination: Contamination | None,
    provenance: Mapping[str, str],
) -> str:
    """The card's text. ``provenance``: the columns after TRL's, with what each is."""
    columns = trl_columns(request.kind, request.style)
    template = _ENVIRONMENT.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        head=yaml.safe_dump(_head(request, origin, counts), sort_keys=False, allow_unicode=True).strip(),
        request=request,
        origin=origin,
        counts=counts,
        contamination=contamination,
        columns=columns,
        provenance=provenance,
        reviewable=request.kind in REVIEWED,
        reasons=REASONS,
        trainers=TRAINERS[request.kind],
        unknown=UNKNOWN,
        path=request.output.name,
    )


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return next((name for limit, name in _SIZES if rows < limit), "10M<n<100M" if rows < 100_000_000 else "n>100M")


def _head(request: Request, origin: Provenance, counts: Counts) -> dict[str, Any]:
    head: dict[str, Any] = {
        "pretty_name": f"{origin.run}: {request.kind}",
        "license": request.licence or UNKNOWN,
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "selfalign", "trl", *(["preference", "dpo"] if request.kind == "pairs" else [])],
        "size_categories": [size_category(counts.rows)],
    }
    if languages := sorted(name for name in counts.languages if name):
        head["language"] = languages
    if request.format != "hf":
        suffix = request.format
        where = request.output.name if request.one_file else None
        files = [
            {"split": split, "path": where or f"data/{split}-*.{suffix}"} for split in SPLITS if counts.splits[split]
        ]
        head["configs"] = [{"config_name": "default", "data_files": files}]
    return head

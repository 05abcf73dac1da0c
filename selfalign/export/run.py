"""From a run to a data set on disk: query -> batches -> filters -> shapes -> files and card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from selfalign.decontamination.benchmarks import read_items
from selfalign.decontamination.find import Finder
from selfalign.errors import BadInput
from selfalign.export.card import Contamination, render
from selfalign.export.columns import Kind, provenance_columns
from selfalign.export.counts import Counts
from selfalign.export.filters import REASONS, Filter
from selfalign.export.provenance import Provenance, provenance
from selfalign.export.queries import queries
from selfalign.export.request import Request
from selfalign.export.shapes import shaped
from selfalign.export.splits import in_test
from selfalign.export.spool import batches, spool
from selfalign.export.targets import SPLITS, refuse_foreign, scratch_beside, target
from selfalign.reviews import standing
from selfalign.space import folder_bytes, full_disk_explained
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Where there are no rows of a kind: what makes them.
_HINTS: Mapping[Kind, str] = {
    "pairs": "builders of labels or rankings make none; yields (selfalign sql) say why prompts gave none",
    "unary": "only builders of labels make them; --source pairs makes a row of each side of a pair",
    "sft": "no answer was chosen, no prompt came with an answer, and nothing was taught",
    "judgements": "nothing was judged",
}


@dataclass(frozen=True)
class Report:
    """What was written where. ``contaminated`` rows repeat an item of a benchmark, whether or not they were left out.

    ``reviews`` counts the rows that a review stands behind, by what it said.
    """

    output: str
    card: str
    rows: int
    splits: Mapping[str, int]
    prompts: int
    columns: tuple[str, ...]
    left_out: Mapping[str, int]
    reviews: Mapping[str, int]
    truncated: int
    contaminated: int
    bytes: int


def export(workspace: Workspace, request: Request) -> Report:
    """Write the data set of the run at ``workspace``; a kill leaves what was there before, or the new one.

    Raises:
        BadInput: nothing to export, a benchmark that cannot be read, or an output that is not ours to replace.
        StoreError: rows name texts that are gone.
    """
    refuse_foreign(request.output)
    items = [item for path in request.benchmarks for item in read_items(path, request.benchmark_column)]
    finder = Finder(items, request.decontamination) if items else None
    store = Store(workspace.store_path)
    said = standing(store, workspace.reviews)
    shown = {} if request.bare else provenance_columns(request.kind, notes=request.review_notes)
    origin = provenance(store, request.branch, request.prompt_licence)
    with full_disk_explained(request.output.parent), scratch_beside(request.output) as scratch:
        found = spool(store, queries(request, said), scratch / "rows")
        filter_, counts, columns = Filter(request, finder), Counts(), ()
        made = target(request, scratch)
        for batch in batches(scratch / "rows") if found else ():
            kept = filter_.keep(batch)
            counts.add(kept)
            for split, members in _by_split(kept, request.test_share):
                rows = shaped(members, request.kind, request.style, origin.system_prompt, shown)
                made.write(split, rows)
                counts.splits[split] += rows.num_rows
                columns = rows.schema.names
        counts.left_out = dict(filter_.left_out)
        _refuse_nothing(request, found, counts)
        contamination = None
        if finder is not None:
            repeated = {(hit["benchmark"], hit["item"]) for hit in filter_.hits}
            rows_hit = len({hit["row"] for hit in filter_.hits})
            files = dict(Counter(item.file for item in items))
            contamination = Contamination(files, finder.too_short, rows_hit, len(repeated))
        text = render(request, origin, counts, contamination, shown)
        card = made.finish(text, _manifest(request, origin, counts, contamination), filter_.hits)
    return Report(
        str(request.output), str(card), counts.rows, {split: counts.splits[split] for split in SPLITS if counts.splits[split]},
        counts.prompts, tuple(columns), counts.left_out, dict(counts.reviews), counts.truncated, contamination.rows if contamination else 0,
        folder_bytes(request.output),
    )  # fmt: skip


def _by_split(batch: pa.RecordBatch, share: float) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each split that has any."""
    test = in_test(batch["prompt_id"].to_pylist(), share)
    for split, mask in zip(SPLITS, (~test, test), strict=True):
        if mask.any():
            yield split, batch.filter(pa.array(mask))


def _refuse_nothing(request: Request, found: int, counts: Counts) -> None:
    rounds = "" if request.rounds is None else f" in rounds {', '.join(map(str, request.rounds))}"
    where = f"{request.branch or 'the run'}{rounds}"
    if not found and request.reviews == "only":
        raise BadInput(
            f"nothing to export: nobody reviewed a pair of {where}; 'selfalign browse RUN' is where people do"
        )
    if not found:
        made_of = "" if request.kind == "judgements" else f" of source {', '.join(request.sources)}"
        raise BadInput(f"nothing to export: {where} has no {request.kind}{made_of}; {_HINTS[request.kind]}")
    if not counts.rows:
        why = "; ".join(f"{n} rows: {REASONS[reason]}" for reason, n in counts.left_out.items())
        raise BadInput(f"nothing to export: of {found} {request.kind} of {where} none is left ({why})")
    if request.test_share and len(counts.splits) < len(SPLITS):
        only = next(iter(counts.splits))
        raise BadInput(
            f"--split {request.test_share}: all {counts.prompts} prompts fall into '{only}'; give another share, or more rounds"
        )


def _manifest(
    request: Request, origin: Provenance, counts: Counts, contamination: Contamination | None
) -> dict[str, Any]:
    """What is kept in the folder for programs; ids and figures only, and no path of this machine."""
    return {
        "selfalign_export": 1,
        "run": origin.run,
        "config_hash": origin.config_hash,
        "kind": request.kind,
        "style": request.style,
        "sources": request.sources,
        "rounds": sorted(counts.rounds),
        "branch": request.branch,
        "splits": dict(counts.splits),
        "left_out": dict(counts.left_out),
        "reviews": {"mode": request.reviews, **counts.reviews},
        "contamination": asdict(contamination) if contamination else None,
    }

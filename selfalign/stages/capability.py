"""Stage ``capability``: how likely M_t finds plain text that it was never trained on here.

A policy can win on prompts and lose its language: the log-likelihood of ordinary text shows it early.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfalign.evaluation.plain_text import Paragraph, forgotten, likelihood, load_paragraphs
from selfalign.failpoints import reach
from selfalign.identity import canonical, content_id, derive_seed, hash_file
from selfalign.shipped import shipped
from selfalign.stages.context import RunContext
from selfalign.stages.generate import engine_spec
from selfalign.stages.jobs import JobFolder
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.loading import load_engine
from selfalign.stages.meter import Meter
from selfalign.stages.supervise import collect, supervise
from selfalign.types import Evaluation, TokenSequence

_CHUNK = 16
_METRIC = "plain_text_nll"


def fingerprint(context: RunContext, round: int) -> str:
    return content_id(
        "capability", context.weights(round).original_hash, _texts_hash(texts_path()), context.config.dtype
    )


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "capability", fingerprint)
    collect(folder, context)
    if not _measured(context, round):
        spec = {
            "kind": "capability", "round": round, "run": context.config.name, "texts": str(texts_path()),
            **engine_spec(context, context.model(round)),
        }  # fmt: skip
        supervise(folder, spec, {}, context=context, label=f"round {round} capability")
    folder.remove()
    figure = _measured(context, round)[0]
    summary = f"M{round}: {figure.value:.3f} nats a token of plain text"
    before = _measured(context, 0) if round else []
    if not before:
        return StageOutcome(figure.n, 1, summary)
    change = _change(context, round, before[0], figure)
    context.store.insert([change])
    interval = f" [{change.low:+.3f}, {change.high:+.3f}]" if change.low is not None else ""
    return StageOutcome(figure.n, 2, f"{summary}, {change.value:+.3f} against M0{interval}")


def _measured(context: RunContext, round: int) -> list[Evaluation]:
    return context.store.rows(Evaluation, "round = ? and metric = ?", (round, _METRIC))


def _change(context: RunContext, round: int, before: Evaluation, after: Evaluation) -> Evaluation:
    seed = derive_seed(context.config.seed, round, "capability") & 0xFFFFFFFF
    texts = [json.loads(row.detail)["by_paragraph"] for row in (before, after)]
    found = forgotten(texts[0], texts[1], seed)
    detail = {"p_value": found.p_value, "more_likely": found.worse, "less_likely": found.better}
    change = found.difference
    return Evaluation(
        context.config.name, round, f"{_METRIC}_delta_vs_m0", "plain_text", change.value, change.low, change.high,
        change.n, canonical(detail),
    )  # fmt: skip


def texts_path() -> Path:
    """The plain text that is read."""
    return shipped("data") / "plain_text.jsonl"


@cache
def _texts_hash(path: Path) -> str:
    return hash_file(path)


# -- in the stage process -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    paragraph: Paragraph
    sequence: TokenSequence


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    paragraphs = load_paragraphs(Path(spec["texts"]))
    meter = Meter(folder, len(paragraphs), "paragraphs")
    engine = load_engine(spec, lambda kind, message: None, meter)
    reads = []
    for paragraph in paragraphs:
        ids = engine.encode_text(paragraph.text)[: engine.context_length]
        reads.append(_Read(paragraph, TokenSequence(ids[:1], ids[1:])))
    reads.sort(key=lambda read: (len(read.sequence.completion_ids), read.paragraph.key))
    nll: dict[str, float] = {}
    by_language: dict[str, list[float]] = defaultdict(list)
    tokens = 0
    reach("batch_begun")
    for start in range(0, len(reads), _CHUNK):
        chunk = reads[start : start + _CHUNK]
        for read, values in zip(chunk, engine.log_probs([read.sequence for read in chunk]), strict=True):
            nll[read.paragraph.key] = -float(values.mean())
            by_language[read.paragraph.language].append(nll[read.paragraph.key])
            tokens += len(values)
        meter.made(len(chunk))
    engine.close()
    mean = likelihood(nll)
    detail = {
        "tokens": tokens, "by_language": {name: sum(v) / len(v) for name, v in sorted(by_language.items())},
        "by_paragraph": nll,
    }  # fmt: skip
    folder.emit(
        0,
        [Evaluation(spec["run"], spec["round"], _METRIC, "plain_text", mean.value, mean.low, mean.high, mean.n,
                    canonical(detail))],
    )  # fmt: skip

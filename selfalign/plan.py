"""What a run would do: rows, tokens, time and disk, before anything is started.

Times are estimates from this machine's measured matrix-product rate: 2 FLOP a parameter and token
read, 6 trained (forward and backward). The shares below say how much of that rate the stages reach.
"""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
from rich.console import Console

from selfalign.config import RunConfig
from selfalign.disk.estimate import Need, needs, shortage
from selfalign.preflight import Preflight, check
from selfalign.progress import Silent
from selfalign.space import free_bytes, shown
from selfalign.stages import calibrate, meta_judge
from selfalign.stages.context import RunContext
from selfalign.stages.judge import needs_engine, needs_model
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Share of the measured matrix-product rate that the stages reach (measured on 2 cores, float32).
_DECODE_SHARE, _READ_SHARE, _TRAIN_SHARE = 0.25, 0.5, 0.5
#: Answers are shorter than max_tokens; used where nothing is known yet.
_MEAN_ANSWER_SHARE = 0.7
#: Of English text, roughly.
_CHARACTERS_A_TOKEN = 4
#: A rubric's length in tokens, roughly; shared by all judgements and so read once.
_PROCESS_SECONDS = 8.0


def estimate(config: RunConfig) -> dict[str, Any]:
    """Rows, tokens, seconds and bytes by stage.

    Raises:
        BadInput: the config cannot run; the same checks as a start makes.
    """
    workspace = Workspace(config.workspace_path())
    context = RunContext(config, workspace, Store(workspace.store_path), Silent())
    found = check(context)
    rate = _flops()
    stages = [*_held_out(config, found, rate), *_round(config, context, found, rate), *_gold(context, found, rate)]
    per_round = sum(s["seconds"] for s in stages if s["stage"] != "answer (M0)")
    total = stages[0]["seconds"] + per_round * config.rounds
    lines = needs(context, found)
    return {
        "run": config.name,
        "workspace": str(workspace.path),
        "model": {
            "path": str(found.model_path),
            "parameters": found.model.parameters,
            "window": found.model.context_length,
        },
        "prompts": {
            "training": len(found.training),
            "constrained": sum(bool(p.instruction_id_list) for p in found.training),
            "held_out": len(found.held_out),
            "rounds_without_repeats": len(found.training) // config.prompts.per_round,
        },
        "rounds": config.rounds,
        "stages": stages,
        "gflops": rate / 1e9,
        "seconds": total,
        "bytes": sum(line.peak for line in lines),
        "disk": [_disk_row(line) for line in lines],
        "shortage": shortage(context, lines),
    }


def print_plan(work: dict[str, Any], console: Console) -> None:
    from selfalign.cli.show import print_table

    prompts = work["prompts"]
    console.print(f"[bold]{work['run']}[/bold] in {work['workspace']}: valid, nothing started")
    console.print(
        f"model {work['model']['path']}: {work['model']['parameters']:,} parameters, window {work['model']['window']}"
    )
    console.print(
        f"prompts: {prompts['training']} for training ({prompts['constrained']} with constraints, enough for "
        f"{prompts['rounds_without_repeats']} rounds without repeats), {prompts['held_out']} held out"
    )
    print_table(pa.Table.from_pylist(work["stages"]), console)
    if work["disk"]:
        sizes = ("peak", "kept", "free")
        disk = [{**row, **{name: shown(row[name]) for name in sizes}} for row in work["disk"]]
        print_table(pa.Table.from_pylist(disk), console)
    console.print(
        f"{work['rounds']} rounds: about {work['seconds'] / 60:.0f} minutes at this machine's {work['gflops']:.0f} GFLOP/s, "
        f"up to {shown(work['bytes'])} more on disk"
    )


def _disk_row(line: Need) -> dict[str, Any]:
    return {
        "on disk": line.what,
        "where": str(line.path),
        "peak": line.peak,
        "kept": line.kept,
        "free": free_bytes(line.path),
    }


def _held_out(config: RunConfig, found: Preflight, rate: float) -> list[dict[str, Any]]:
    settings = config.evaluate
    answers = len(found.held_out) * settings.samples
    tokens = answers * (settings.max_tokens or config.generate.max_tokens) * _MEAN_ANSWER_SHARE
    seconds = _seconds(tokens, found, rate, 2, _DECODE_SHARE)
    row = {"stage": "answer (M0)", "rows": answers, "tokens": round(tokens), "seconds": round(seconds)}
    return [row, {**row, "stage": "answer + evaluate"}]


def _gold(context: RunContext, found: Preflight, rate: float) -> list[dict[str, Any]]:
    if not calibrate.enabled(context.config):
        return []
    items = calibrate.run_items(context)
    characters = sum(2 * len(item.prompt) + len(item.better) + len(item.worse) for item in items)
    tokens = characters / _CHARACTERS_A_TOKEN if needs_model(context.config.judge) else 0.0
    return [_row("calibrate", 2 * len(items), tokens, _seconds(tokens, found, rate, 2, _READ_SHARE))]


def _round(config: RunConfig, context: RunContext, found: Preflight, rate: float) -> list[dict[str, Any]]:
    candidates = config.prompts.per_round * config.generate.candidates
    answer = config.generate.max_tokens * _MEAN_ANSWER_SHARE
    judged = candidates * (found.mean_prompt_tokens + answer) if needs_engine(context, config.rounds) else 0.0
    pairs = config.prompts.per_round
    trained = pairs * 2 * (found.mean_prompt_tokens + answer)
    epochs = getattr(config.train, "epochs", 1.0)
    rows = [
        _row("generate", candidates, candidates * answer, _seconds(candidates * answer, found, rate, 2, _DECODE_SHARE)),
        _row("judge", candidates, judged, _seconds(judged, found, rate, 2, _READ_SHARE)),
        _row("pair (at most)", pairs, 0, 0),
        # 6 a trained token, and 2 + 2 for the reference and the figures after training.
        _row("train", pairs, trained * epochs, _seconds(trained, found, rate, 6 * epochs + 4, _TRAIN_SHARE)),
    ]
    if any(config.meta_judges(round) for round in range(1, config.rounds + 1)):
        rows.insert(-1, _meta(config, context, found, rate))
    return rows


def _meta(config: RunConfig, context: RunContext, found: Preflight, rate: float) -> dict[str, Any]:
    """Every two judgements of a candidate in both orders."""
    settings, candidates = config.meta, config.prompts.per_round * config.generate.candidates
    written = [judge.written for judge in meta_judge.writing_judges(context, 1)]
    comparisons = min(candidates, settings.candidates) * sum(n * (n - 1) for n in written)
    text = settings.max_tokens * _MEAN_ANSWER_SHARE
    answer = config.generate.max_tokens * _MEAN_ANSWER_SHARE
    read = comparisons * (found.mean_prompt_tokens + answer + 2 * text)
    seconds = _seconds(read, found, rate, 2, _READ_SHARE)
    if settings.mode == "text":
        seconds += _seconds(comparisons * text, found, rate, 2, _DECODE_SHARE) - _PROCESS_SECONDS
    return _row("meta_judge (at most)", comparisons, read, seconds)


def _row(stage: str, rows: int, tokens: float, seconds: float) -> dict[str, Any]:
    return {"stage": stage, "rows": rows, "tokens": round(tokens), "seconds": round(seconds)}


def _seconds(tokens: float, found: Preflight, rate: float, flop_a_parameter: float, share: float) -> float:
    return _PROCESS_SECONDS + tokens * flop_a_parameter * found.model.parameters / (rate * share)


def _flops() -> float:
    """Matrix-product rate in FLOP/s, float32 on CPU or bfloat16 on a GPU; measured in well under a second."""
    import torch

    cuda = torch.cuda.is_available()
    size, repeats = (8192, 20) if cuda else (1024, 10)
    kind = {"device": "cuda", "dtype": torch.bfloat16} if cuda else {"device": "cpu", "dtype": torch.float32}
    left, right = torch.randn(size, size, **kind), torch.randn(size, size, **kind)
    left @ right

    def synchronise() -> None:
        if cuda:
            torch.cuda.synchronize()

    synchronise()
    started = time.perf_counter()
    for _ in range(repeats):
        left @ right
    synchronise()
    return float(repeats * 2 * size**3 / (time.perf_counter() - started))

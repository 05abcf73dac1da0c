"""What a run would do: rows, tokens, time and disk, before anything is started.

Rows and tokens are those of selfalign.work. Times are estimates from this machine's matrix-product rate, measured
in the precision that a stage computes in: 2 FLOP a parameter and token read, 6 trained (forward and backward). The shares
below say how much of that rate the stages reach. A training's optimizer steps come on top. A server's time, and that of a judge with a model of its own, is not in them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import pyarrow as pa
from rich.console import Console

from selfalign.config import RunConfig
from selfalign.disk.estimate import Need, needs, shortage
from selfalign.policies import round_table
from selfalign.preflight import Preflight, check, trainers
from selfalign.progress import Silent
from selfalign.rounds import STAGES
from selfalign.space import free_bytes, shown
from selfalign.speed import matrix_rate, optimizer_rate
from selfalign.stages import scanned
from selfalign.stages.context import RunContext
from selfalign.stages.engine import concrete, own_engine, served
from selfalign.store.store import Store
from selfalign.training.sizes import shapes, training_bytes
from selfalign.work import StageWork, run_work
from selfalign.workspace import Workspace

#: Share of the measured matrix-product rate that the stages reach (measured on 2 cores, float32).
_DECODE_SHARE, _READ_SHARE, _TRAIN_SHARE = 0.2, 0.4, 0.5
#: And that training reaches where its attention and its casts do not gain what its products gain (AVX512-BF16 and AMX).
_TRAIN_SHARES = {("cpu", "bfloat16"): 0.2}
#: To start a stage's process and load the model.
_PROCESS_SECONDS = 8.0


def estimate(config: RunConfig) -> dict[str, Any]:
    """Rows, tokens, seconds and bytes by stage, and what every judge does, in one of the ``rounds`` that are named.

    Raises:
        BadInput: the config cannot run; the same checks as a start makes.
    """
    workspace = Workspace(config.workspace_path())
    context = RunContext(config, workspace, Store(workspace.store_path), Silent())
    found = check(context)
    speed = _Speed(config, found.model.parameters)
    work = run_work(context, found)
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
            "left_out": dict(Counter(repeat.how for repeat in context.repeats)),
            "scan": scanned.in_words(context),
            "rounds_without_repeats": len(found.training) // config.prompts.per_round,
        },
        "engines": _engines(config),
        "rounds": config.rounds,
        "policy": round_table(config),
        "method": " or ".join(dict.fromkeys(trainer.method for trainer in trainers(config))) or None,
        "stages": _together((like.rounds, _stage_row(stage, speed)) for like in work for stage in like.stages),
        "judges": _together((like.rounds, row) for like in work for stage in like.stages for row in _judge_rows(stage)),
        "gflops": speed.flops / 1e9,
        "seconds": sum(len(like.rounds) * speed.seconds(stage) for like in work for stage in like.stages),
        "bytes": sum(line.peak for line in lines),
        "training_memory": _training_memory(config, found),
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
    for engine in work["engines"]:
        console.print(f"{engine['for']}: engine {engine['engine']}, as {engine['why']}")
    console.print(
        f"prompts: {prompts['training']} for training ({prompts['constrained']} with constraints, enough for "
        f"{prompts['rounds_without_repeats']} rounds without repeats), {prompts['held_out']} held out"
    )
    if prompts["left_out"]:
        console.print(f"left out as repeats: {left_out(prompts['left_out'])}")
    for line in prompts["scan"]:
        console.print(line, markup=False)
    console.print("what rounds train (t is the round, M0 the initial model):")
    policy = [{name.replace("_", " "): value for name, value in row.items()} for row in work["policy"]]
    print_table(_spoken(policy), console)
    console.print("what one of these rounds has to do, stage by stage:")
    print_table(_spoken(work["stages"]), console)
    if work["judges"]:
        console.print("what judges do in one of these rounds:")
        idle = [
            name for name in ("comparisons", "read", "written", "requests") if not any(r[name] for r in work["judges"])
        ]
        print_table(_spoken(work["judges"]).drop_columns(idle), console)
    if work["disk"]:
        sizes = ("peak", "kept", "free")
        disk = [{**row, **{name: shown(row[name]) for name in sizes}} for row in work["disk"]]
        print_table(pa.Table.from_pylist(disk), console)
    console.print(
        f"{work['rounds']} rounds: about {work['seconds'] / 60:.0f} minutes at this machine's {work['gflops']:.0f} GFLOP/s, "
        f"up to {shown(work['bytes'])} more on disk"
    )
    if work["training_memory"] is not None:
        console.print(
            f"training ({work['method']}) holds {shown(work['training_memory'])} of weights, gradients and optimizer state; "
            f"activations come on top, and grow with train.micro_batch_size"
        )


def left_out(counts: Mapping[str, int]) -> str:
    """Counts by kind of repeat, as people write them."""
    return ", ".join(f"{count} {how}" for how, count in counts.items())


def _engines(config: RunConfig) -> list[dict[str, str]]:
    """Which engine does what, and why that one."""
    given, own = config.generate.engine, own_engine(config.generate.engine)
    purposes = {"sampling for training": given, "the policy's own answers, judging": own}
    named = purposes if served(given) else {"sampling and judging": own}
    choices = {purpose: concrete(settings, config)[0] for purpose, settings in named.items()}
    return [{"for": purpose, "engine": choice.engine, "why": choice.why} for purpose, choice in choices.items()]


def _training_memory(config: RunConfig, found: Preflight) -> int | None:
    """Bytes of the largest; None for trainers from elsewhere, whose settings say nothing of it."""
    model = shapes(found.model_path)
    return max((training_bytes(trainer, model) for trainer in trainers(config)), default=None)


def _spoken(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{**row, "rounds": spoken(row["rounds"])} for row in rows])


def _disk_row(line: Need) -> dict[str, Any]:
    return {
        "on disk": line.what,
        "where": str(line.path),
        "peak": line.peak,
        "kept": line.kept,
        "free": free_bytes(line.path),
    }


def _stage_row(work: StageWork, speed: _Speed) -> dict[str, Any]:
    return {
        "stage": work.stage,
        "rows": work.rows,
        "tokens": speed.tokens(work),
        "seconds": round(speed.seconds(work)),
    }


def _judge_rows(work: StageWork) -> list[dict[str, Any]]:
    return [
        {"stage": work.stage, "judge": judge.judge, "judgements": judge.rows, "comparisons": judge.comparisons,
         "read": judge.read, "written": judge.sampled, "requests": judge.requests}
        for judge in work.judges
    ]  # fmt: skip


def _together(rows: Iterable[tuple[Sequence[int], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows that are the same in several rounds once, in the order in which a round has its stages."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    names: tuple[str, ...] = ()
    for rounds, row in rows:
        names = tuple(row)
        alike[tuple(row.values())] += rounds
    found = [{"rounds": sorted(rounds), **dict(zip(names, key, strict=True))} for key, rounds in alike.items()]
    return sorted(found, key=lambda row: STAGES.index(row["stage"]))


def spoken(rounds: Sequence[int]) -> str:
    """Ascending numbers as people write them: ``0, 2-5``."""
    runs: list[list[int]] = []
    for number in rounds:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


class _Speed:
    """Seconds of a stage on this machine; what it needs to know is measured when it is first asked for."""

    def __init__(self, config: RunConfig, parameters: int) -> None:
        from selfalign.engines.loading import choose_device, choose_dtype, read_cpu_flags

        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.dtype, self.device, parameters, read_cpu_flags())
        self._parameters = parameters
        self._matrix_rate = cache(partial(matrix_rate, self.device))
        self._optimizer_rate = cache(partial(optimizer_rate, self.device))

    @property
    def flops(self) -> float:
        """FLOP/s of matrix products as the engine computes them."""
        return self._matrix_rate(self.dtype)

    def tokens(self, work: StageWork) -> int:
        """Tokens that the stage samples, reads and trains, as they are laid out on this device."""
        return work.sampled + work.read + self._trained(work)

    def seconds(self, work: StageWork) -> float:
        # 2 FLOP a parameter and token sampled or read, 6 a token trained.
        dtype = self.dtype if work.precision is None else self._training_dtype(work.precision)
        train_share = _TRAIN_SHARES.get((self.device, dtype), _TRAIN_SHARE)
        read_share = _READ_SHARE if work.precision is None else train_share
        flop = 2 * work.sampled / _DECODE_SHARE + 2 * work.read / read_share + 6 * self._trained(work) / train_share
        seconds = _PROCESS_SECONDS * work.loads
        if flop:
            seconds += flop * self._parameters / self._matrix_rate(dtype)
        if work.updates:
            seconds += work.updates / self._optimizer_rate()
        return seconds

    def _trained(self, work: StageWork) -> int:
        return work.packed if self.device == "cpu" else work.trained

    def _training_dtype(self, precision: str) -> str:
        """As training's own settings have it: auto is bfloat16 on a GPU, float32 on a CPU."""
        if precision == "auto":
            return "float32" if self.device == "cpu" else "bfloat16"
        return precision

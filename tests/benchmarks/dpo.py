"""DPO on the same pairs in the same order: our trainer against TRL's DPOTrainer.

Tokens are those of prompt and completion, of both sides of each pair. "Steps" counts from the end of the first
optimizer step to the end of the last. "The whole job" is what a user waits for: the reference's log-probabilities, all
steps, and the written folder; with ours also its guards and final figures, which TRL has not. The loading of packages
is not counted. TRL is given texts, as its documentation shows it, and makes the same tokens of them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.corpus import Answered, answers, model_folder
from tests.benchmarks.measure import Measure, Row, Side, Stopwatch, paired, ratios

#: Hyperparameters that both sides are given.
_SETTINGS: dict[str, Any] = {"learning_rate": 1e-6, "batch": 8, "beta": 0.1, "warmup_ratio": 0.0}
#: Largest difference of a step's loss that two ways to compute it may have (float32).
_SAME_LOSS = 2e-3
PAIRS = 32
#: TRL's ways: as documented but for what a CPU needs, and the fastest that was found with the same results.
DOCUMENTED = {"micro_batch": 8, "precomputed": False, "checkpointing": True, "bf16": False}
BEST = {"micro_batch": 8, "precomputed": True, "checkpointing": False, "bf16": False}


def rows(work: Path, runs: int) -> list[Row]:
    """The table's lines about training."""
    same = {"work": str(work), "pairs": PAIRS}
    mine, documented, best = paired(
        [
            Side("our trainer", "dpo:ours", same),
            Side("TRL as documented", "dpo:trl_side", {**same, **DOCUMENTED}),
            Side("TRL at its best", "dpo:trl_side", {**same, **BEST}),
        ],
        runs,
    )
    unit, goal = "tokens/s", "at least 1.5"
    return [
        ratios("DPO steps, against TRL as documented", mine, documented, unit, note=_same(mine, documented), by=_steps),
        ratios("DPO steps, against TRL at its best", mine, best, unit, goal, _same(mine, best), _steps),
        ratios("DPO, the whole job, against TRL at its best", mine, best, unit, goal),
        ratios("DPO, peak memory, against TRL at its best", mine, best, "MiB", "at most 1.0", by=_memory),
    ]


def bfloat16_rows(work: Path, runs: int) -> list[Row]:
    """The table's line about training in mixed precision, for processors that are fast at it."""
    same = {"work": str(work), "pairs": PAIRS}
    mine, theirs = paired(
        [
            Side("our trainer, bfloat16", "dpo:ours", {**same, "precision": "bfloat16"}),
            Side("TRL at its best, bfloat16", "dpo:trl_side", {**same, **BEST, "bf16": True}),
        ],
        runs,
    )
    name = "DPO steps in bfloat16, against TRL at its best"
    return [ratios(name, mine, theirs, "tokens/s", "at least 1.5", by=_steps)]


def _steps(measure: Measure) -> float:
    return float(measure.check["later_tokens"]) / float(measure.check["later_seconds"])


def _memory(measure: Measure) -> float:
    return measure.memory_mib


def _same(ours: Sequence[Measure], peer: Sequence[Measure]) -> str:
    apart = max(abs(a - b) for a, b in zip(ours[0].check["losses"], peer[0].check["losses"], strict=True))
    if apart > _SAME_LOSS:
        raise AssertionError(f"the losses of the two sides differ by {apart}")
    return f"losses differ by {apart:.0e} at most"


def triples(work: Path, count: int) -> list[tuple[str, str, str]]:
    """(prompt as shown, chosen, rejected): two different answers to each prompt, both with text."""
    found: list[tuple[str, str, str]] = []
    rows: Sequence[Answered] = answers(work)
    for first in range(3):
        for row in rows:
            a, b = row.answers[first], row.answers[first + 1]
            if a.strip() and b.strip() and a != b and len(found) < count:
                found.append((row.shown, a, b))
    return found


def ours(work: str, pairs: int, precision: str = "float32", **more: Any) -> Measure:
    from transformers import AutoTokenizer

    from selfalign.protocols import TrainingJob
    from selfalign.training import pairwise_run  # noqa: F401  # torch and TRL are loaded before the clock starts
    from selfalign.training.pairwise import DPOTrainer
    from selfalign.types import PairExample

    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = [
        PairExample(f"pair-{i:05}", *_tokens(tokenizer, *triple), margin=1.0, weight=1.0)
        for i, triple in enumerate(triples(Path(work), pairs))
    ]
    config = DPOTrainer.Config(
        learning_rate=_SETTINGS["learning_rate"], batch_size=_SETTINGS["batch"], beta=_SETTINGS["beta"],
        warmup_ratio=_SETTINGS["warmup_ratio"], schedule="linear", order="as_given", precision=precision, **more,
    )  # fmt: skip
    scratch = Path(tempfile.mkdtemp(prefix="dpo-ours-"))
    try:
        clock = _Clock()
        job = TrainingJob(
            1, 0, folder, folder, scratch / "output", scratch / "scratch", pairs=examples,
            report=lambda done, total, metrics: clock.tick(),
        )  # fmt: skip
        (scratch / "scratch").mkdir()
        watch = Stopwatch()
        result = DPOTrainer(config).train(job)
        watch.stop()
    finally:
        shutil.rmtree(scratch)
    lengths = [2 * len(e.prompt_ids) + len(e.chosen_ids) + len(e.rejected_ids) for e in examples]
    return watch.measure(sum(lengths), clock.figures(lengths, [entry["loss"] for entry in result.history]))


class _Clock:
    """When each optimizer step ended."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def tick(self) -> None:
        self._ends.append(time.perf_counter())

    def figures(self, lengths: Sequence[int], losses: Sequence[float]) -> dict[str, Any]:
        """What a Measure's ``check`` holds; ``lengths`` are the pairs' tokens in the order of training."""
        later = sum(lengths[_SETTINGS["batch"] :])
        return {"losses": list(losses), "later_tokens": later, "later_seconds": self._ends[-1] - self._ends[0]}


def trl_side(
    work: str, pairs: int, micro_batch: int, precomputed: bool, checkpointing: bool, bf16: bool, **more: Any
) -> Measure:
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    class Ticks(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.tick()

    clock = _Clock()

    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = triples(Path(work), pairs)
    lengths = [
        2 * len(prompt) + len(chosen) + len(rejected)
        for prompt, chosen, rejected in (_tokens(tokenizer, *triple) for triple in found)
    ]
    scratch = Path(tempfile.mkdtemp(prefix="dpo-trl-"))
    try:
        watch = Stopwatch()
        args = trl.DPOConfig(
            output_dir=str(scratch), per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=_SETTINGS["batch"] // micro_batch, num_train_epochs=1,
            learning_rate=_SETTINGS["learning_rate"], beta=_SETTINGS["beta"], warmup_steps=0,
            lr_scheduler_type="linear", use_cpu=True, bf16=bf16, gradient_checkpointing=checkpointing,
            precompute_ref_log_probs=precomputed, train_sampling_strategy="sequential", logging_steps=1,
            save_strategy="no", report_to="none", disable_tqdm=True, seed=0, **more,
        )  # fmt: skip
        names = ("prompt", "chosen", "rejected")
        data = Dataset.from_dict({name: [t[i] for t in found] for i, name in enumerate(names)})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        trainer = trl.DPOTrainer(
            model=model, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[Ticks()]
        )
        trainer.train()
        trainer.save_model(str(scratch / "output"))
        watch.stop()
    finally:
        shutil.rmtree(scratch)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return watch.measure(sum(lengths), clock.figures(lengths, losses))


def _tokens(tokenizer: Any, prompt: str, chosen: str, rejected: str) -> tuple[tuple[int, ...], ...]:
    """Token ids of the prompt and of both completions with their end token, as TRL makes them of plain texts."""
    whole = [tokenizer(prompt + text + tokenizer.eos_token)["input_ids"] for text in (chosen, rejected)]
    before = tokenizer(prompt)["input_ids"]
    length = min(_shared(before, ids) for ids in whole)
    return tuple(before[:length]), tuple(whole[0][length:]), tuple(whole[1][length:])


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

"""A whole round by ``selfalign run`` against the same work by a plain script (plain_script.py): seconds of the clock.

Both answer held-out prompts with M0, sample candidates, judge them by logits, pair, train by DPO, and answer the
held-out prompts with M1; both from a cold start, with all that loading and (ours) Prefect, the store and the guards take.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.corpus import TEMPERATURE, TOP_P
from tests.benchmarks.measure import ROOT, Measure, Row, Side, paired, ratios

PROMPTS = 20


def rows(work: Path, runs: int) -> list[Row]:
    """The table's line about a round."""
    mine, script = paired(
        [Side("selfalign run", "whole_round:ours"), Side("plain script", "whole_round:script")],
        runs,
    )
    note = f"{PROMPTS} prompts, 4 candidates; pairs: {mine[0].check['pairs']} and {script[0].check['pairs']}"
    return [
        ratios("a whole round, against a plain script", mine, script, "s", "at most 0.6", note, lambda m: m.seconds)
    ]


def ours(prompts: int = PROMPTS) -> Measure:
    from selfalign.store.store import read_sql
    from tests.benchmarks import plain_script as same

    config = {
        "name": "bench", "seed": 1, "rounds": 1, "model": "smollm2-135m-instruct",
        "prompts": {"per_round": prompts, "languages": ["en"]},
        "generate": {
            "candidates": same.CANDIDATES, "temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": same.MAX_TOKENS
        },
        "judge": {"id": "rubric_logits", "rubric": same.RUBRIC},
        "train": {
            "id": "dpo", "learning_rate": same.LEARNING_RATE, "beta": same.BETA, "batch_size": same.TRAIN_BATCH,
            "schedule": "linear", "epochs": 1,
        },
        "evaluate": {"prompts": same.HELD_OUT, "log_ratio": False},
        "calibrate": {"enabled": "never"},
        "gates": [],
    }  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="round-ours-"))
    try:
        (folder / "run.yaml").write_text(json.dumps(config))  # JSON is YAML
        seconds = _timed([sys.executable, "-m", "selfalign", "run", "run.yaml"], folder)
        store = folder / "runs" / "bench" / "store.duckdb"
        found = read_sql(store, "SELECT candidates, judgements, pairs FROM round_summary WHERE round = 1").to_pylist()[
            0
        ]
        stages = read_sql(store, "SELECT round, stage, seconds FROM stages ORDER BY started_at").to_pylist()
    finally:
        shutil.rmtree(folder)
    check = {**found, "stages": {f"{s['round']} {s['stage']}": s["seconds"] for s in stages}}
    return Measure(prompts, seconds, check, _children_mib())


def script(prompts: int = PROMPTS) -> Measure:
    folder = Path(tempfile.mkdtemp(prefix="round-script-"))
    try:
        seconds = _timed([sys.executable, "-m", "tests.benchmarks.plain_script", str(folder), str(prompts)], ROOT)
        _, candidates, scores = json.loads((folder / "candidates.json").read_text("utf-8"))
    finally:
        shutil.rmtree(folder)
    pairs = sum(
        1 for own, answers in zip(scores, candidates, strict=True) if max(own) > min(own) and len(set(answers)) > 1
    )
    check = {"candidates": sum(map(len, candidates)), "judgements": sum(map(len, scores)), "pairs": pairs}
    return Measure(prompts, seconds, check, _children_mib())


def _timed(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {(done.stderr or done.stdout)[-2000:]}")
    return time.perf_counter() - started


def _children_mib() -> float:
    """The most memory of any one process that was started here, in MiB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

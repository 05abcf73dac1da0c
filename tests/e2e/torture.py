"""Random kill -9 of the whole process tree over whole runs; the result must not show it.

``make torture KILLS=200``: as many two-round runs as it takes, each killed again and again and then compared,
table by table and weight by weight, with an undisturbed run. Prints what it saw as it goes on.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from selfalign.identity import hash_weights
from tests.e2e.project import Project, prefect_server
from tests.tiny_model import make_tiny_model

TABLES = ("prompts", "candidates", "judgements", "pairs", "evaluations")
#: Everything that says when or how often rather than what.
_UNTIMED = "exclude (created_at)"


@dataclass
class Outcome:
    """What a run that was killed came to."""

    kills: int
    repeated_batches: int
    seconds: float


def tables(project: Project) -> dict[str, list[dict[str, object]]]:
    """Every row that must not depend on how often a run was stopped."""
    found = {name: project.sql(f"select * from {name} order by all") for name in TABLES}
    found["checkpoints"] = project.sql(f"select * {_UNTIMED} from checkpoints order by all")
    found["no_pair"] = project.sql(f"select * {_UNTIMED} from events where kind = 'no_pair' order by all")
    return found


def weights(project: Project) -> dict[int, str]:
    rows = project.sql("select round, path from checkpoints order by round")
    return {row["round"]: hash_weights(project.workspace / row["path"]) for row in rows}


def differences(calm: Project, killed: Project) -> list[str]:
    """Names of tables and models that differ; empty where a kill left no trace."""
    expected, found = tables(calm), tables(killed)
    wrong = [name for name in expected if expected[name] != found[name]]
    return wrong + (["weights"] if weights(calm) != weights(killed) else [])


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """kill -9 for the run and all its descendants at once, stage processes in their own session included."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
    process.wait()


def made_batches(project: Project) -> int:
    """Batches that stage processes began, counted in a trace that outlives kills."""
    trace = project.folder / "trace.log"
    return len(trace.read_bytes().splitlines()) if trace.exists() else 0


def disturbed_run(
    project: Project, kills: int, moments: random.Random, whole: float, say: Callable[[str], None]
) -> Outcome:
    """Start, kill at a random moment, start again ... until ``kills`` are done or the run is; then let it end.

    Raises:
        AssertionError: a start ended otherwise than by a kill or in success.
    """
    done, started = 0, time.monotonic()
    while done < kills:
        process = project.start("run", "run.yaml")
        try:
            # A start-up's time and more, so that most starts get work done and are cut anywhere in it.
            process.wait(timeout=moments.uniform(0.02, 0.4) * whole)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            done += 1
            continue
        assert process.returncode == 0, (project.folder / "start.log").read_text()[-3000:]
        break
    final = project.selfalign("run", "run.yaml")
    assert final.returncode == 0, final.stderr
    needed = project.sql("select sum(rows_out) n from stages where stage in ('generate', 'answer')")
    say(f"{done} kills, {needed[0]['n']} answers in the end, {time.monotonic() - started:.0f} s")
    return Outcome(done, 0, time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="the 135M model and a smaller number of prompts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="selfalign-torture-") as scratch, prefect_server(Path(scratch)) as api:
        return torture(Path(scratch), api, arguments.kills, arguments.seed, embedded=arguments.embedded)


def torture(folder: Path, api: str, kills: int, seed: int, *, embedded: bool = False) -> int:
    """Exit code 0 where every run's tables and weights equal the undisturbed one's."""
    model = Path("smollm2-135m-instruct") if embedded else make_tiny_model(folder / "model")
    calm = Project(folder / "calm", model, api)
    calm.write(**(EMBEDDED if embedded else {}))
    started = time.monotonic()
    done = calm.selfalign("run", "run.yaml", timeout=3600)
    if done.returncode != 0:
        print(done.stderr)
        return 1
    whole, batches = time.monotonic() - started, made_batches(calm)
    print(f"undisturbed: {whole:.0f} s, {batches} batches", flush=True)
    moments, total, repeated, number = random.Random(seed), 0, 0, 0
    while total < kills:
        number += 1
        killed = Project(folder / f"killed-{number}", model, api)
        killed.write(**(EMBEDDED if embedded else {}))
        outcome = disturbed_run(
            killed, min(kills - total, 10), moments, whole, lambda text: print(f"run {number}: {text}", flush=True)
        )
        again = made_batches(killed) - batches
        total, repeated = total + outcome.kills, repeated + again
        wrong = differences(calm, killed)
        print(f"run {number}: {again} batches made again, {'EQUAL' if not wrong else 'DIFFERENT: ' + ', '.join(wrong)}",
              flush=True)  # fmt: skip
        if wrong or again > outcome.kills:
            return 1
        if total < kills:
            subprocess.run(["rm", "-rf", str(killed.folder)], check=True)
    print(f"{total} kills in {number} runs: tables and weights equal; {repeated} batches made again in all")
    return 0


#: A round that the 135M model can be killed in for some minutes.
EMBEDDED = {
    "rounds": 2,
    "prompts": {"per_round": 8, "only_constrained": True, "languages": ["en"]},
    "generate": {
        "candidates": 3, "temperature": 0.8, "top_p": 0.95, "max_tokens": 32,
        "engine": {"id": "transformers", "max_rows": 12},
    },
    "evaluate": {"prompts": 12},
    "train": {"id": "dpo", "learning_rate": 2e-5, "batch_size": 4, "micro_batch_size": 2, "nll_weight": 0.5},
}  # fmt: skip

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.exit(main())

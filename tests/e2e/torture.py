"""Random kill -9 of the whole process tree over whole runs; the result must not show it.

``make torture KILLS=200``: as many two-round runs as it takes, each killed again and again and then compared,
table by table and weight by weight, with an undisturbed run. Prints what it saw as it goes on.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from selfalign.identity import hash_weights
from tests.e2e.project import Project, prefect_server
from tests.tiny_model import make_tiny_model

TABLES = (
    "prompts", "candidates", "judgements", "selections", "pairs", "reviews", "overrides", "replays", "evaluations"
)  # fmt: skip
#: When, and where: neither is what.
_WHAT = "exclude (created_at, path)"


def tables(project: Project) -> dict[str, list[dict[str, object]]]:
    """Every row that must not depend on how often a run was stopped."""
    found = {name: project.sql(f"select * from {name} order by all") for name in TABLES}
    found["checkpoints"] = project.sql(f"select * {_WHAT} from checkpoints order by all")
    found["no_pair"] = project.sql("select * exclude (created_at) from events where kind = 'no_pair' order by all")
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


def batches_begun(project: Project) -> int:
    """Batches that stage processes of all starts began; the trace outlives kills."""
    trace = project.folder / "trace.log"
    return trace.read_text().split().count("batch_begun") if trace.exists() else 0


def disturb(project: Project, kills: int, moments: random.Random, whole: float) -> int:
    """Start, kill at a random moment, start again ... until ``kills`` are done or the run is; then let it end.

    Returns how often it was killed.

    Raises:
        AssertionError: a start ended otherwise than by a kill or in success.
    """
    done = 0
    while done < kills:
        process = project.start("run", "run.yaml")
        try:
            # From too early for anything to be done to about half a run, so that every part of one is cut.
            process.wait(timeout=moments.uniform(0.05, 0.5) * whole)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            done += 1
            continue
        assert process.returncode == 0, (project.folder / "start.log").read_text()[-3000:]
        break
    final = project.selfalign("run", "run.yaml", timeout=3600)
    assert final.returncode == 0, final.stderr
    return done


def torture(folder: Path, model: Path, api: str, kills: int, seed: int, **settings: Any) -> None:
    """Runs killed ``kills`` times in all, each compared with an undisturbed one.

    Raises:
        AssertionError: a table or a model differs, or a kill cost more than one batch.
    """
    calm = Project(folder / "calm", model, api)
    calm.write(**settings)
    started = time.monotonic()
    done = calm.selfalign("run", "run.yaml", timeout=3600)
    assert done.returncode == 0, done.stderr
    whole, batches = time.monotonic() - started, batches_begun(calm)
    print(f"undisturbed: {whole:.0f} s, {batches} batches", flush=True)
    moments, total, repeated, number = random.Random(seed), 0, 0, 0
    while total < kills:
        number += 1
        killed = Project(folder / f"killed-{number}", model, api)
        killed.write(**settings)
        here = disturb(killed, kills - total, moments, whole)
        again = batches_begun(killed) - batches
        total, repeated = total + here, repeated + again
        wrong = differences(calm, killed)
        print(f"run {number}: {here} kills, {again} batches begun again, {'DIFFERENT: ' if wrong else 'equal'}"
              f"{', '.join(wrong)}", flush=True)  # fmt: skip
        assert not wrong, f"run {number} differs in {wrong}; it is in {killed.folder}"
        assert 0 <= again <= here
        shutil.rmtree(killed.folder)
    print(f"{total} kills in {number} runs: tables and weights equal; {repeated} batches begun again in all")


#: Two rounds that keep the 135M model busy for some minutes.
EMBEDDED = {
    "prompts": {"per_round": 8, "only_constrained": True, "languages": ["en"]},
    "generate": {
        "candidates": 3, "temperature": 0.8, "top_p": 0.95, "max_tokens": 32,
        "engine": {"id": "transformers", "max_rows": 12, "max_num_seqs": 5},
    },
    "evaluate": {"prompts": 12},
    "train": {"id": "dpo", "learning_rate": 2e-5, "batch_size": 4, "micro_batch_size": 2, "nll_weight": 0.5},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="the 135M model instead of the tiny one")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="selfalign-torture-"))
    home = folder / "prefect"
    home.mkdir()
    with prefect_server(home) as api:
        if arguments.embedded:
            model, settings = Path("smollm2-135m-instruct"), EMBEDDED
        else:
            model, settings = make_tiny_model(folder / "model"), {}
        torture(folder, model, api, arguments.kills, arguments.seed, **settings)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Every benchmark side by side with its peers: ``python -m tests.benchmarks [--only judging,dpo] [--pairs 5]``.

Prints a table and writes tests/benchmarks/results.json (growth: growth.json and growth.svg). See docs/benchmarks.md.
Exit code 1 where a side failed; a goal that is missed is said in the table and changes no exit code.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks import corpus, dpo, generation, growth, judging, machine, store, table, whole_round
from tests.benchmarks.measure import Row, SideFailed


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.table:
        print(table.markdown())
        return 0
    work = options.work or Path(tempfile.mkdtemp(prefix="selfalign-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    subjects: dict[str, Callable[[], list[Row]]] = {
        "generation": partial(generation.rows, work, options.pairs, options.vllm_python),
        "fixed_batches": partial(generation.fixed_rows, work, options.pairs),
        "judging": partial(judging.rows, work, options.pairs),
        "dpo": partial(dpo.rows, work, options.pairs),
        "dpo_bfloat16": partial(dpo.bfloat16_rows, work, options.pairs),
        "round": partial(whole_round.rows, work, options.pairs),
        "store": partial(store.rows, work, options.pairs, options.candidates),
    }
    known = [*subjects, "growth"]
    wanted = options.only.split(",") if options.only else known
    if unknown := sorted(set(wanted) - set(known)):
        print(f"--only: {unknown[0]} is no benchmark; known: {', '.join(known)}", file=sys.stderr)
        return 2
    found, failed = [], False
    here = machine.describe()
    try:
        if {"judging", "dpo", "dpo_bfloat16", "growth"} & set(wanted):
            corpus.answers(work)
        for name in wanted:
            started = time.perf_counter()
            print(f"{name}:", file=sys.stderr, flush=True)
            try:
                if name == "growth":
                    table.keep_growth(growth.curves(work), here)
                else:
                    rows = subjects[name]()
                    found += rows
                    table.keep(rows, here)
            except (SideFailed, AssertionError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    finally:
        if options.work is None:
            shutil.rmtree(work)
    if found:
        table.show(found, here)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="some of docs/benchmarks.md's subjects, with commas; all by default")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--vllm-python", help="interpreter of an environment that has vLLM (docs/vllm.md)")
    parser.add_argument("--candidates", type=int, default=store.CANDIDATES, help="of the large store (10,000,000)")
    parser.add_argument("--table", action="store_true", help="only print results.json as Markdown")
    parser.add_argument("--work", type=Path, help="folder for what the sides share, kept; a temporary one by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())

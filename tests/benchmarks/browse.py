"""How long pages take on a large store: ``python -m tests.benchmarks.browse [--candidates 1000000] [--folder DIR]``.

Makes the store once (``--folder`` keeps it), warms the file, then asks for every kind of page and prints a JSON line
each: the median and the longest of the requests in milliseconds, by the clock, and the processor time of one, all
threads together. Exit code 1 where a page's median is above 200 ms; on a machine that does other work only the processor
time says something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.testclient import TestClient

from selfalign.browse.access import access_for
from selfalign.browse.app import make_app
from selfalign.store.store import Store
from selfalign.workspace import Workspace

LIMIT_MS, REPEATS, VOCABULARY = 200.0, 7, 2000
_WORD = "substr(md5((hash({seed} * 1000 + k) % {vocabulary})::VARCHAR), 1, 3 + (hash(k) % 6)::INTEGER)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as aside:
        workspace = Workspace(asked.folder or Path(aside))
        workspace.path.mkdir(parents=True, exist_ok=True)
        if not workspace.store_path.exists():
            make_store(workspace.store_path, asked.candidates)
        return measure(workspace)


def measure(workspace: Workspace) -> int:
    app = make_app(workspace, access_for("127.0.0.1", 80, [], token=False), "bench")
    client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
    found = Store(workspace.store_path).query(
        "SELECT pair_id, prompt_id, chosen_id FROM pairs ORDER BY hash(pair_id) LIMIT 1"
    ).to_pylist()[0]  # fmt: skip
    pages = {
        "rounds": "/", "pairs": "/pairs", "pairs, a later page": "/pairs?sort=margin_high&after=3.5~8",
        "pairs by round and margin": "/pairs?round=2&min_margin=3.2&sort=margin_low",
        "pairs by language and category": "/pairs?language=de&category=code", "pairs not reviewed": "/pairs?review=none",
        "pairs whose prompt contains": "/pairs?q=c4ca", "one pair": f"/pairs/{found['pair_id']}",
        "one prompt": f"/prompts/{found['prompt_id']}", "one answer": f"/candidates/{found['chosen_id']}",
        "prompts": "/prompts?language=zh", "answers": "/candidates?round=3&min_length=60", "judgements that failed":
        "/judgements?outcome=parse_error", "search, a frequent word": "/candidates?q=c4ca", "search, a word that is nowhere":
        "/candidates?q=nowhere", "reviews": "/reviews", "pairs by length": "/pairs?min_length=140",
        "pairs by outcome": "/pairs?outcome=parse_error", "answers by outcome": "/candidates?outcome=parse_error",
        "sql: count of answers by round": "/sql?q=select+round,+count(*)+from+candidates+group+by+round",
    }  # fmt: skip
    failed = False
    print(json.dumps({"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}))
    for name, path in pages.items():
        took, cpu = [], time.process_time()
        for _ in range(REPEATS):
            begun = time.perf_counter()
            answer = client.get(path)
            took.append(1000 * (time.perf_counter() - begun))
            assert answer.status_code == 200, answer.text
        median = statistics.median(took)
        failed |= median > LIMIT_MS
        print(json.dumps({
            "page": name, "median_ms": round(median), "longest_ms": round(max(took)),
            "cpu_ms": round(1000 * (time.process_time() - cpu) / REPEATS),
        }), flush=True)  # fmt: skip
    return int(failed)


def make_store(path: Path, candidates: int) -> None:
    """Four rounds; four answers of about 60 words a prompt, a vote on each, a pair a prompt."""
    prompts = candidates // 4
    store = Store(path)
    store.create()
    store.put_run("large", seed=1, config="{}", config_hash="", environment="{}", version="0")
    for round in range(5):
        store.put_round(round, status="done")
    of_round = f"(1 + i * 4 // {prompts})::INTEGER"

    def text(seed: str, count: int) -> str:
        word = _WORD.format(seed=seed, vocabulary=VOCABULARY)
        return f"array_to_string(list_transform(range({count}), lambda k: {word}), ' ')"

    with store.write() as transaction:
        for sql in (
            f"INSERT INTO prompts BY NAME SELECT md5('p' || i) AS prompt_id, {of_round} AS round, 'train' AS split, "
            f"{text('i', 15)} AS text, ['en', 'de', 'zh'][1 + i % 3] AS language, ['qa', 'code'][1 + i % 2] AS category, "
            f"'made' AS origin, []::VARCHAR[] AS instruction_id_list, '[]' AS kwargs FROM range({prompts}) t(i)",
            f"INSERT INTO candidates BY NAME SELECT md5('c' || n) AS candidate_id, md5('p' || i) AS prompt_id, {of_round} "
            f"AS round, 'train' AS split, (n % 4)::INTEGER AS sample_idx, 'w0' AS weights_hash, 'made' AS engine, 0.7 AS "
            f"temperature, 1.0 AS top_p, 0 AS top_k, 200 AS max_tokens, n AS seed, {text('n', 60)} AS text, "
            f"list_transform(range(48), lambda k: (hash(n + k) % 49152)::INTEGER) AS token_ids, "
            f"(48 + hash(n) % 100)::INTEGER AS n_tokens, 20 AS n_prompt_tokens, 'stop' AS finish_reason, 2 AS "
            f"end_token_id, -10.5 AS logprob FROM (SELECT range AS n, range // 4 AS i FROM range({candidates}))",
            f"INSERT INTO judgements BY NAME SELECT md5('j' || n) AS judgement_id, md5('c' || n) AS candidate_id, "
            f"{of_round} AS round, 'rubric' AS judge, 'h' AS judge_hash, 'w0' AS weights_hash, 0 AS sample_idx, CASE WHEN "
            f"n % 20 > 0 THEN (hash(n) % 500) / 100 END AS score, CASE WHEN n % 20 > 0 THEN 'ok' ELSE 'parse_error' END AS "
            f"outcome, 'I give it ' || md5(n::VARCHAR) AS raw, 5 AS seed, '{{}}' AS detail "
            f"FROM (SELECT range AS n, range // 4 AS i FROM range({candidates}))",
            f"INSERT INTO pairs BY NAME SELECT md5('pair' || i) AS pair_id, md5('p' || i) AS prompt_id, {of_round} AS round, "
            f"md5('c' || (4 * i)) AS chosen_id, md5('c' || (4 * i + 3)) AS rejected_id, 4 + (hash(i) % 100) / 100 AS "
            f"chosen_score, 1.0 AS rejected_score, 3 + (hash(i) % 100) / 100 AS margin, 'rubric' AS judge, 'max_min' AS "
            f"builder, 1 AS n_votes, 1.0 AS weight FROM range({prompts}) t(i)",
        ):  # fmt: skip
            transaction.execute(sql)


if __name__ == "__main__":
    sys.exit(main())

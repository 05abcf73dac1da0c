"""A run's folder with rows of every kind that is exported, written without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfalign.config import validate_config
from selfalign.identity import content_id
from selfalign.store.store import Store
from selfalign.types import Lesson, Ranking, UnaryLabel
from selfalign.workspace import Workspace
from tests.store.rows import (
    candidate,
    checkpoint,
    evaluation,
    judgement,
    judgement_pair,
    pair,
    prompt,
    replay,
)

PROMPTS = 6
#: A line that a terminal must not obey, quotes, Chinese: whatever a text may hold.
ODD = 'He said: "你好"\x1b[2J\n\n<|im_end|> {{ x }} \u2028 end'


def make_run(folder: Path, **config: Any) -> Workspace:
    """Two rounds: six prompts each with a pair, a label of either kind, a ranking, votes, lessons, a demonstration."""
    workspace = Workspace(folder)
    workspace.create()
    settings = {
        "name": "made",
        "rounds": 2,
        "seed": 7,
        "workspace": str(folder),
        "generate": {"system_prompt": "Be brief."},
    }
    checked = validate_config({**settings, **config}, "test")
    store = Store(workspace.store_path)
    store.create()
    environment = {"packages": {"trl": "1.16.0", "torch": "2.13.0"}}
    store.put_run(
        "made", seed=7, config=json.dumps(checked.snapshot()), config_hash=checked.config_hash(),
        environment=json.dumps(environment), version="0.1.0",
    )  # fmt: skip
    store.put_round(0, weights_hash="w0", status="done")
    rows: list[Any] = [
        prompt("held", split="held_out", round=0, text="Never show this."),
        candidate("ch", "held", round=0, split="held_out"),
    ]
    for round in (1, 2):
        store.put_round(round, parent_hash=f"w{round - 1}", weights_hash=f"w{round}", status="done")
        rows.append(checkpoint(f"k{round}", round=round, weights_hash=f"w{round}", parent_id=f"w{round - 1}"))
        for number in range(PROMPTS):
            rows += _of_prompt(round, number)
    rows += [
        replay("again", example_id="pair-1-0"),
        evaluation("judge_pairwise_accuracy", 0.75, split="gold_test", low=0.5, high=0.9, n=40, round=1),
        _lesson(1), _lesson(2),
    ]  # fmt: skip
    store.insert(rows)
    return workspace


def _of_prompt(round: int, number: int) -> list[Any]:
    key = f"p{number}"
    good, bad = f"c{round}-{number}-good", f"c{round}-{number}-bad"
    answer = f"Known answer {number}." if number == 5 else None
    text = ODD if number == 0 else f"Say something about number {number}."
    common = {"round": round, "weights_hash": f"w{round - 1}"}
    return [
        prompt(content_id(key), round=round, text=text, language="zh" if number == 0 else "en", answer=answer, origin=f"p.jsonl:{number}"),
        candidate(good, content_id(key), text=ODD if number == 0 else f"Good {round} {number}", **common),
        candidate(bad, content_id(key), text=f"Bad {round} {number}", sample_idx=1, finish_reason="length" if number == 1 else "stop", **common),
        judgement(f"j-{good}", good, round=round, score=4.0),
        judgement(f"j-{bad}", bad, round=round, score=None, outcome="parse_error", raw="?"),
        pair(f"pair-{round}-{number}", good, bad, content_id(key), round=round),
        judgement_pair(f"jp-{round}-{number}", round=round, candidate_id=good, chosen_id=f"j-{good}", rejected_id=f"j-{bad}", messages=_ASKED),
        UnaryLabel(f"u-{round}-{number}", content_id(key), round, good, True, 4.0, "threshold", 1.0),
        UnaryLabel(f"v-{round}-{number}", content_id(key), round, bad, False, 1.0, "threshold", 1.0),
        Ranking(f"r-{round}-{number}", content_id(key), round, (good, bad), (4.0, 1.0), "rubric", "ranking", 1.0),
    ]  # fmt: skip


_ASKED = json.dumps([{"role": "system", "content": "You judge."}, {"role": "user", "content": "Is it good?"}])


def _lesson(number: int) -> Lesson:
    return Lesson(
        f"lesson-{number}",
        1,
        "judge",
        "gold",
        f"gold-{number}",
        "rubric",
        "h",
        _ASKED,
        "Score: ",
        str(number),
        False,
        1.0,
    )

"""A store with something for every part of a report, made of rows: no model runs."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from selfalign.reviews import append, make_review
from selfalign.store.store import Store
from selfalign.types import Evaluation, Row
from selfalign.workspace import Workspace
from tests.store.rows import candidate, checkpoint, evaluation, event, judgement, override, pair, prompt, review

#: Would run, load, or end its element, wherever it stood unescaped.
HOSTILE = """</script><script>document.documentElement.dataset.hacked = 1</script><img src=x onerror="document.documentElement.dataset.hacked=2"> <!-- {{ 7*7 }} '"&<b>\u2028\x1b[2J"""
_OUTCOMES = ("ok", "ok", "ok", "parse_error", "truncated")
_SHARES = {"pass_rate_strict": 0.25, "pass_rate_loose": 0.28, "pass_rate_strict_instruction": 0.3, "truncated_share": 0.2,
           "empty_share": 0.0, "distinct_1": 0.2, "distinct_2": 0.5, "distinct_3": 0.7, "self_bleu": 0.15}  # fmt: skip


def make_workspace(
    folder: Path, store: Path, name: str = "made", *, rounds: int = 3, better: float = 0.03
) -> Workspace:
    """A run of ``rounds`` rounds of pairs, with a branch and gates. ``store`` is an empty store to copy."""
    workspace = Workspace(folder / name)
    workspace.path.mkdir(parents=True)
    workspace.store_path.write_bytes(store.read_bytes())
    made = Store(workspace.store_path)
    config = {"name": name, "seed": 7, "model": "tiny", "judge": {"id": "weighted"}, "train": {"beta": better}}
    made.put_run(
        name, seed=7, config=json.dumps(config), config_hash="c", environment=json.dumps({"python": "3.11", "cpu": HOSTILE}),
        version="0.1.0",
    )  # fmt: skip
    for t in range(rounds + 1):
        with made.write():
            made.put_round(t, weights_hash=f"w{t}", parent_hash=f"w{t - 1}" if t else None, trainer="dpo" if t else None,
                           reference_hash=f"w{t - 1}" if t else None, status="running")  # fmt: skip
            for stage, rows in (
                {"generate": 12, "judge": 24, "pair": 3, "train": 1}.items() if t else {"answer": 4}.items()
            ):
                made.start_stage(t, stage, "f")
                made.finish_stage(t, stage, "f", rows_in=rows, rows_out=rows)
            made.insert([*_figures(t, better), *(_round(t) if t else []), *_held_out(t), _decision(t)])
            made.put_round(t, status="done")
    with made.write() as transaction:
        transaction.execute(
            "INSERT INTO branches (branch, from_round, from_stage, reason, detail, config) VALUES "
            "('b1', 2, 'train', 'config', 'train.beta 0.1 -> 0.3', '{}')"
        )
        transaction.execute(
            "INSERT INTO archived_evaluations BY NAME SELECT 'b1' AS branch, 'train' AS of_stage, * REPLACE "
            "(value - 0.05 AS value, low - 0.05 AS low, high - 0.05 AS high) FROM evaluations WHERE round = 2"
        )
    made.insert([
        review("v1", pair_id="pair-1-0", decision="accept"), review("v2", pair_id="pair-1-1", decision="flip"),
        review("v3", pair_id="pair-2-0", round=2, decision="accept"), override("o1", round=1, pair_id="pair-1-1", review_id="v2"),
        override("o2", round=2, pair_id="pair-1-1", review_id="v2"),
    ])  # fmt: skip
    append(workspace.reviews, make_review("pair-2-1", 2, "reject", "", "me", datetime.now(UTC)))
    return workspace


def _figures(t: int, better: float) -> list[Evaluation]:
    found = [_figure(t, name, start + better * t) for name, start in _SHARES.items()]
    found.append(_figure(t, "mean_length_tokens", 40.0 - 3 * t, wide=3))
    for judge, split in (("weighted", "gold_test"), ("rubric_logits", "gold_test/rubric_logits-abcd1234")):
        kinds = {kind: {"value": 0.5 + better * t, "low": 0.4, "high": None, "n": 8} for kind in ("empty", "off_topic")}
        detail = json.dumps({"judge": judge, "by_kind": kinds})
        found.append(_figure(t, "judge_pairwise_accuracy", 0.6 + better * t, split=split, detail=detail))
        found.append(_figure(t, "judge_length_bias", -0.1 + better * t, split=split, detail=detail))
    if t:
        found += [_figure(t, "pass_rate_delta_vs_m0", better * t), _figure(t, "win_rate_vs_previous", 0.55),
                  _figure(t, "lc_win_rate_vs_previous", 0.52), _figure(t, "log_ratio_vs_m0", 1.5 * t),
                  _figure(t, "resample_acceptance_rate", 0.4, split="train"),
                  _figure(t, "resample_effective_size", 2.5, split="train")]  # fmt: skip
        for name, value in {
            "chosen_displacement": -0.5 * t,
            "rejected_displacement": -2.0 * t,
            "reward_accuracy": 0.8,
        }.items():
            found.append(evaluation(name, value, round=t, split="train"))
    found.append(evaluation("judge_drift", math.nan, round=t))
    return found


def _figure(t: int, metric: str, value: float, *, wide: float = 0.05, **changes: Any) -> Evaluation:
    return evaluation(metric, value, round=t, low=value - wide, high=value + wide, **changes)


def _round(t: int) -> list[Row]:
    """Four prompts with three candidates each; three of them give a pair."""
    rows: list[Row] = []
    for p in range(4):
        name = f"p{p}"
        rows.append(prompt(name, round=t, text=f"Write about {HOSTILE if p == 0 else name}."))
        for c in range(3):
            mine = f"{name}-{t}-{c}"
            text = f"{'A short' if c else 'One long'} answer number {c} of round {t}, {HOSTILE if p == 0 else 'plain'}."
            rows.append(
                candidate(mine, name, round=t, sample_idx=c, weights_hash=f"w{t - 1}", text=text, n_tokens=20 + c)
            )
            rows.append(
                judgement(f"{mine}-v", mine, round=t, judge="verifier", judge_hash="v", weights_hash=None, score=c % 2)
            )
            for v, judge in enumerate(("weighted", "rubric_logits")):
                outcome = _OUTCOMES[(p + c + t + v) % len(_OUTCOMES)]
                rows.append(judgement(f"{mine}-{v}", mine, round=t, judge=judge, judge_hash=judge, outcome=outcome,
                                      score=(c + p / 4) if outcome == "ok" else None))  # fmt: skip
        if p < 3:
            rows.append(pair(f"pair-{t}-{p}", f"{name}-{t}-2", f"{name}-{t}-0", name, round=t, judge="weighted"))
        else:
            rows.append(event(f"no-pair-{t}", round=t, subject_id=name, message="all_tied"))
    rows.append(checkpoint(f"k{t}", round=t, weights_hash=f"w{t}", config='{"learning_rate": 0.001, "beta": 0.1}'))
    return rows


#: Whether M_t's answers to the held-out prompts h0, h1 ... pass: M1 gains h1, M2 loses it and h0, M3 gains h2.
_PASSED = ("100", "110", "000", "001")


def _held_out(t: int) -> list[Row]:
    rows: list[Row] = []
    for number, passed in enumerate(_PASSED[min(t, len(_PASSED) - 1)]):
        name, mine = f"h{number}", f"h{number}-{t}"
        if t == 0:
            rows.append(prompt(name, round=0, split="held_out", text=f"Without commas: {HOSTILE if number else name}"))
        detail = {"ids": ["punctuation:no_comma"], "strict": [passed == "1"]}
        rows += [
            candidate(mine, name, round=t, split="held_out", weights_hash=f"w{t}", text=f"M{t} says {HOSTILE}", n_tokens=20),
            judgement(f"{mine}-v", mine, round=t, judge="verifier", judge_hash="v", weights_hash=None, score=int(passed),
                      detail=json.dumps(detail)),
        ]  # fmt: skip
    return rows


def _decision(t: int) -> Row:
    detail = {"rule": "judge_accuracy", "figure": "judge_pairwise_accuracy", "verdict": "fail" if t == 2 else "pass",
              "done": "continue" if t == 2 else None, "value": 0.6, "low": 0.5, "threshold": 0.5, "gate": 0, "n": 10,
              "action": "continue", "high": None, "remedy": None}  # fmt: skip
    return event(
        f"gate-{t}", round=t, stage="gate", kind="gate", message=f"held against {HOSTILE}", detail=json.dumps(detail)
    )

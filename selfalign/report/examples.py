"""A few texts of each round to read: what it trained on (pairs, labels, or the ends of rankings), and held-out answers that
got better or worse."""

from __future__ import annotations

from typing import Any

from selfalign.report.figures import Example, Side
from selfalign.store.snapshot import Snapshot

#: Examples are shown of so many rounds, the last ones.
_ROUNDS = 3
#: Drawn in order of id: ids are hashes, so that these are neither the best nor the worst. Drawn before texts are joined.
_PAIRS = """
WITH drawn AS (
    SELECT pair_id FROM pairs
    WHERE round IN (SELECT DISTINCT round FROM pairs ORDER BY round DESC LIMIT $rounds)
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY pair_id) <= $each
)
SELECT
    round, prompt, chosen, rejected, chosen_score, rejected_score, margin, judge, builder, chosen_tokens,
    rejected_tokens, pair_id
FROM pair_text
WHERE pair_id IN (SELECT pair_id FROM drawn)
ORDER BY round DESC, pair_id
"""
_LABELS = """
WITH drawn AS (
    SELECT round, prompt_id FROM unary_labels
    WHERE round IN (SELECT DISTINCT round FROM unary_labels ORDER BY round DESC LIMIT $rounds)
    GROUP BY round, prompt_id
    -- Prompts that have an answer of either kind come first.
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY count(DISTINCT label) DESC, prompt_id) <= $each
)
SELECT
    round,
    prompt_id,
    any_value(prompt) AS prompt,
    label,
    min_by(answer, label_id) AS answer,
    min_by(score, label_id) AS score,
    min_by(n_tokens, label_id) AS n_tokens,
    any_value(builder) AS builder
FROM label_text
WHERE (round, prompt_id) IN (SELECT (round, prompt_id) FROM drawn)
GROUP BY round, prompt_id, label
ORDER BY round DESC, prompt_id, label DESC
"""
_RANKINGS = """
WITH drawn AS (
    SELECT ranking_id FROM rankings
    WHERE round IN (SELECT DISTINCT round FROM rankings ORDER BY round DESC LIMIT $rounds)
    QUALIFY row_number() OVER (PARTITION BY round ORDER BY ranking_id) <= $each
)
SELECT round, prompt, place, places, answer, score, judge, builder, n_tokens, ranking_id
FROM ranking_text
WHERE ranking_id IN (SELECT ranking_id FROM drawn) AND place IN (1, places)
ORDER BY round DESC, ranking_id, place
"""
#: As many of either kind where there are; ids of prompts are hashes, too.
_CHANGES = """
WITH recent AS (
    SELECT * FROM held_out_changes
    WHERE round IN (SELECT DISTINCT round FROM held_out_changes ORDER BY round DESC LIMIT $rounds)
),
-- The first of either kind, then the second ...: half of what is shown is better, and half worse.
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY round, change ORDER BY prompt_id, sample_idx) AS place FROM recent
)
SELECT * FROM numbered
QUALIFY row_number() OVER (PARTITION BY round ORDER BY place, change) <= $each
ORDER BY round DESC, change, place
"""


def read_changes(store: Snapshot, each: int) -> list[Example]:
    """At most ``each`` held-out answers of each of the last rounds that pass where the one before did not, or the reverse."""
    if not each or not store.columns("held_out_changes"):
        return []
    return [_change(row) for row in store.rows(_CHANGES, {"rounds": _ROUNDS, "each": each})]


def _change(row: dict[str, Any]) -> Example:
    before, now = f"M{row['round'] - 1}", f"M{row['round']}"
    sides = {
        "gained": (Side(f"{now}, passes", row["answer_now"], None, None), _failing(before, row["answer_before"], row["failed_before"])),
        "lost": (Side(f"{before}, passes", row["answer_before"], None, None), _failing(now, row["answer_now"], row["failed_now"])),
    }  # fmt: skip
    kind = "now passes" if row["change"] == "gained" else "no longer passes"
    return Example(row["round"], kind, row["prompt"] or "", *sides[row["change"]], None, "", "", row["prompt_id"])


def _failing(model: str, answer: str, failed: list[str] | None) -> Side:
    return Side(f"{model}, fails {', '.join(failed or ())}", answer, None, None)


def read_examples(store: Snapshot, each: int) -> list[Example]:
    """At most ``each`` examples of every kind from each of the last rounds that trained on such."""
    if not each:
        return []
    chosen = {"rounds": _ROUNDS, "each": each}
    found: list[Example] = []
    if store.columns("pair_text"):
        found += [_pair(row) for row in store.rows(_PAIRS, chosen)]
    if store.columns("label_text"):
        found += _grouped(store.rows(_LABELS, chosen), "label", "prompt_id")
    if store.columns("ranking_text"):
        found += _grouped(store.rows(_RANKINGS, chosen), "ranking", "ranking_id")
    return found


def _pair(row: dict[str, Any]) -> Example:
    return Example(
        row["round"], "pair", row["prompt"] or "",
        Side("chosen", row["chosen"] or "", row["chosen_score"], row["chosen_tokens"]),
        Side("rejected", row["rejected"] or "", row["rejected_score"], row["rejected_tokens"]),
        row["margin"], row["judge"], row["builder"], row["pair_id"],
    )  # fmt: skip


def _grouped(rows: list[dict[str, Any]], kind: str, key: str) -> list[Example]:
    """One example for the (at most two) rows that share a key: the better answer comes first."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["round"], row[key]), []).append(row)
    return [_example(kind, group, group[0][key]) for group in groups.values()]


def _example(kind: str, group: list[dict[str, Any]], key: str) -> Example:
    sides = {
        _is_better(kind, row): Side(_role(kind, row), row["answer"] or "", row["score"], row["n_tokens"])
        for row in group
    }
    better, worse = sides.get(True), sides.get(False)
    scores = [side.score for side in (better, worse) if side is not None and side.score is not None]
    return Example(
        group[0]["round"], kind, group[0]["prompt"] or "", better, worse,
        scores[0] - scores[1] if len(scores) == 2 else None, group[0].get("judge", ""), group[0]["builder"], key,
    )  # fmt: skip


def _is_better(kind: str, row: dict[str, Any]) -> bool:
    return bool(row["label"]) if kind == "label" else row["place"] == 1


def _role(kind: str, row: dict[str, Any]) -> str:
    if kind == "label":
        return "wanted" if row["label"] else "not wanted"
    return f"place {row['place']} of {row['places']}"

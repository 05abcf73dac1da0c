"""The ledger and the tables tell the same story: what is done is there, and what is there was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from selfalign.checks.findings import Finding, Query, Rule, broken, remake
from selfalign.store.branches import FIGURES_OF, figures_of

#: Stage -> (table, id, condition) of the rows it makes, for row ``r`` of the table.
_MADE = {
    "prompts": ("prompts", "prompt_id", "(r.round > 0 OR r.split = 'held_out')"),
    "generate": ("candidates", "candidate_id", "r.round > 0 AND r.split = 'train'"),
    "answer": ("candidates", "candidate_id", "r.split = 'held_out'"),
    "resample": ("selections", "selection_id", "true"),
    "lessons": ("lessons", "lesson_id", "true"),
    "meta_judge": ("judgement_pairs", "pair_id", "true"),
    "train": ("checkpoints", "checkpoint_id", "true"),
}
#: (table, id) of what stage ``pair`` makes.
_PAIRED = (("pairs", "pair_id"), ("unary_labels", "label_id"), ("rankings", "ranking_id"))
#: The attempt that counts for a stage is the one started last.
_CURRENT = "(SELECT * FROM stages QUALIFY row_number() OVER (PARTITION BY round, stage ORDER BY started_at DESC) = 1)"


def ledger(query: Query, expected: Mapping[int, Sequence[str]]) -> list[Finding]:
    """Stages that a finished round lacks (``expected``: its stages by round), and rows and counts that disagree."""
    return [*_unfinished(query, expected), *broken(query, [*_counts(), *_unknown()])]


def _unfinished(query: Query, expected: Mapping[int, Sequence[str]]) -> list[Finding]:
    # One query: between two of them a run may finish a stage.
    rows = query(
        f"SELECT r.round, s.stage, s.status FROM rounds r LEFT JOIN {_CURRENT} s USING (round) "
        "WHERE r.status = 'done' ORDER BY r.round, s.started_at",
        (),
    ).to_pylist()
    states: dict[int, dict[str, str]] = {}
    for row in rows:
        states.setdefault(row["round"], {})[row["stage"]] = row["status"]
    return [
        Finding(
            "round_not_done", "rounds", str(round), f"round {round}, {stage}",
            f"the round is done, its stage '{stage}' is {found.get(stage, 'not in the ledger')}", remake(round),
        )
        for round, found in states.items()
        for stage in dict.fromkeys([*expected.get(round, ()), *(name for name in found if name is not None)])
        if found.get(stage) != "done"
    ]  # fmt: skip


def _counts() -> Iterator[Rule]:
    for stage, (table, _, condition) in _MADE.items():
        yield _count_rule(stage, f"SELECT r.round, count(*) AS n FROM {table} r WHERE {condition} GROUP BY r.round")
    # A builder makes pairs, labels or rankings.
    made = " UNION ALL ".join(f"SELECT round FROM {table} WHERE round > 0" for table, _ in _PAIRED)
    # Of round 0 there are only imported ones.
    yield _count_rule("preferences", "SELECT round, count(*) AS n FROM pairs WHERE round = 0 GROUP BY round")
    yield _count_rule("pair", f"SELECT round, count(*) AS n FROM ({made}) GROUP BY round")
    # Members of a composite judge write rows too; the line counts those of the judge itself.
    yield Rule(
        "rows_out", "stages",
        "WITH made AS (SELECT j.round, j.judge_hash, count(*) AS n FROM judgements j "
        "SEMI JOIN candidates c ON c.candidate_id = j.candidate_id AND c.split = 'train' GROUP BY ALL) "
        "SELECT s.round || '/judge' AS row_id, s.round, 'judge' AS place, 'says ' || s.rows_out || ' rows, no judge has "
        "as many (' || coalesce((SELECT string_agg(n, ', ' ORDER BY n) FROM made m WHERE m.round = s.round), '0') "
        f"|| ')' AS what FROM {_CURRENT} s ANTI JOIN made m ON m.round = s.round AND m.n = s.rows_out "
        "WHERE s.stage = 'judge' AND s.status = 'done'",
    )  # fmt: skip
    for stage in (*(name for name in FIGURES_OF if name not in _MADE), "calibrate", "evaluate"):
        made = f"SELECT round, count(*) AS n FROM evaluations WHERE {figures_of(stage)} GROUP BY round"
        # Figures may be added beside those of the stage.
        yield _count_rule(stage, made, "<")
    yield _count_rule("gate", "SELECT round, count(*) AS n FROM events WHERE stage = 'gate' GROUP BY round")


def _count_rule(stage: str, made: str, wrong: str = "<>") -> Rule:
    return Rule(
        "rows_out", "stages",
        f"WITH made AS ({made}) SELECT s.round || '/{stage}' AS row_id, s.round, '{stage}' AS place, "
        f"'says ' || s.rows_out || ' rows, there are ' || coalesce(m.n, 0) AS what "
        f"FROM {_CURRENT} s LEFT JOIN made m USING (round) "
        f"WHERE s.stage = '{stage}' AND s.status = 'done' AND coalesce(m.n, 0) {wrong} s.rows_out",
    )  # fmt: skip


def _unknown() -> Iterator[Rule]:
    """Rows of a round or stage that was never started."""
    made = [
        *_MADE.items(),
        ("preferences", ("pairs", "pair_id", "r.round = 0")),
        ("preferences", ("candidates", "candidate_id", "r.round = 0 AND r.split = 'train'")),
        *(("pair", (table, identity, "r.round > 0")) for table, identity in _PAIRED),
        ("judge", ("judgements", "judgement_id", "r.weights_hash IS NOT NULL")),
        ("meta_judge", ("meta_judgements", "meta_id", "true")),
        ("train", ("replays", "replay_id", "true")),
    ]
    for stage, (table, identity, condition) in made:
        yield Rule(
            "unknown_stage", table,
            f"SELECT r.{identity} AS row_id, r.round, '{stage}' AS place, "
            f"'the ledger knows no stage ''{stage}'' in this round' AS what "
            f"FROM {table} r ANTI JOIN stages s ON s.round = r.round AND s.stage = '{stage}' WHERE {condition}",
        )  # fmt: skip
    for table, identity in (
        ("judgements", "judgement_id"), ("gold_judgements", "judgement_id"), ("evaluations", "metric || '/' || split"),
    ):  # fmt: skip
        yield Rule(
            "unknown_round",
            table,
            f"SELECT {identity} AS row_id, r.round, NULL AS place, 'there is no such round' AS what "
            f"FROM {table} r ANTI JOIN rounds t USING (round)",
        )

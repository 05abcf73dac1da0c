"""Every id that a row names exists, belongs where the row says, and is there once."""

from __future__ import annotations

from collections.abc import Iterator

from selfalign.checks.findings import Finding, Query, Rule, broken

#: (table, its id, column that names a candidate, or several).
CANDIDATE_COLUMNS = (
    ("judgements", "judgement_id", "candidate_id"),
    ("selections", "selection_id", "candidate_id"),
    ("pairs", "pair_id", "chosen_id"),
    ("pairs", "pair_id", "rejected_id"),
    ("unary_labels", "label_id", "candidate_id"),
    ("rankings", "ranking_id", "candidate_ids"),
)
#: A ranking as one row a candidate.
_ONE_A_CANDIDATE = "(SELECT * REPLACE (unnest(candidate_ids) AS candidate_ids) FROM rankings)"
#: (table, its id, column that names a judgement); the rows are about a candidate and a judge themselves.
_JUDGEMENT_COLUMNS = (
    ("meta_judgements", "meta_id", "first_id"),
    ("meta_judgements", "meta_id", "second_id"),
    ("judgement_pairs", "pair_id", "chosen_id"),
    ("judgement_pairs", "pair_id", "rejected_id"),
)
#: (what replays call it, table, its id).
_REPLAYED = (
    ("pair", "pairs", "pair_id"), ("judgement_pair", "judgement_pairs", "pair_id"), ("label", "unary_labels", "label_id"),
    ("ranking", "rankings", "ranking_id"),
)  # fmt: skip
#: (table, its id, round of the prompt it belongs to, split of that prompt).
_PROMPT_COLUMNS = (
    ("candidates", "candidate_id", "CASE r.split WHEN 'train' THEN r.round ELSE 0 END", "r.split"),
    ("selections", "selection_id", "r.round", "'train'"),
    ("pairs", "pair_id", "r.round", "'train'"),
    ("unary_labels", "label_id", "r.round", "'train'"),
    ("rankings", "ranking_id", "r.round", "'train'"),
)


def references(query: Query) -> list[Finding]:
    """Dangling and crossed references, and ids that are there twice."""
    return broken(
        query,
        [
            *_unknown_candidates(), *_foreign_candidates(), *_judgements(), *_unknown_prompts(), *_replays(), *_twice(),
            *_gaps(),
        ],
    )  # fmt: skip


def _unknown_candidates() -> Iterator[Rule]:
    for table, identity, column in CANDIDATE_COLUMNS:
        yield Rule(
            "unknown_candidate", table,
            f"SELECT r.{identity} AS row_id, r.round, '{column}' AS place, "
            f"'there is no candidate ' || r.{column} AS what "
            f"FROM {one_a_candidate(table)} r ANTI JOIN candidates c ON c.candidate_id = r.{column}",
        )  # fmt: skip


def _foreign_candidates() -> Iterator[Rule]:
    """The candidate is there, but of another prompt, round or split."""
    for table, identity, column in CANDIDATE_COLUMNS:
        other = "c.round <> r.round"
        if table == "judgements":  # held-out answers are judged too, and again in later rounds, to compare models
            other += " AND (c.split = 'train' OR c.round > r.round OR json_extract_string(r.detail, '$.stage') IS NULL)"
        else:
            other += " OR c.prompt_id <> r.prompt_id OR c.split <> 'train'"
        yield Rule(
            "foreign_candidate", table,
            f"SELECT r.{identity} AS row_id, r.round, '{column}' AS place, 'candidate ' || r.{column} || ' is of "
            f"round ' || c.round || ', ' || c.split || ' prompt ' || c.prompt_id AS what "
            f"FROM {one_a_candidate(table)} r JOIN candidates c ON c.candidate_id = r.{column} WHERE {other}",
        )  # fmt: skip


def one_a_candidate(table: str) -> str:
    """The rows of ``table``; a ranking as one row a candidate of it."""
    return _ONE_A_CANDIDATE if table == "rankings" else table


def _judgements() -> Iterator[Rule]:
    """Judgements that rows of the meta-judge name are there, and of the candidate, judge and round that the row says."""
    for table, identity, column in _JUDGEMENT_COLUMNS:
        yield Rule(
            "unknown_judgement", table,
            f"SELECT r.{identity} AS row_id, r.round, '{column}' AS place, "
            f"'there is no judgement ' || r.{column} AS what "
            f"FROM {table} r ANTI JOIN judgements j ON j.judgement_id = r.{column}",
        )  # fmt: skip
        yield Rule(
            "foreign_judgement", table,
            f"SELECT r.{identity} AS row_id, r.round, '{column}' AS place, 'judgement ' || r.{column} || ' is of "
            f"round ' || j.round || ', candidate ' || j.candidate_id || ', judge ' || j.judge AS what "
            f"FROM {table} r JOIN judgements j ON j.judgement_id = r.{column} "
            f"WHERE j.round <> r.round OR j.candidate_id <> r.candidate_id OR j.judge_hash <> r.judge_hash",
        )  # fmt: skip


def _unknown_prompts() -> Iterator[Rule]:
    for table, identity, round_, split in _PROMPT_COLUMNS:
        yield Rule(
            "unknown_prompt", table,
            f"SELECT r.{identity} AS row_id, r.round, 'prompt_id' AS place, 'there is no ' || {split} || ' prompt ' "
            f"|| r.prompt_id || ' in round ' || {round_} AS what FROM {table} r ANTI JOIN prompts p "
            f"ON p.prompt_id = r.prompt_id AND p.round = {round_} AND p.split = {split}",
        )  # fmt: skip
    yield Rule(
        "held_out_prompt_trained_on", "prompts",
        "SELECT t.prompt_id AS row_id, t.round, 'train' AS place, 'is a held-out prompt as well' AS what "
        "FROM prompts t SEMI JOIN prompts h ON h.prompt_id = t.prompt_id AND h.split = 'held_out' "
        "WHERE t.split = 'train'",
    )  # fmt: skip


def _replays() -> Iterator[Rule]:
    """What a round took of an earlier one is there, and of that round."""
    for kind, table, identity in _REPLAYED:
        yield Rule(
            "unknown_example", "replays",
            f"SELECT r.replay_id AS row_id, r.round, '{kind}' AS place, 'there is no {kind} ' || r.example_id || "
            f"' of round ' || r.from_round AS what FROM replays r ANTI JOIN {table} t "
            f"ON t.{identity} = r.example_id AND t.round = r.from_round WHERE r.kind = '{kind}'",
        )  # fmt: skip
    yield from _overrides()
    yield Rule(
        "not_earlier", "replays",
        "SELECT replay_id AS row_id, round, kind AS place, 'is of round ' || from_round || ', not an earlier one' AS what "
        "FROM replays WHERE from_round >= round",
    )  # fmt: skip


def _overrides() -> Iterator[Rule]:
    """What a training did because of a review is what that review says, about a pair that is there."""
    yield Rule(
        "unknown_example", "overrides",
        "SELECT o.override_id AS row_id, o.round, 'pair' AS place, 'there is no pair ' || o.pair_id || ' of round ' || "
        "o.from_round AS what FROM overrides o ANTI JOIN pairs p ON p.pair_id = o.pair_id AND p.round = o.from_round "
        # Settled before its training begins; a pair that was set aside since has no say any more.
        "SEMI JOIN stages s ON s.round = o.round AND s.stage = 'train'",
    )  # fmt: skip
    yield Rule(
        "not_the_review", "overrides",
        "SELECT o.override_id AS row_id, o.round, 'pair ' || o.pair_id AS place, 'says ' || o.decision || ', its review ' "
        "|| o.review_id || ' ' || coalesce('says ' || r.decision || ' of pair ' || r.pair_id, 'is not there') AS what "
        "FROM overrides o LEFT JOIN reviews r USING (review_id) "
        "WHERE r.review_id IS NULL OR r.decision <> o.decision OR r.pair_id <> o.pair_id",
    )  # fmt: skip


def _twice() -> Iterator[Rule]:
    """Tables without a primary key; DuckDB keeps the other ids unique."""
    for table, identity in (("candidates", "candidate_id"), ("judgements", "judgement_id")):
        yield Rule(
            "twice", table,
            f"SELECT {identity} AS row_id, min(round) AS round, NULL AS place, "
            f"'the id is there ' || count(*) || ' times' AS what FROM {table} GROUP BY {identity} HAVING count(*) > 1",
        )  # fmt: skip
    yield Rule(
        "sample_twice", "candidates",
        "SELECT max(candidate_id) AS row_id, round, split || ' prompt ' || prompt_id AS place, "
        "'sample ' || sample_idx || ' is there ' || count(*) || ' times' AS what "
        "FROM candidates GROUP BY round, split, prompt_id, sample_idx HAVING count(DISTINCT candidate_id) > 1",
    )  # fmt: skip


def _gaps() -> Iterator[Rule]:
    """A finished stage made the same number of samples for every prompt: its own ledger line says how many.

    Beside them it counts the demonstrations, which have a number of their own.
    """
    for stage, split, prompt_round in (("generate", "train", "s.round"), ("answer", "held_out", "0")):
        yield Rule(
            "samples_missing", "prompts",
            f"WITH known AS (SELECT round, count(*) AS n FROM candidates WHERE split = '{split}' "
            f"AND origin = 'demonstration' GROUP BY round), "
            f"sampled AS (SELECT s.*, s.rows_out - coalesce(k.n, 0) AS samples_out FROM stages s LEFT JOIN known k "
            f"USING (round) WHERE s.stage = '{stage}' AND s.status = 'done' AND s.rows_in > 0), "
            f"wanted AS (SELECT s.round, p.prompt_id, s.samples_out // s.rows_in AS samples FROM sampled s "
            f"JOIN prompts p ON p.round = {prompt_round} AND p.split = '{split}' WHERE s.samples_out % s.rows_in = 0), "
            f"had AS (SELECT round, prompt_id, list(sample_idx ORDER BY sample_idx) AS present FROM candidates "
            f"WHERE split = '{split}' AND origin IS DISTINCT FROM 'demonstration' GROUP BY round, prompt_id) "
            f"SELECT w.prompt_id AS row_id, w.round, '{stage}' AS place, 'has samples ' || "
            f"coalesce(to_json(h.present)::VARCHAR, '[]') || ', not 0 to ' || (w.samples - 1) AS what "
            f"FROM wanted w LEFT JOIN had h USING (round, prompt_id) "
            f"WHERE list_distinct(h.present) IS NULL OR len(h.present) <> w.samples OR h.present[1] <> 0 "
            f"OR h.present[-1] <> w.samples - 1",
        )  # fmt: skip

"""A row says what it said when it was written: its digest, and ids and seeds that its own columns decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from selfalign.checks.findings import Finding, Query, Rule, broken, place, remake
from selfalign.identity import canonical, content_id
from selfalign.store.digests import DIGESTED, NEVER_ARCHIVED, digest_sql
from selfalign.types import SamplingParams

#: Rows digested in one connection: a run that writes waits no longer than for these (about half a second).
_CHUNK = 100_000
#: Rows of an id that SQL could not confirm, and that Python looks at.
_DOUBTFUL = 1000


def digests(query: Query) -> tuple[list[Finding], dict[str, int]]:
    """Rows that are not what was written, in the run's tables and in those of its branches.

    Also the number of rows without a digest, by table: they are older than digests, and only their ids are checked.
    """
    sizes = " UNION ALL ".join(
        f"SELECT '{table}' AS name, '{table.removeprefix('archived_')}' AS kind, coalesce(max(rowid) + 1, 0) AS stop, "
        f"count(*) - count(digest) AS uncovered FROM {table}"
        for kind in DIGESTED
        for table in ((kind,) if kind in NEVER_ARCHIVED else (kind, f"archived_{kind}"))
    )
    found: list[Finding] = []
    uncovered: dict[str, int] = {}
    for row in query(f"SELECT * FROM ({sizes}) WHERE stop > 0", ()).to_pylist():
        if row["uncovered"]:
            uncovered[row["name"]] = row["uncovered"]
        for first in range(0, row["stop"], _CHUNK):
            found += broken(query, [_changed(row["name"], row["kind"], first)])
    return found, uncovered


def _changed(table: str, kind: str, first: int) -> Rule:
    return Rule(
        "changed", table,
        f"SELECT {DIGESTED[kind]} AS row_id, round, 'rowid ' || rowid AS place, "
        f"'a column was changed after the row was written' AS what FROM {table} "
        f"WHERE rowid >= {first} AND rowid < {first + _CHUNK} AND digest <> {digest_sql(kind)}",
    )  # fmt: skip


# -- ids ------------------------------------------------------------------------------------------------


def ids(query: Query, run: Mapping[str, Any] | None) -> list[Finding]:
    """Ids and seeds that do not follow from their rows. ``run`` is the row of ``runs``.

    Candidates are always looked at; of prompts and judgements, whose ids a plug-in may make in its own
    way, only the rows that no digest vouches for.
    """
    return [*_prompts(query), *_judgements(query), *(_candidates(query, run) if run else [])]


def _id_sql(kind: str, *parts: str) -> str:
    """identity.content_id in SQL, of ``parts`` that are JSON text. Rare control characters come out differently."""
    members = " || ',' || ".join(parts)
    return f"substr(sha256('[\"{kind}\",' || {members} || ']'), 1, 32)"


def _text(column: str) -> str:
    return f"to_json({column})::VARCHAR"


def _prompts(query: Query) -> list[Finding]:
    made = _id_sql("prompt", _text("text"), _text("instruction_id_list"), _text("kwargs"))
    rows = query(
        f"SELECT prompt_id, round, split, text, instruction_id_list, kwargs FROM prompts "
        f"WHERE digest IS NULL AND prompt_id <> {made} ORDER BY ALL LIMIT {_DOUBTFUL}", (),
    ).to_pylist()  # fmt: skip
    return [
        Finding(
            "prompt_id", "prompts", row["prompt_id"], place(row["round"], row["split"]),
            "the id is not that of the text, its constraints and their arguments", remake(row["round"]),
        )
        for row in rows
        if content_id("prompt", row["text"], row["instruction_id_list"], row["kwargs"]) != row["prompt_id"]
    ]  # fmt: skip


def _judgements(query: Query) -> list[Finding]:
    made = _id_sql(
        "judgement", _text("candidate_id"), _text("judge_hash"), _text("coalesce(weights_hash, '')"), "sample_idx"
    )
    return broken(query, [Rule(
        "judgement_id", "judgements",
        f"SELECT judgement_id AS row_id, round, 'judge ' || judge AS place, "
        f"'the id is not that of its candidate, judge, weights and sample' AS what "
        f"FROM judgements WHERE digest IS NULL AND judgement_id <> {made}",
    )])  # fmt: skip


def _candidates(query: Query, run: Mapping[str, Any]) -> list[Finding]:
    return [
        *broken(query, [_seeds(run["seed"]), *_candidate_ids(query, run)]),
        *_demonstrations(query),
        *_imported(query),
    ]


def _imported(query: Query) -> list[Finding]:
    rows = query(
        f"SELECT candidate_id, round, split, prompt_id, text FROM candidates WHERE origin = 'imported' "
        f"AND candidate_id <> {_id_sql('imported', _text('prompt_id'), _text('text'))} ORDER BY ALL LIMIT {_DOUBTFUL}", (),
    ).to_pylist()  # fmt: skip
    return [
        Finding(
            "candidate_id", "candidates", row["candidate_id"], place(row["round"], row["split"]),
            "the id is not that of its prompt and text", remake(row["round"]),
        )
        for row in rows
        if content_id("imported", row["prompt_id"], row["text"]) != row["candidate_id"]
    ]  # fmt: skip


def _demonstrations(query: Query) -> list[Finding]:
    made = _id_sql("demonstration", "round::VARCHAR", _text("prompt_id"), _text("text"))
    rows = query(
        f"SELECT candidate_id, round, split, prompt_id, text FROM candidates WHERE origin = 'demonstration' "
        f"AND candidate_id <> {made} ORDER BY ALL LIMIT {_DOUBTFUL}", (),
    ).to_pylist()  # fmt: skip
    return [
        Finding(
            "candidate_id", "candidates", row["candidate_id"], place(row["round"], row["split"]),
            "the id is not that of its round, prompt and text", remake(row["round"]),
        )
        for row in rows
        if content_id("demonstration", row["round"], row["prompt_id"], row["text"]) != row["candidate_id"]
    ]  # fmt: skip


def _seeds(run_seed: int) -> Rule:
    """identity.derive_seed in SQL: the first 63 bits of a SHA-256."""
    scope = "CASE split WHEN 'held_out' THEN '\"held_out\"' ELSE round::VARCHAR END"
    text = f"'[\"seed\",{int(run_seed)},' || {scope} || ',' || {_text('prompt_id')} || ',' || sample_idx || ']'"
    return Rule(
        "seed", "candidates",
        f"SELECT candidate_id AS row_id, round, split AS place, "
        f"'seed ' || seed || ' is not that of its round, prompt and sample' AS what "
        f"FROM candidates WHERE seed <> (('0x' || sha256({text})[1:16])::UBIGINT >> 1)::BIGINT",
    )  # fmt: skip


def _candidate_ids(query: Query, run: Mapping[str, Any]) -> Iterator[Rule]:
    """One rule for all rows; what is the same for a whole stage is put into JSON once, in Python."""
    system_prompt = json.loads(run["config"]).get("generate", {}).get("system_prompt")
    ways = query(
        "SELECT DISTINCT c.round, c.split, c.weights_hash, c.temperature, c.top_p, c.top_k, c.max_tokens, "
        "m.tokenizer_hash FROM candidates c JOIN rounds r USING (round) "
        "JOIN rounds m ON m.round = CASE c.split WHEN 'train' THEN c.round - 1 ELSE c.round END "
        # A frozen round may have been made with another system prompt; version 1 wrote no tokenizer hash.
        "WHERE m.tokenizer_hash IS NOT NULL AND NOT coalesce(r.frozen, false) AND c.origin IS NULL", (),
    ).to_pylist()  # fmt: skip
    if not ways:
        return
    columns = ("round", "split", "weights_hash", "temperature", "top_p", "top_k", "max_tokens")
    names = ", ".join(f"unnest(?) AS {name}" for name in (*columns, "middle"))
    given = [[way[name] for way in ways] for name in columns]
    middles = [_same_for_all(way, system_prompt) for way in ways]
    made = _id_sql("candidate", _text("c.prompt_id"), "w.middle", "c.seed", "c.sample_idx")
    yield Rule(
        "candidate_id", "candidates",
        f"SELECT c.candidate_id AS row_id, c.round, c.split AS place, "
        f"'the id is not that of its prompt, weights, tokenizer, sampling, seed and sample' AS what "
        f"FROM candidates c JOIN (SELECT {names}) w USING ({', '.join(columns)}) "
        # Ids of the others are also of a contrast file's hash, which no row has, or of the known answer.
        f"WHERE c.origin IS NULL AND c.candidate_id <> {made}",
        params=(*given, middles),
    )  # fmt: skip


def _same_for_all(way: Mapping[str, Any], system_prompt: str | None) -> str:
    """The members of stages.generate.candidate_id between prompt and seed, as they stand in its JSON."""
    params = SamplingParams(way["temperature"], way["top_p"], way["top_k"], way["max_tokens"])
    parts = [way["round"], way["split"], way["weights_hash"], way["tokenizer_hash"], asdict(params), system_prompt]
    return canonical(parts)[1:-1]

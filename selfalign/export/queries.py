"""What is exported, as SQL over a run's tables or over one of its branches.

Each query gives one row a row of the export, with the texts under TRL's names and these beside the columns of
provenance: ``conversation`` (JSON messages, where the prompt is more than an instruction) and ``is_held_out``. Rows
keep a NULL text where what they name is not there: the reader refuses such a store instead of passing it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selfalign.export.columns import KEYS, TEXTS, VALUES, Kind, provenance_columns
from selfalign.export.request import SOURCES, Request, Reviews
from selfalign.types import Review

_PROMPT = "prompt.language, prompt.category, prompt.origin AS prompt_origin"


@dataclass(frozen=True)
class Query:
    """One SELECT of the rows that one source gives, in order of round and ``key``, whole or a part of them."""

    found: str
    kind: Kind
    params: Mapping[str, Any]
    notes: bool = False

    @property
    def _where(self) -> str:
        return "WHERE round IN (SELECT unnest($rounds))" if "rounds" in self.params else ""

    def starts(self, rows: int) -> tuple[str, Mapping[str, Any]]:
        """SQL for (round, key) of every so many rows: where parts begin."""
        key = KEYS[self.kind]
        numbered = f"SELECT round, {key} AS key, row_number() OVER (ORDER BY round, {key}) AS n FROM ({self.found}) {self._where}"
        return f"SELECT round, key FROM ({numbered}) WHERE n % {rows} = 1 ORDER BY n", self._used(self.found)

    def part(self, first: tuple[int, str], stop: tuple[int, str] | None) -> tuple[str, Mapping[str, Any]]:
        """SQL for the rows from ``first`` on, up to but without ``stop``."""
        key, where = KEYS[self.kind], self._where or "WHERE true"
        where += f" AND (round > $first_round OR (round = $first_round AND {key} >= $first_key))"
        given: dict[str, Any] = {"first_round": first[0], "first_key": first[1]}
        if stop is not None:
            where += f" AND (round < $stop_round OR (round = $stop_round AND {key} < $stop_key))"
            given |= {"stop_round": stop[0], "stop_key": stop[1]}
        provenance = provenance_columns(self.kind, notes=self.notes)
        columns = dict.fromkeys([*TEXTS[self.kind], *VALUES[self.kind], "conversation", *provenance])
        order = "label_id, label DESC" if self.kind == "unary" else key
        sql = f"""
            SELECT {", ".join(columns)}, prompt_id IN (SELECT prompt_id FROM {_HELD_OUT})
                OR coalesce(prompt, '') IN (SELECT text FROM {_HELD_OUT}) AS is_held_out
            FROM ({self.found}) {where} ORDER BY round, {order}"""
        return sql, {**self._used(sql), **given}

    def _used(self, sql: str) -> dict[str, Any]:
        """DuckDB refuses parameters that a statement does not have."""
        return {name: value for name, value in self.params.items() if name == "rounds" or f"${name}" in sql}


#: A prompt is held out or not for good, whatever branch it is in.
_HELD_OUT = (
    "(SELECT prompt_id, text FROM prompts WHERE split = 'held_out' "
    "UNION SELECT prompt_id, text FROM archived_prompts WHERE split = 'held_out')"
)


def queries(request: Request, said: Mapping[str, Review]) -> list[Query]:
    """One query a source, in the order in which their rows are exported. ``said``: the review that holds, by pair."""
    tables = _Tables(request.branch, request.reviews)
    makers = {
        ("pairs", "answers"): _pairs, ("pairs", "judgements"): _judgement_pairs, ("unary", "labels"): _labels,
        ("unary", "pairs"): _sides, ("sft", "chosen"): _best, ("sft", "demonstrations"): _demonstrations,
        ("sft", "lessons"): _lessons, ("judgements", "votes"): _votes,
    }  # fmt: skip
    held = said.values() if request.reviews != "ignore" else ()
    params: dict[str, Any] = {
        "reviewed_pair": [review.pair_id for review in held], "reviewed_as": [review.decision for review in held],
        "reviewed_by": [review.reviewer for review in held], "reviewed_why": [review.note for review in held],
    }  # fmt: skip
    if request.rounds is not None:
        params["rounds"] = list(request.rounds)
    if request.branch is not None:
        params["branch"] = request.branch
    wanted = [source for source in SOURCES[request.kind] if source in request.sources]
    return [
        Query(makers[request.kind, source](tables), request.kind, params, request.review_notes) for source in wanted
    ]


class _Tables:
    """Where rows lie: in the run as it stands, or under a branch's name. ``reviews``: which pairs there are."""

    def __init__(self, branch: str | None, reviews: Reviews) -> None:
        self._branch = branch
        self.only_reviewed = reviews == "only"

    def rows(self, table: str) -> str:
        """Rows that are exported, or that belong to those."""
        if self._branch is None:
            return table
        return f"(SELECT * EXCLUDE (branch, of_stage) FROM archived_{table} WHERE branch = $branch)"

    def anywhere(self, table: str, key: str) -> str:
        """Rows that others name: a branch has only what was set aside, and names what the run still has."""
        if self._branch is None:
            return table
        both = f"SELECT * FROM {table} UNION ALL BY NAME SELECT * EXCLUDE (branch, of_stage) FROM archived_{table}"
        return f"(SELECT * FROM ({both}) QUALIFY row_number() OVER (PARTITION BY {key}) = 1)"

    @property
    def prompts(self) -> str:
        return f"(SELECT * FROM {self.anywhere('prompts', 'prompt_id, round, split')} WHERE split = 'train')"

    @property
    def candidates(self) -> str:
        """Answers to training prompts."""
        return f"(SELECT * FROM {self.anywhere('candidates', 'candidate_id')} WHERE split = 'train')"

    @property
    def trained(self) -> str:
        """(round, checkpoint_id) of the rounds that were trained."""
        return (
            f"(SELECT round, checkpoint_id FROM {self.rows('checkpoints')} WHERE round > 0 "
            f"QUALIFY row_number() OVER (PARTITION BY round ORDER BY created_at DESC, checkpoint_id) = 1)"
        )

    def trained_rounds(self, kind: str) -> str:
        """(example_id, rounds) of examples that later rounds trained on as well."""
        return (
            f"(SELECT example_id, list(r.round ORDER BY r.round) AS rounds FROM {self.rows('replays')} r "
            f"JOIN {self.trained} USING (round) WHERE r.kind = '{kind}' GROUP BY example_id)"
        )

    def pairs(self) -> str:
        """Pairs of answers as people said: the sides of a flipped one are exchanged, each with its own score.

        ``review`` is what holds; rejected pairs are there, for the filter to count. ``trained_round`` is NULL where the
        round that made the pair left it out of its training.
        """
        said = """(SELECT unnest($reviewed_pair::VARCHAR[]) AS pair_id, unnest($reviewed_as::VARCHAR[]) AS review,
            unnest($reviewed_by::VARCHAR[]) AS reviewer, unnest($reviewed_why::VARCHAR[]) AS review_note)"""
        sides = ("chosen_id", "rejected_id"), ("chosen_score", "rejected_score")
        exchanged = ", ".join(
            f"CASE WHEN said.review = 'flip' THEN pair.{other} ELSE pair.{own} END AS {own}"
            for one, two in sides
            for own, other in ((one, two), (two, one))
        )
        return f"""(
            SELECT pair.* REPLACE ({exchanged}), said.review, said.reviewer, said.review_note,
                CASE WHEN left_out.pair_id IS NULL THEN pair.round END AS trained_round
            FROM {self.rows("pairs")} AS pair
            {"" if self.only_reviewed else "LEFT"} JOIN {said} AS said ON said.pair_id = pair.pair_id
            LEFT JOIN (SELECT round, pair_id FROM {self.rows("overrides")} WHERE decision = 'reject') AS left_out
                ON left_out.round = pair.round AND left_out.pair_id = pair.pair_id)"""


#: Of rows that nobody can review.
_UNREVIEWED = "NULL::VARCHAR AS review, NULL::VARCHAR AS reviewer, NULL::VARCHAR AS review_note"
_REVIEW = "made.review, made.reviewer, made.review_note"
_ROUNDS = "list_concat(CASE WHEN trained.round IS NULL THEN [] ELSE [trained.round] END, coalesce(again.rounds, []))"


def _pairs(tables: _Tables) -> str:
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, chosen.text AS chosen, rejected.text AS rejected,
            made.pair_id, made.prompt_id, 'answers' AS source, made.round, made.judge, made.builder,
            made.chosen_score, made.rejected_score, made.margin AS score_margin, made.n_votes, made.weight,
            chosen.weights_hash AS chosen_weights_hash, rejected.weights_hash AS rejected_weights_hash,
            chosen.finish_reason = 'length' AS chosen_truncated, rejected.finish_reason = 'length' AS rejected_truncated,
            trained.checkpoint_id, {_ROUNDS} AS trained_rounds, {_REVIEW}, {_PROMPT}
        FROM {tables.pairs()} AS made
        LEFT JOIN {tables.prompts} AS prompt ON prompt.prompt_id = made.prompt_id AND prompt.round = made.round
        LEFT JOIN {tables.candidates} AS chosen ON chosen.candidate_id = made.chosen_id
        LEFT JOIN {tables.candidates} AS rejected ON rejected.candidate_id = made.rejected_id
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.trained_round
        LEFT JOIN {tables.trained_rounds("pair")} AS again ON again.example_id = made.pair_id"""


def _judgement_pairs(tables: _Tables) -> str:
    votes = tables.anywhere("judgements", "judgement_id")
    return f"""
        SELECT prompt.text AS prompt, made.messages AS conversation, chosen.raw AS chosen, rejected.raw AS rejected,
            made.pair_id, candidate.prompt_id, 'judgements' AS source, made.round, made.judge, 'meta_judge' AS builder,
            made.chosen_elo AS chosen_score, made.rejected_elo AS rejected_score, made.margin AS score_margin,
            made.n_verdicts AS n_votes, made.weight,
            chosen.weights_hash AS chosen_weights_hash, rejected.weights_hash AS rejected_weights_hash,
            json_extract_string(chosen.detail, '$.finish_reason') = 'length' AS chosen_truncated,
            json_extract_string(rejected.detail, '$.finish_reason') = 'length' AS rejected_truncated,
            trained.checkpoint_id, {_ROUNDS} AS trained_rounds, {_UNREVIEWED}, {_PROMPT}
        FROM {tables.rows("judgement_pairs")} AS made
        LEFT JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.candidate_id
        LEFT JOIN {tables.prompts} AS prompt
            ON prompt.prompt_id = candidate.prompt_id AND prompt.round = candidate.round
        LEFT JOIN {votes} AS chosen ON chosen.judgement_id = made.chosen_id
        LEFT JOIN {votes} AS rejected ON rejected.judgement_id = made.rejected_id
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.round
        LEFT JOIN {tables.trained_rounds("judgement_pair")} AS again ON again.example_id = made.pair_id"""


def _labels(tables: _Tables) -> str:
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, candidate.text AS completion, made.label,
            made.label_id, made.prompt_id, 'labels' AS source, made.round, NULL::VARCHAR AS judge, made.builder,
            made.score, made.weight, candidate.weights_hash, candidate.finish_reason = 'length' AS truncated,
            trained.checkpoint_id, {_ROUNDS} AS trained_rounds, {_UNREVIEWED}, {_PROMPT}
        FROM {tables.rows("unary_labels")} AS made
        LEFT JOIN {tables.prompts} AS prompt ON prompt.prompt_id = made.prompt_id AND prompt.round = made.round
        LEFT JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.candidate_id
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.round
        LEFT JOIN {tables.trained_rounds("label")} AS again ON again.example_id = made.label_id"""


def _sides(tables: _Tables) -> str:
    """Both sides of every pair by themselves, an answer that is a side of several once a round and label."""
    sides = " UNION ALL BY NAME ".join(
        f"SELECT pair_id AS label_id, prompt_id, round, judge, builder, weight, {side}_id AS candidate_id, "
        f"{side}_score AS score, {label} AS label, trained_round, review, reviewer, review_note FROM {tables.pairs()}"
        for side, label in (("chosen", "true"), ("rejected", "false"))
    )
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, candidate.text AS completion, made.label,
            made.label_id, made.prompt_id, 'pairs' AS source, made.round, made.judge, made.builder,
            made.score, made.weight, candidate.weights_hash, candidate.finish_reason = 'length' AS truncated,
            trained.checkpoint_id, {_ROUNDS} AS trained_rounds, {_REVIEW}, {_PROMPT}
        FROM (SELECT * FROM ({sides}) QUALIFY row_number() OVER (
            PARTITION BY round, candidate_id, label ORDER BY review IS NOT DISTINCT FROM 'reject', label_id) = 1) AS made
        LEFT JOIN {tables.prompts} AS prompt ON prompt.prompt_id = made.prompt_id AND prompt.round = made.round
        LEFT JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.candidate_id
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.trained_round
        LEFT JOIN {tables.trained_rounds("pair")} AS again ON again.example_id = made.label_id"""


def _best(tables: _Tables) -> str:
    """The best answer that a round made of a prompt: chosen, desirable, or first of a ranking.

    One that a person found worse than another, or whose pair was rejected, comes after all others of its prompt.
    """
    columns = "prompt_id, round, builder, weight"
    best = f"""
        SELECT pair_id AS example_id, chosen_id AS candidate_id, chosen_score AS score, judge, {columns},
            trained_round, review, reviewer, review_note
        FROM {tables.pairs()}"""
    if not tables.only_reviewed:
        best += f"""
        UNION ALL BY NAME
        SELECT label_id AS example_id, candidate_id, score, NULL::VARCHAR AS judge, {columns}, round AS trained_round
        FROM {tables.rows("unary_labels")} WHERE label
        UNION ALL BY NAME
        SELECT ranking_id AS example_id, candidate_ids[1] AS candidate_id, scores[1] AS score, judge, {columns}, round AS trained_round
        FROM {tables.rows("rankings")}"""
    found_worse = f"SELECT rejected_id FROM {tables.pairs()} WHERE review IN ('accept', 'flip')"
    ranked = f"SELECT *, candidate_id IN ({found_worse}) AS is_worse FROM ({best})"
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, candidate.text AS completion,
            made.example_id, made.prompt_id, 'chosen' AS source, made.round, made.judge, made.builder, made.score, made.weight,
            candidate.weights_hash, candidate.finish_reason = 'length' AS truncated, trained.checkpoint_id, {_REVIEW}, {_PROMPT}
        FROM (SELECT * FROM ({ranked}) QUALIFY row_number() OVER (PARTITION BY round, prompt_id
            ORDER BY review IS NOT DISTINCT FROM 'reject', is_worse, score DESC, candidate_id, example_id) = 1) AS made
        LEFT JOIN {tables.prompts} AS prompt ON prompt.prompt_id = made.prompt_id AND prompt.round = made.round
        LEFT JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.candidate_id
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.trained_round"""


def _demonstrations(tables: _Tables) -> str:
    """Answers that came with prompts, whether or not the run made candidates of them."""
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, prompt.answer AS completion,
            prompt.prompt_id AS example_id, prompt.prompt_id, 'demonstrations' AS source, prompt.round,
            NULL::VARCHAR AS judge, NULL::VARCHAR AS builder, NULL::DOUBLE AS score, 1.0::DOUBLE AS weight,
            '' AS weights_hash, false AS truncated, NULL::VARCHAR AS checkpoint_id, {_UNREVIEWED}, {_PROMPT}
        FROM {tables.rows("prompts")} AS prompt
        WHERE prompt.split = 'train' AND prompt.answer IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY prompt.prompt_id ORDER BY prompt.round) = 1"""


def _lessons(tables: _Tables) -> str:
    """What the judge, and the model beside it, were taught: the verdict with what the answer was begun with."""
    return f"""
        SELECT prompt.text AS prompt, made.messages AS conversation, made.answer_prefix || made.answer AS completion,
            made.lesson_id AS example_id, coalesce(candidate.prompt_id, made.subject_id) AS prompt_id, 'lessons' AS source,
            made.round, made.judge, made.source AS builder, NULL::DOUBLE AS score, made.weight,
            '' AS weights_hash, NOT made.ends AS truncated, trained.checkpoint_id, {_UNREVIEWED}, {_PROMPT}
        FROM {tables.rows("lessons")} AS made
        LEFT JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.subject_id
        LEFT JOIN {tables.prompts} AS prompt
            ON prompt.prompt_id = candidate.prompt_id AND prompt.round = candidate.round
        LEFT JOIN {tables.trained} AS trained ON trained.round = made.round"""


def _votes(tables: _Tables) -> str:
    """Every vote on an answer to a training prompt, also those that count for nothing."""
    return f"""
        SELECT prompt.text AS prompt, NULL::VARCHAR AS conversation, candidate.text AS completion,
            made.judgement_id, candidate.prompt_id, made.round, made.score, made.outcome, made.raw, made.judge, made.judge_hash,
            made.weights_hash AS judge_weights_hash, made.sample_idx AS vote, made.candidate_id, candidate.weights_hash,
            candidate.finish_reason = 'length' AS truncated, {_PROMPT}
        FROM {tables.rows("judgements")} AS made
        JOIN {tables.candidates} AS candidate ON candidate.candidate_id = made.candidate_id
        LEFT JOIN {tables.prompts} AS prompt
            ON prompt.prompt_id = candidate.prompt_id AND prompt.round = candidate.round"""

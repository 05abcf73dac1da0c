"""Filters -> typed rows. Every function takes an open store and looks at no more of it than it shows.

Candidates and judgements have no index (store/schema.sql says why), so that finding a row by its id reads that column of
the whole table. Texts are therefore fetched by row number, once the numbers are known: a list of 25 pairs then costs one
pass over ids and not one over texts. Pages begin after the last row of the one before (keyset), never at an OFFSET. A
search looks at a stretch of rows at a time and stops when its page is full or its time is over; the next page goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from selfalign.browse.filters import Filters, words
from selfalign.browse.rows import (
    Answer,
    CandidateLine,
    Facets,
    JudgementInList,
    JudgementLine,
    Overview,
    Page,
    PairInFull,
    PairInList,
    PairLine,
    PromptInFull,
    PromptLine,
    ReviewInList,
    RoundLine,
    Training,
)
from selfalign.errors import BadInput
from selfalign.reviews import latest
from selfalign.store.store import Store
from selfalign.types import Review

R = TypeVar("R")
PAGE = 25
#: The oldest store that can be read: the one before reviews.
OLDEST = 9
#: A search ends its page when it has looked for so long, and looks at so many rows at a time.
SEARCH_S, STRETCH = 0.1, 50_000
_ORDERS = {"made": ("round", ""), "margin_high": ("margin", "DESC"), "margin_low": ("margin", "")}
_PROMPT = (
    "prompt_id, round, split, text, language, category, origin, instruction_id_list AS instructions, kwargs, answer"
)


def _names(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


_CANDIDATE, _JUDGEMENT = _names(CandidateLine), _names(JudgementLine)
_PAIR = ", ".join(field.name for field in fields(PairLine) if field.name != "branch")


class _Where:
    """Conditions of a SELECT and the values of their question marks."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        self.conditions.append(condition)
        self.values += values

    def optional(self, condition: str, value: Any) -> None:
        if value is not None:
            self.add(condition, value)

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


# -- what there is ------------------------------------------------------------------------------------------------


def overview(store: Store) -> Overview:
    """The run and its rounds, from the ledger: nothing is counted."""
    run = store.get_run() or {"run": "", "config": "{}"}
    lines = store.query(
        "SELECT r.round, r.status, "
        + ", ".join(
            f"max(s.rows_out) FILTER (WHERE s.stage = '{stage}' AND s.status = 'done') AS {name}"
            for stage, name in (("prompts", "prompts"), ("generate", "candidates"), ("judge", "judgements"), ("pair", "pairs"))
        )
        + ", arg_max(s.stage, s.started_at) FILTER (WHERE s.status = 'running') AS stage, any_value(e.value) AS pass_rate, "
        "any_value(e.low) AS low, any_value(e.high) AS high FROM rounds r LEFT JOIN stages s ON s.round = r.round "
        "LEFT JOIN evaluations e ON e.round = r.round AND e.metric = 'pass_rate_strict' AND e.split = 'held_out' "
        "GROUP BY r.round, r.status ORDER BY r.round"
    ).to_pylist()  # fmt: skip
    model = str(json.loads(run["config"]).get("model", ""))
    return Overview(str(run["run"]), model, [RoundLine(**line) for line in lines])


def facets(store: Store) -> Facets:
    """What the filters can be set to."""
    found = store.query(
        "SELECT (SELECT list(round ORDER BY round) FROM rounds) AS rounds, "
        "(SELECT list(branch ORDER BY branch) FROM branches) AS branches, "
        "(SELECT list(DISTINCT judge ORDER BY judge) FROM judgements) AS judges, "
        "(SELECT list(DISTINCT language ORDER BY language) FROM prompts) AS languages, "
        "(SELECT list(DISTINCT category ORDER BY category) FROM prompts) AS categories"
    ).to_pylist()[0]
    return Facets(*(found[field.name] or [] for field in fields(Facets)))


# -- pairs --------------------------------------------------------------------------------------------------------


def pairs(store: Store, filters: Filters, reviews: Mapping[str, Review]) -> Page[PairInList]:
    """A page of pairs with their texts; ``reviews`` are those that hold, by pair."""
    found = _pair_keys(store, filters, reviews, PAGE + 1)
    shown = found[:PAGE]
    rounds = {pair.round for pair in shown}
    answers = _candidates(store, {i for p in shown for i in (p.chosen_id, p.rejected_id)}, rounds, filters.branch)
    prompts = _prompts(store, {p.prompt_id for p in shown}, rounds, filters.branch)
    lines = [
        PairInList(
            pair, _text(prompts.get(pair.prompt_id)), _text(answers.get(pair.chosen_id)),
            _text(answers.get(pair.rejected_id)), reviews.get(pair.pair_id),
        )
        for pair in shown
    ]  # fmt: skip
    return Page(lines, _pair_cursor(shown[-1], filters) if len(found) > PAGE else None)


def pair(
    store: Store, pair_id: str, filters: Filters, said: Sequence[Review], taken: frozenset[str]
) -> PairInFull | None:
    """Everything about one pair, and its neighbours among those of ``filters``; None where there is no such pair.

    ``said`` are all reviews; ``taken`` the ids of those that are in the store.
    """
    own = find_pair(store, pair_id, filters.branch)
    if own is None:
        return None
    rounds = {own.round}
    answers = answers_of(store, [own.chosen_id, own.rejected_id], rounds, own.branch)
    by_id = {answer.candidate.candidate_id: answer for answer in answers}
    holding = latest(said)
    history = [review for review in said if review.pair_id == pair_id]
    return PairInFull(
        own, _prompts(store, {own.prompt_id}, rounds, own.branch).get(own.prompt_id), by_id.get(own.chosen_id),
        by_id.get(own.rejected_id), _trainings(store, own), history, holding.get(pair_id),
        not history or history[-1].review_id in taken,
        _neighbour(store, own, filters, holding, forward=False), _neighbour(store, own, filters, holding, forward=True),
    )  # fmt: skip


def find_pair(store: Store, pair_id: str, branch: str | None = None) -> PairLine | None:
    """The run's pair of that id, or that of ``branch``; of any branch where the run has none."""
    if branch is None:
        rows = store.query(
            f"SELECT {_PAIR}, NULL::VARCHAR AS branch FROM pairs WHERE pair_id = ?", (pair_id,)
        ).to_pylist()
        if rows:
            return PairLine(**rows[0])
    rows = store.query(
        f"SELECT {_PAIR}, branch FROM archived_pairs WHERE pair_id = ? AND (branch = ? OR ?::VARCHAR IS NULL) "
        "ORDER BY branch LIMIT 1",
        (pair_id, branch, branch),
    ).to_pylist()
    return PairLine(**rows[0]) if rows else None


def _pair_keys(
    store: Store, filters: Filters, reviews: Mapping[str, Review], count: int, *, back: PairLine | None = None
) -> list[PairLine]:
    """Pairs in order from ``filters.after`` on; or, nearest first, those before ``back``."""
    where = _pair_conditions(filters, reviews)
    column, direction = _ORDERS[filters.sort]
    descending = (direction == "DESC") != (back is not None)
    start = _key(back, filters) if back else _read_cursor(filters)
    if start is not None:
        # Two conditions and not a row of values: this one leaves whole blocks unread.
        beyond = "<" if descending else ">"
        where.add(f"({column} {beyond}= ? AND ({column} {beyond} ? OR pair_id {beyond} ?))", start[0], *start)
    order = "DESC" if descending else ""
    branch, table = ("branch", "archived_pairs") if filters.branch else ("NULL::VARCHAR AS branch", "pairs")
    rows = store.query(
        f"SELECT {_PAIR}, {branch} FROM {table} {where} ORDER BY {column} {order}, pair_id {order} LIMIT {count}",
        where.values,
    ).to_pylist()
    return [PairLine(**row) for row in rows]


def _pair_conditions(filters: Filters, reviews: Mapping[str, Review]) -> _Where:
    where = _Where()
    where.optional("branch = ?", filters.branch)
    where.optional("round = ?", filters.round)
    where.optional("judge = ?", filters.judge)
    where.optional("margin >= ?", filters.min_margin)
    where.optional("margin <= ?", filters.max_margin)
    asked = _Where()
    asked.optional("language = ?", filters.language)
    asked.optional("category = ?", filters.category)
    for word in words(filters.q or ""):
        asked.add("regexp_matches(text, ?, 'i')", _literally(word))
    if asked.conditions:
        source = "archived_prompts" if filters.branch else "prompts"
        either = f"SELECT prompt_id FROM prompts {asked}"
        values = list(asked.values)
        if filters.branch:  # a branch may have its pairs alone, or its prompts as well
            either += f" UNION ALL SELECT prompt_id FROM {source} {asked}"
            values += asked.values
        where.add(f"prompt_id IN ({either})", *values)
    length = _Where()
    length.optional("n_tokens >= ?", filters.min_length)
    length.optional("n_tokens <= ?", filters.max_length)
    if length.conditions:
        length.optional("round = ?", filters.round)
        where.add(f"chosen_id IN (SELECT candidate_id FROM {_all('candidates', filters)} {length})", *length.values)
    if filters.outcome:
        said = _Where()
        said.add("outcome = ?", filters.outcome)
        said.optional("round = ?", filters.round)
        table = _all("judgements", filters)
        # An empty branch of OR costs a second pass, so the two sides are asked of one list of candidates.
        where.add(
            f"pair_id IN (SELECT pair_id FROM (SELECT pair_id, unnest([chosen_id, rejected_id]) AS side FROM "
            f"{_all('pairs', filters)}) SEMI JOIN (SELECT candidate_id AS side FROM {table} {said}) USING (side))",
            *said.values,
        )
    if filters.review:
        wanted = [p for p, one in reviews.items() if filters.review in ("any", "none", one.decision)]
        where.add(f"pair_id {'NOT ' if filters.review == 'none' else ''}IN (SELECT unnest(?::VARCHAR[]))", wanted)
    return where


def _all(table: str, filters: Filters) -> str:
    """``table``, with what was set aside where a branch is looked at."""
    return f"(SELECT * FROM {table} UNION ALL BY NAME SELECT * FROM archived_{table})" if filters.branch else table


def _key(pair: PairLine, filters: Filters) -> tuple[float, str]:
    return getattr(pair, _ORDERS[filters.sort][0]), pair.pair_id


def _pair_cursor(pair: PairLine, filters: Filters) -> str:
    number, pair_id = _key(pair, filters)
    return f"{number!r}~{pair_id}"


def _read_cursor(filters: Filters) -> tuple[float, str] | None:
    if filters.after is None:
        return None
    number, tilde, pair_id = filters.after.partition("~")
    try:
        if tilde:
            return float(number), pair_id
    except ValueError:
        pass
    raise BadInput(f"after: {filters.after!r} is no place in this list; begin it anew")


def _neighbour(
    store: Store, own: PairLine, filters: Filters, reviews: Mapping[str, Review], *, forward: bool
) -> str | None:
    """The pair after or before ``own``; where ``own`` is not among those of ``filters``, from its place on."""
    if forward:
        found = _pair_keys(store, _beginning(filters, _pair_cursor(own, filters)), reviews, 1)
    else:
        found = _pair_keys(store, _beginning(filters, None), reviews, 1, back=own)
    return found[0].pair_id if found else None


def _beginning(filters: Filters, after: str | None) -> Filters:
    return replace(filters, after=after)


def _trainings(store: Store, pair: PairLine) -> list[Training]:
    """Rounds that were given the pair, oldest first; of the run as it stands."""
    if pair.branch is not None:
        return []
    changed = {}
    if has_reviews(store):
        rows = store.query("SELECT round, decision FROM overrides WHERE pair_id = ?", (pair.pair_id,)).to_pylist()
        changed = {row["round"]: row["decision"] for row in rows}
    rows = store.query(
        "SELECT g.round, k.path AS checkpoint, k.weights_hash, e.value AS pass_rate FROM ("
        "SELECT ?::INTEGER AS round UNION SELECT round FROM replays WHERE kind = 'pair' AND example_id = ? "
        "UNION SELECT unnest(?::INTEGER[])) g "
        "LEFT JOIN checkpoints k ON k.round = g.round LEFT JOIN evaluations e ON e.round = g.round "
        "AND e.metric = 'pass_rate_strict' AND e.split = 'held_out' "
        "QUALIFY row_number() OVER (PARTITION BY g.round ORDER BY k.created_at DESC) = 1 ORDER BY g.round",
        (pair.round, pair.pair_id, sorted(changed)),
    ).to_pylist()
    return [Training(review=changed.get(row["round"]), **row) for row in rows]


# -- reviews ------------------------------------------------------------------------------------------------------


def has_reviews(store: Store) -> bool:
    """Whether the store has the table; one that an older version wrote has none until a run opens it."""
    return bool(store.query("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reviews'").num_rows)


def taken_in(store: Store) -> list[Review]:
    """Reviews that the run has in its store, oldest first."""
    return store.rows(Review) if has_reviews(store) else []


def review_lines(store: Store, said: Sequence[Review], taken: frozenset[str]) -> list[ReviewInList]:
    """All reviews, newest first, with the rounds whose training they changed."""
    rounds: dict[str, list[int]] = {}
    if has_reviews(store):
        for row in store.query("SELECT review_id, round FROM overrides ORDER BY round").to_pylist():
            rounds.setdefault(row["review_id"], []).append(row["round"])
    holding = {review.review_id for review in latest(said).values()}
    return [
        ReviewInList(one, one.review_id in holding, one.review_id in taken, tuple(rounds.get(one.review_id, ())))
        for one in reversed(said)
    ]


# -- prompts, candidates, judgements --------------------------------------------------------------------------------


def prompts(store: Store, filters: Filters) -> Page[PromptLine]:
    where = _Where()
    for name in ("branch", "round", "split", "language", "category"):
        where.optional(f"{name} = ?", getattr(filters, name))
    found, page = _stretches(store, "prompts", filters, where, "text")
    numbers = [number for number, _ in found]
    rows = _by_number(store, _table("prompts", filters), numbers, _PROMPT, PromptLine)
    return Page(rows, *page)


def candidates(store: Store, filters: Filters) -> Page[CandidateLine]:
    where = _Where()
    for name in ("branch", "round", "split"):
        where.optional(f"{name} = ?", getattr(filters, name))
    where.optional("n_tokens >= ?", filters.min_length)
    where.optional("n_tokens <= ?", filters.max_length)
    asked = _Where()
    asked.optional("language = ?", filters.language)
    asked.optional("category = ?", filters.category)
    if asked.conditions:
        where.add(f"prompt_id IN (SELECT prompt_id FROM {_all('prompts', filters)} {asked})", *asked.values)
    said = _Where()
    said.optional("judge = ?", filters.judge)
    said.optional("outcome = ?", filters.outcome)
    if said.conditions:
        said.optional("round = ?", filters.round)
        where.add(f"candidate_id IN (SELECT candidate_id FROM {_all('judgements', filters)} {said})", *said.values)
    found, page = _stretches(store, "candidates", filters, where, "text")
    rows = _by_number(store, _table("candidates", filters), [number for number, _ in found], _CANDIDATE, CandidateLine)
    return Page(rows, *page)


def judgements(store: Store, filters: Filters) -> Page[JudgementInList]:
    where = _Where()
    for name in ("branch", "round", "judge", "outcome"):
        where.optional(f"{name} = ?", getattr(filters, name))
    found, page = _stretches(store, "judgements", filters, where, "raw")
    rows = _by_number(store, _table("judgements", filters), [number for number, _ in found], _JUDGEMENT, JudgementLine)
    answers = _candidates(store, {row.candidate_id for row in rows}, None, filters.branch)
    return Page([JudgementInList(row, _text(answers.get(row.candidate_id))) for row in rows], *page)


def candidate(store: Store, candidate_id: str, branch: str | None) -> tuple[Answer, PromptLine | None] | None:
    """A candidate with its judgements, the pairs it is in, and its prompt."""
    found = answers_of(store, [candidate_id], None, branch)
    if not found:
        return None
    own = found[0].candidate
    table = "archived_pairs" if branch else "pairs"
    rows = store.query(
        f"SELECT {_PAIR}, {'branch' if branch else 'NULL::VARCHAR AS branch'} FROM {table} "
        f"WHERE (chosen_id = ? OR rejected_id = ?) {'AND branch = ?' if branch else ''} ORDER BY pair_id LIMIT 50",
        (candidate_id, candidate_id, *([branch] if branch else [])),
    ).to_pylist()
    asked = _prompts(store, {own.prompt_id}, None, branch)
    return Answer(own, found[0].judgements, [PairLine(**row) for row in rows]), asked.get(own.prompt_id)


def prompt(store: Store, prompt_id: str, round: int | None, branch: str | None) -> PromptInFull | None:
    """A prompt with all answers of one round: of ``round``, or of the last that has any."""
    source = _all("prompts", Filters(branch=branch))
    rows = store.query(
        f"SELECT DISTINCT {_PROMPT} FROM {source} WHERE prompt_id = ? ORDER BY round", (prompt_id,)
    ).to_pylist()
    if not rows:
        return None
    answered = _all("candidates", Filters(branch=branch))
    rounds = store.query(
        f"SELECT DISTINCT round FROM {answered} WHERE prompt_id = ? ORDER BY round", (prompt_id,)
    )["round"].to_pylist()  # fmt: skip
    shown = round if round is not None else (rounds[-1] if rounds else rows[-1]["round"])
    own = next((row for row in rows if row["round"] == shown), rows[-1])
    ids = store.query(
        f"SELECT DISTINCT candidate_id FROM {answered} WHERE prompt_id = ? AND round = ?", (prompt_id, shown)
    )["candidate_id"].to_pylist()
    answers = answers_of(store, ids, {shown}, branch)
    of_pairs = store.query(
        f"SELECT {_PAIR}, {'branch' if branch else 'NULL::VARCHAR AS branch'} FROM {'archived_pairs' if branch else 'pairs'} "
        "WHERE prompt_id = ? AND round = ?", (prompt_id, shown)
    ).to_pylist()  # fmt: skip
    lines = [PairLine(**row) for row in of_pairs]
    answers = [
        Answer(
            one.candidate,
            one.judgements,
            [p for p in lines if one.candidate.candidate_id in (p.chosen_id, p.rejected_id)],
        )
        for one in answers
    ]
    why = store.query(
        "SELECT message FROM events WHERE kind = 'no_pair' AND subject_id = ? AND round = ? LIMIT 1", (prompt_id, shown)
    )["message"].to_pylist()
    return PromptInFull(_prompt_line(own), answers, rounds, why[0] if why and not lines else None)


def answers_of(store: Store, ids: Sequence[str], rounds: Iterable[int] | None, branch: str | None) -> list[Answer]:
    """Candidates with their judgements, in order of sample."""
    found = _candidates(store, set(ids), rounds, branch)
    # Answers to training prompts are judged in their own round; held-out ones again in later rounds, to compare models.
    judged = rounds if all(one.split == "train" for one in found.values()) else None
    by_candidate: dict[str, dict[str, JudgementLine]] = {}
    for source in ("judgements", *(["archived_judgements"] if branch else [])):
        for row in _of(store, source, "candidate_id", set(found), judged, _JUDGEMENT, JudgementLine):
            by_candidate.setdefault(row.candidate_id, {})[row.judgement_id] = row
    in_order = sorted(found.values(), key=lambda one: (one.round, one.sample_idx, one.candidate_id))
    return [Answer(one, sorted(by_candidate.get(one.candidate_id, {}).values(), key=_vote)) for one in in_order]


def _vote(row: JudgementLine) -> tuple[int, str, int, str]:
    return row.round, row.judge, row.sample_idx, row.judgement_id


# -- reading by row number ----------------------------------------------------------------------------------------


def _table(name: str, filters: Filters) -> str:
    return f"archived_{name}" if filters.branch else name


def _candidates(
    store: Store, ids: set[str], rounds: Iterable[int] | None, branch: str | None
) -> dict[str, CandidateLine]:
    """By id; of a branch also those that it set aside."""
    return {
        row.candidate_id: row
        for row in _by_id(store, "candidates", "candidate_id", ids, rounds, branch, _CANDIDATE, CandidateLine)
    }


def _prompts(store: Store, ids: set[str], rounds: Iterable[int] | None, branch: str | None) -> dict[str, PromptLine]:
    found = _by_id(store, "prompts", "prompt_id", ids, None if branch else rounds, branch, _PROMPT, PromptLine)
    missing = ids - {row.prompt_id for row in found}
    if missing and rounds is not None:  # held-out prompts are written once, as round 0
        found += _by_id(store, "prompts", "prompt_id", missing, None, branch, _PROMPT, PromptLine)
    return {row.prompt_id: row for row in found}


def _by_id(
    store: Store, table: str, column: str, ids: set[str], rounds: Iterable[int] | None, branch: str | None, names: str,
    kind: type[R],
) -> list[R]:  # fmt: skip
    found: list[R] = []
    for source in (table, *([f"archived_{table}"] if branch else [])):
        missing = ids - {getattr(row, column) for row in found}
        if not missing:
            break
        found += _of(store, source, column, missing, rounds, names, kind)
    return found


def _of(
    store: Store, table: str, column: str, ids: set[str], rounds: Iterable[int] | None, names: str, kind: type[R]
) -> list[R]:
    """Rows of ``table`` whose ``column`` is one of ``ids``, found by that column alone and then read by number."""
    where = _Where()
    where.add(f"{column} IN (SELECT unnest(?::VARCHAR[]))", sorted(ids))
    if rounds is not None:
        where.add(f"round IN ({', '.join(str(int(round)) for round in sorted(rounds)) or 'NULL'})")
    numbers = store.query(f"SELECT rowid AS n FROM {table} {where}", where.values)["n"].to_pylist()
    return _by_number(store, table, numbers, names, kind)


def _by_number(store: Store, table: str, numbers: Sequence[int], names: str, kind: type[R]) -> list[R]:
    if not numbers:
        return []
    rows = store.query(
        f"SELECT {names} FROM {table} WHERE rowid IN (SELECT unnest(?::BIGINT[])) ORDER BY rowid", (list(numbers),)
    ).to_pylist()
    return [_prompt_line(row) if kind is PromptLine else kind(**row) for row in rows]  # type: ignore[misc]


def _stretches(
    store: Store, table: str, filters: Filters, where: _Where, text: str
) -> tuple[list[tuple[int, None]], tuple[str | None, int | None, int | None]]:
    """Row numbers of a page in the order of writing, and where the next one begins, how many rows were looked at, of how many."""
    source = _table(table, filters)
    searched = words(filters.q or "")
    for word in searched:
        where.add(f"regexp_matches({text}, ?, 'i')", _literally(word))
    first = _row_number(filters)
    if not searched:
        where.add("rowid > ?", first)
        rows = store.query(f"SELECT rowid AS n FROM {source} {where} ORDER BY rowid LIMIT {PAGE + 1}", where.values)
        found = rows["n"].to_pylist()
        return [(n, None) for n in found[:PAGE]], (str(found[PAGE - 1]) if len(found) > PAGE else None, None, None)
    total = store.query(f"SELECT coalesce(max(rowid), -1) + 1 AS n FROM {source}")["n"].to_pylist()[0]
    where.add("rowid > ? AND rowid <= ?")
    begun, numbers = time.monotonic(), list[int]()
    while first + 1 < total and len(numbers) <= PAGE and (not numbers or time.monotonic() - begun < SEARCH_S):
        last = min(first + STRETCH, total - 1)
        rows = store.query(
            f"SELECT rowid AS n FROM {source} {where} ORDER BY rowid LIMIT {PAGE + 1 - len(numbers)}",
            [*where.values, first, last],
        )
        numbers += rows["n"].to_pylist()
        first = last
        if time.monotonic() - begun > SEARCH_S:
            break
    if len(numbers) > PAGE:
        return [(n, None) for n in numbers[:PAGE]], (str(numbers[PAGE - 1]), None, None)
    over = first + 1 >= total
    return [(n, None) for n in numbers], (None if over else str(first), first + 1, total)


def _row_number(filters: Filters) -> int:
    if filters.after is None:
        return -1
    if not filters.after.isdecimal() or len(filters.after) > 18:
        raise BadInput(f"after: {filters.after!r} is no place in this list; begin it anew")
    return int(filters.after)


def _literally(word: str) -> str:
    """``word`` as a regular expression (RE2) that matches nothing else."""
    return "".join(c if c.isalnum() or c == "_" or ord(c) > 127 else f"\\{c}" if c != "\0" else "\\x00" for c in word)


def _prompt_line(row: Mapping[str, Any]) -> PromptLine:
    return PromptLine(**{**row, "instructions": tuple(row["instructions"])})


def _text(row: PromptLine | CandidateLine | None) -> str:
    return row.text if row else ""

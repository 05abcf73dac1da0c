"""What the numbers of a row must be, given the rows it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from selfalign.checks.findings import Finding, Query, Rule, broken

#: Means of the same votes may differ in the last bits.
_ROUNDING = "1e-9 * greatest(1.0, abs(m.score))"
#: Built-in trainers, which train on every pair of their round; others may choose.
_USES_ALL = "('dpo', 'sft')"


def rules(query: Query) -> list[Finding]:
    """Scores, margins and counts that their own sources contradict."""
    return broken(query, [*_margins(), *_of_judgements(), *_scores(), *_votes(), *_examples()])


def _margins() -> Iterator[Rule]:
    yield Rule(
        "margin", "pairs",
        "SELECT pair_id AS row_id, round, NULL AS place, 'margin ' || margin || ' is not ' || chosen_score || ' - ' || "
        "rejected_score AS what FROM pairs "
        "WHERE NOT abs(margin - (chosen_score - rejected_score)) <= 1e-9 * greatest(1.0, abs(chosen_score)) "
        # A pair's margin may also be the mean of several votes' differences, as an event then says.
        "AND NOT EXISTS (SELECT 1 FROM events e WHERE e.kind = 'pair_strength' AND e.subject_id = pair_id "
        "AND abs(margin - (e.detail::JSON ->> 'mean')::DOUBLE) <= 1e-9)",
    )  # fmt: skip
    yield Rule(
        "same_candidate_twice", "pairs",
        "SELECT pair_id AS row_id, round, NULL AS place, 'chosen and rejected are both ' || chosen_id AS what "
        "FROM pairs WHERE chosen_id = rejected_id",
    )  # fmt: skip


def _of_judgements() -> Iterator[Rule]:
    yield Rule(
        "margin", "judgement_pairs",
        "SELECT pair_id AS row_id, round, NULL AS place, 'margin ' || margin || ' is not ' || chosen_elo || ' - ' || "
        "rejected_elo || ' above 0' AS what FROM judgement_pairs "
        "WHERE NOT (margin > 0 AND abs(margin - (chosen_elo - rejected_elo)) <= 1e-9 * greatest(1.0, abs(chosen_elo)))",
    )  # fmt: skip
    yield Rule(
        "winner", "meta_judgements",
        "SELECT meta_id AS row_id, round, NULL AS place, 'winner ' || winner || ' where first is better with probability ' "
        "|| p_first AS what FROM meta_judgements WHERE (winner = 'first') <> (p_first > 0.5) OR p_first NOT BETWEEN 0 AND 1",
    )  # fmt: skip
    for table, identity, one, other in (
        ("judgement_pairs", "pair_id", "chosen_id", "rejected_id"), ("meta_judgements", "meta_id", "first_id", "second_id")
    ):  # fmt: skip
        yield Rule(
            "same_judgement_twice", table,
            f"SELECT {identity} AS row_id, round, NULL AS place, '{one} and {other} are both ' || {one} AS what "
            f"FROM {table} WHERE {one} = {other}",
        )  # fmt: skip


def _scores() -> Iterator[Rule]:
    """Where one judge of that name judged in the round; a pair does not say which of several it followed."""
    for side in ("chosen", "rejected"):
        yield Rule(
            "score", "pairs",
            f"{_MEANS} SELECT p.pair_id AS row_id, p.round, '{side}' AS place, '{side}_score ' || p.{side}_score || "
            f"' is not the mean of ' || p.judge || '''s valid votes, ' || coalesce(m.score::VARCHAR, 'of which there "
            f"are none') AS what FROM pairs p SEMI JOIN one_judge o ON o.round = p.round AND o.judge = p.judge "
            f"LEFT JOIN means m ON m.candidate_id = p.{side}_id AND m.round = p.round AND m.judge = p.judge "
            f"WHERE m.score IS NULL OR NOT abs(p.{side}_score - m.score) <= {_ROUNDING}",
        )  # fmt: skip
    yield Rule(
        "score", "unary_labels",
        f"{_MEANS} SELECT u.label_id AS row_id, u.round, NULL AS place, 'score ' || u.score || "
        f"' is no judge''s mean of valid votes' AS what FROM unary_labels u "
        f"WHERE NOT EXISTS (SELECT 1 FROM means m WHERE m.candidate_id = u.candidate_id AND m.round = u.round "
        f"AND abs(u.score - m.score) <= {_ROUNDING})",
    )  # fmt: skip


_MEANS = (
    "WITH one_judge AS (SELECT round, judge FROM judgements GROUP BY round, judge "
    "HAVING count(DISTINCT judge_hash) = 1), "
    "means AS (SELECT candidate_id, round, judge, avg(score) AS score FROM judgements "
    "WHERE outcome = 'ok' AND score IS NOT NULL AND candidate_id IN (SELECT chosen_id FROM pairs UNION ALL "
    "SELECT rejected_id FROM pairs UNION ALL SELECT candidate_id FROM unary_labels) "
    "GROUP BY candidate_id, round, judge)"
)


def _votes() -> Iterator[Rule]:
    yield Rule(
        "score_of_invalid_vote", "judgements",
        "SELECT judgement_id AS row_id, round, 'judge ' || judge AS place, "
        "'outcome ' || outcome || ' with score ' || coalesce(score::VARCHAR, 'NULL') AS what "
        "FROM judgements WHERE (outcome = 'ok') <> (score IS NOT NULL) OR isnan(score)",
    )  # fmt: skip


def _examples() -> Iterator[Rule]:
    yield Rule(
        "n_examples", "checkpoints",
        "WITH made AS (SELECT round, count(*) AS n FROM "
        "(SELECT round FROM pairs UNION ALL SELECT round FROM lessons UNION ALL SELECT round FROM judgement_pairs) "
        "GROUP BY round) "
        "SELECT k.checkpoint_id AS row_id, k.round, NULL AS place, "
        "'was trained on ' || k.n_examples || ' examples, the round has ' || coalesce(m.n, 0) || ' pairs or lessons' AS what "
        "FROM checkpoints k LEFT JOIN made m USING (round) "
        f"WHERE k.trainer IN {_USES_ALL} AND k.n_examples <> coalesce(m.n, 0)",
    )  # fmt: skip

"""What the numbers of a row must be, given the rows it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from selfalign.checks.findings import Finding, Query, Rule, broken
from selfalign.checks.references import CANDIDATE_COLUMNS, one_a_candidate
from selfalign.training.pairwise import TRAINERS

#: Means of the same votes may differ in the last bits.
_ROUNDING = "1e-9 * greatest(1.0, abs(m.score))"
#: Built-in trainers, and what they train on of all that their round was given (view trained_on); others may choose.
_USES_ALL = {
    **dict.fromkeys(TRAINERS, ("pair", "judgement_pair")), "kto": ("label",), "rrhf": ("ranking",), "pro": ("ranking",),
    "sft": ("pair", "label", "ranking", "lesson"),
}  # fmt: skip
#: Tables of what a pair builder makes; it is shown a resampler's accepted candidates only.
_EXAMPLES = frozenset({"pairs", "unary_labels", "rankings"})
#: To imitate there are only wanted answers, and lessons as well.
_GIVEN = (
    "SELECT t.round, t.kind, coalesce(u.label, true) AS wanted FROM trained_on t "
    "LEFT JOIN unary_labels u ON t.kind = 'label' AND u.label_id = t.example_id "
    "UNION ALL SELECT round, 'lesson', true FROM lessons"
)


def rules(query: Query) -> list[Finding]:
    """Scores, margins and counts that their own sources contradict."""
    every = [*_margins(), *_of_judgements(), *_lists(), *_scores(), *_votes(), *_selections(), *_examples()]
    return broken(query, every)


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


def _lists() -> Iterator[Rule]:
    yield Rule(
        "ranking", "rankings",
        "SELECT ranking_id AS row_id, round, NULL AS place, CASE "
        "WHEN len(candidate_ids) <> len(scores) THEN len(candidate_ids) || ' candidates have ' || len(scores) || ' scores' "
        "WHEN len(list_distinct(candidate_ids)) <> len(candidate_ids) THEN 'a candidate is there twice' "
        "WHEN len(candidate_ids) < 2 THEN 'has fewer than two candidates' "
        "WHEN list_reverse_sort(scores) <> scores THEN 'is not in order of its scores' END AS what "
        "FROM rankings WHERE what IS NOT NULL",
    )  # fmt: skip
    yield Rule(
        "both_labels", "unary_labels",
        "SELECT min(label_id) AS row_id, round, NULL AS place, "
        "'candidate ' || candidate_id || ' is desirable and undesirable' AS what "
        "FROM unary_labels GROUP BY round, candidate_id HAVING count(DISTINCT label) > 1",
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
        # A builder's own figure stands beside what the judge said, as an event then has it.
        judged = f"coalesce((e.detail::JSON ->> '{side}_judged')::DOUBLE, p.{side}_score)"
        yield Rule(
            "score", "pairs",
            f"{_MEANS} SELECT p.pair_id AS row_id, p.round, '{side}' AS place, '{side}_score ' || {judged} || "
            f"' is not the mean of ' || p.judge || '''s valid votes, ' || coalesce(m.score::VARCHAR, 'of which there "
            f"are none') AS what FROM pairs p SEMI JOIN one_judge o ON o.round = p.round AND o.judge = p.judge "
            f"LEFT JOIN events e ON e.kind = 'pair_score' AND e.subject_id = p.pair_id "
            f"LEFT JOIN means m ON m.candidate_id = p.{side}_id AND m.round = p.round AND m.judge = p.judge "
            f"WHERE m.score IS NULL OR NOT abs({judged} - m.score) <= {_ROUNDING}",
        )  # fmt: skip
    yield Rule(
        "score", "unary_labels",
        f"{_MEANS} SELECT u.label_id AS row_id, u.round, NULL AS place, 'score ' || u.score || "
        f"' is no judge''s mean of valid votes' AS what FROM unary_labels u "
        f"WHERE NOT EXISTS (SELECT 1 FROM means m WHERE m.candidate_id = u.candidate_id AND m.round = u.round "
        f"AND abs(u.score - m.score) <= {_ROUNDING})",
    )  # fmt: skip
    yield Rule(
        "score", "rankings",
        f"{_MEANS} SELECT r.ranking_id AS row_id, r.round, r.id AS place, 'score ' || r.score || ' is not the mean of "
        f"the valid votes of ' || r.judge || ', ' || coalesce(m.score::VARCHAR, 'of which there are none') AS what "
        f"FROM (SELECT *, unnest(candidate_ids) AS id, unnest(scores) AS score FROM rankings) r "
        f"SEMI JOIN one_judge o ON o.round = r.round AND o.judge = r.judge "
        f"LEFT JOIN means m ON m.candidate_id = r.id AND m.round = r.round AND m.judge = r.judge "
        f"WHERE m.score IS NULL OR NOT abs(r.score - m.score) <= {_ROUNDING}",
    )  # fmt: skip


_MEANS = (
    "WITH one_judge AS (SELECT round, judge FROM judgements GROUP BY round, judge "
    "HAVING count(DISTINCT judge_hash) = 1), "
    "means AS (SELECT candidate_id, round, judge, avg(score) AS score FROM judgements "
    "WHERE outcome = 'ok' AND score IS NOT NULL AND candidate_id IN (SELECT chosen_id FROM pairs UNION ALL "
    "SELECT rejected_id FROM pairs UNION ALL SELECT candidate_id FROM unary_labels UNION ALL "
    "SELECT unnest(candidate_ids) FROM rankings) "
    "GROUP BY candidate_id, round, judge)"
)


def _votes() -> Iterator[Rule]:
    yield Rule(
        "score_of_invalid_vote", "judgements",
        "SELECT judgement_id AS row_id, round, 'judge ' || judge AS place, "
        "'outcome ' || outcome || ' with score ' || coalesce(score::VARCHAR, 'NULL') AS what "
        "FROM judgements WHERE (outcome = 'ok') <> (score IS NOT NULL) OR isnan(score)",
    )  # fmt: skip


def _selections() -> Iterator[Rule]:
    """A resampler's decisions, and what was made of candidates that it left out."""
    yield Rule(
        "accept_order", "selections",
        "SELECT selection_id AS row_id, round, 'prompt ' || prompt_id AS place, 'accepted is ' || accepted || ' and "
        "accept_order ' || coalesce(accept_order::VARCHAR, 'NULL') || ', of ' || n || ' accepted' AS what "
        "FROM (SELECT *, count(*) FILTER (WHERE accepted) OVER (PARTITION BY round, prompt_id) AS n FROM selections) "
        "WHERE accepted <> (accept_order IS NOT NULL) OR accept_order NOT BETWEEN 0 AND n - 1",
    )  # fmt: skip
    for table, identity, column in CANDIDATE_COLUMNS:
        if table not in _EXAMPLES:
            continue
        yield Rule(
            "not_accepted", table,
            f"SELECT r.{identity} AS row_id, r.round, '{column}' AS place, 'candidate ' || r.{column} || CASE WHEN "
            "s.resampler IS NULL THEN ' was decided on by no resampler, as others of its round were' ELSE ' was not accepted "
            f"by resampler ' || s.resampler END AS what FROM {one_a_candidate(table)} r "
            f"LEFT JOIN selections s ON s.round = r.round AND s.candidate_id = r.{column} "
            "WHERE s.accepted IS NOT TRUE AND r.round IN (SELECT round FROM selections)",
        )  # fmt: skip


def _examples() -> Iterator[Rule]:
    for trainer, kinds in _USES_ALL.items():
        named = ", ".join(f"'{kind}'" for kind in kinds)
        yield Rule(
            "n_examples", "checkpoints",
            f"WITH made AS (SELECT round, count(*) AS n FROM ({_GIVEN}) WHERE kind IN ({named}) "
            f"AND (wanted OR '{trainer}' <> 'sft') GROUP BY round) "
            "SELECT k.checkpoint_id AS row_id, k.round, NULL AS place, 'was trained on ' || k.n_examples || "
            f"' examples, the round has ' || coalesce(m.n, 0) || ' for {trainer}' AS what "
            "FROM checkpoints k LEFT JOIN made m USING (round) "
            f"WHERE k.trainer = '{trainer}' AND k.n_examples <> coalesce(m.n, 0)",
        )  # fmt: skip

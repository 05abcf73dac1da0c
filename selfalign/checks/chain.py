"""From prompt to checkpoint: every row was made by the weights that its round says."""

from __future__ import annotations

from selfalign.checks.findings import Finding, Query, Rule, broken
from selfalign.engines.openai_engine import SERVED
from selfalign.sources.preferences import IMPORTED, NAME

#: What the loss compared with, as the round has it; an average's own hash is known to its folder alone.
_REFERENCE = "json_extract_string(r.policy, '$.reference')"
#: Weights that this run has had in its hands.
_KNOWN = "(SELECT weights_hash FROM rounds UNION ALL SELECT parent_hash FROM rounds)"


def chain(query: Query) -> list[Finding]:
    """Breaks in M_0 -> candidates -> judgements -> M_1 -> ... as the hashes in the rows have it."""
    return broken(query, _RULES)


_RULES = (
    Rule(
        "parent", "rounds",
        "SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, 'started from weights ' || r.parent_hash || ', "
        "but round ' || p.round || ' ended with ' || p.weights_hash AS what "
        "FROM rounds r JOIN rounds p ON p.round = r.round - 1 WHERE r.parent_hash <> p.weights_hash",
    ),
    Rule(
        "no_parent", "rounds",
        "SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, 'there is no round ' || (r.round - 1) AS what "
        "FROM rounds r ANTI JOIN rounds p ON p.round = r.round - 1 WHERE r.round > 0",
    ),
    Rule(
        "made_by_other_weights", "candidates",
        "SELECT c.candidate_id AS row_id, c.round, c.split AS place, 'was made by weights ' || c.weights_hash || "
        "', the round''s are ' || CASE c.split WHEN 'train' THEN r.parent_hash ELSE r.weights_hash END AS what "
        "FROM candidates c JOIN rounds r USING (round) WHERE c.origin IS DISTINCT FROM 'demonstration' "
        # What a server answered has its name there; a round's own model never answers so.
        f"AND NOT (c.split = 'train' AND starts_with(c.weights_hash, '{SERVED}')) AND c.origin IS DISTINCT FROM '{NAME}' "
        "AND c.weights_hash <> CASE c.split WHEN 'train' THEN r.parent_hash ELSE r.weights_hash END",
    ),
    # Nobody knows who wrote an imported answer, and its hash says so; round 0 has no other training rows.
    Rule(
        "not_imported", "candidates",
        "SELECT c.candidate_id AS row_id, c.round, c.split AS place, 'is said to be imported, with weights ' || "
        "c.weights_hash AS what FROM candidates c WHERE (c.origin IS NOT DISTINCT FROM 'imported') <> "
        f"(c.round = 0 AND c.split = 'train' AND starts_with(c.weights_hash, '{IMPORTED}'))",
    ),
    # Known answers: no weights made them, and their text is what came with the prompt.
    Rule(
        "not_the_known_answer", "candidates",
        "SELECT c.candidate_id AS row_id, c.round, c.split AS place, CASE WHEN c.weights_hash <> '' "
        "THEN 'is a demonstration and names weights ' || c.weights_hash "
        "ELSE 'is a demonstration and not its prompt''s answer' END AS what "
        "FROM candidates c LEFT JOIN prompts p ON p.prompt_id = c.prompt_id AND p.round = c.round AND p.split = c.split "
        "WHERE c.origin = 'demonstration' AND (c.weights_hash <> '' OR p.answer IS DISTINCT FROM c.text)",
    ),
    Rule(
        "judged_by_other_weights", "judgements",
        "SELECT j.judgement_id AS row_id, j.round, 'judge ' || j.judge AS place, 'was made by weights ' || "
        "j.weights_hash || ', the round started from ' || r.parent_hash AS what "
        "FROM judgements j JOIN rounds r USING (round) "
        "WHERE j.weights_hash <> r.parent_hash AND json_extract_string(j.detail, '$.stage') IS NULL",
    ),
    Rule(
        "judged_by_other_weights", "meta_judgements",
        "SELECT m.meta_id AS row_id, m.round, 'judge ' || m.judge AS place, 'was made by weights ' || "
        "m.weights_hash || ', the round started from ' || r.parent_hash AS what "
        "FROM meta_judgements m JOIN rounds r USING (round) WHERE m.weights_hash <> r.parent_hash",
    ),
    # What measures a round (win rates, drift) is judged with M_0's weights or its own.
    Rule(
        "measured_by_other_weights", "judgements",
        "SELECT j.judgement_id AS row_id, j.round, 'judge ' || j.judge AS place, 'was made by weights ' || "
        "j.weights_hash || ', neither M0''s nor the round''s' AS what FROM judgements j JOIN rounds r USING (round) "
        "JOIN rounds m ON m.round = 0 WHERE json_extract_string(j.detail, '$.stage') IS NOT NULL "
        "AND j.weights_hash <> r.weights_hash AND j.weights_hash <> m.weights_hash",
    ),
    Rule(
        "not_the_rounds_checkpoint", "checkpoints",
        "SELECT k.checkpoint_id AS row_id, k.round, NULL AS place, 'has weights ' || k.weights_hash || ' from ' || "
        "coalesce(k.parent_id, 'none') || ', the round has ' || r.weights_hash || ' from ' || "
        "coalesce(r.start_hash, r.parent_hash) AS what FROM checkpoints k JOIN rounds r USING (round) "
        "WHERE k.weights_hash <> r.weights_hash OR k.parent_id <> coalesce(r.start_hash, r.parent_hash)",
    ),
    Rule(
        "other_start", "rounds",
        "SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, 'trained weights ' || r.start_hash || ', its policy says "
        "' || json_extract_string(r.policy, '$.start') AS what FROM rounds r JOIN rounds m ON m.round = 0 "
        "WHERE r.start_hash <> CASE json_extract_string(r.policy, '$.start') WHEN 'base' THEN m.weights_hash "
        "ELSE r.parent_hash END",
    ),
    Rule(
        "no_checkpoint", "rounds",
        "SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, "
        "'ended with weights ' || r.weights_hash || ' that no checkpoint has' AS what "
        "FROM rounds r ANTI JOIN checkpoints k ON k.round = r.round AND k.weights_hash = r.weights_hash "
        "WHERE r.round > 0 AND r.weights_hash IS NOT NULL",
    ),
    Rule(
        "unknown_reference", "checkpoints",
        "SELECT k.checkpoint_id AS row_id, k.round, NULL AS place, "
        "'was trained against reference ' || k.reference_hash || ', which no round of this run has' AS what "
        f"FROM checkpoints k LEFT JOIN rounds r USING (round) WHERE k.reference_hash IS NOT NULL "
        f"AND (k.round = 1 OR {_REFERENCE} IS NULL OR {_REFERENCE} IN ('previous', 'initial')) "
        f"AND k.reference_hash NOT IN (SELECT weights_hash FROM {_KNOWN} WHERE weights_hash IS NOT NULL)",
    ),
    Rule(
        "not_the_policys_reference", "rounds",
        f"SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, 'was compared with ' || r.reference_hash || ', its "
        f"policy says ' || {_REFERENCE} AS what FROM rounds r JOIN rounds m ON m.round = 0 "
        f"WHERE r.reference_hash <> CASE {_REFERENCE} WHEN 'previous' THEN r.parent_hash WHEN 'initial' THEN m.weights_hash END",
    ),
    Rule(
        "other_reference", "rounds",
        "SELECT r.round::VARCHAR AS row_id, r.round, NULL AS place, 'names reference ' || r.reference_hash || "
        "', its checkpoint ' || k.reference_hash AS what "
        "FROM rounds r JOIN checkpoints k ON k.round = r.round AND k.weights_hash = r.weights_hash "
        "WHERE r.reference_hash <> k.reference_hash",
    ),
)  # fmt: skip

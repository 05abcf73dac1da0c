"""Rows of stages that a run went back on: moved out of the run's tables, kept under a branch's name, brought back.

A stage owns the rows it made (:func:`_owned`). Moving a stage takes them from ``candidates`` to
``archived_candidates`` and so on, within the caller's transaction: a kill leaves all of it or nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from selfalign.store.transaction import Transaction

Reason = Literal["config", "resume", "rollback", "fork"]
#: A stage of a round.
Place = tuple[int, str]


@dataclass(frozen=True)
class Branch:
    """A row of ``branches``; ``config`` is JSON."""

    branch: str
    created_at: datetime
    from_round: int
    from_stage: str
    reason: Reason
    detail: str
    config: str


@dataclass(frozen=True)
class Kept:
    """An archived stage that has the fingerprint asked for."""

    branch: str
    status: str


#: Stage -> the figures it writes; all others are those of evaluate and calibrate.
FIGURES_OF: Mapping[str, Sequence[str]] = {
    "resample": ("resample_acceptance_rate", "resample_effective_size", "resample_score_gain"),
    "log_ratio": ("log_ratio_vs_m0",),
    "compare": ("win_rate_vs_previous", "win_rate_vs_m0", "lc_win_rate_vs_previous", "lc_win_rate_vs_m0"),
    "drift": ("judge_drift", "frozen_judge_score", "self_judge_score"),
    "capability": ("plain_text_nll", "plain_text_nll_delta_vs_m0"),
}


#: What the stage calibrate writes: figures of a judge, on gold items.
_ON_GOLD = "starts_with(split, 'gold_')"


def figures_of(stage: str) -> str:
    """SQL condition on ``evaluations``: the figures that ``stage`` writes (a key of FIGURES_OF, calibrate, evaluate)."""
    if stage == "calibrate":
        return _ON_GOLD
    names = FIGURES_OF.get(stage) or [name for names in FIGURES_OF.values() for name in names]
    listed = ", ".join(f"'{name}'" for name in names)
    return f"metric IN ({listed})" if stage in FIGURES_OF else f"metric NOT IN ({listed}) AND NOT {_ON_GOLD}"


def in_words(stages: Sequence[Place]) -> str:
    """``round 1 judge, pair; round 2 generate``."""
    by_round: dict[int, list[str]] = defaultdict(list)
    for round, name in stages:
        by_round[round].append(name)
    return "; ".join(f"round {round} {', '.join(names)}" for round, names in sorted(by_round.items()))


def _owned(stage: str) -> list[tuple[str, str]]:
    """(table, condition with the round as $round) of everything a stage writes, in an order that can be deleted."""
    train, held_out = (
        f"candidate_id IN (SELECT candidate_id FROM candidates WHERE round = $round AND split = '{split}')"
        for split in ("train", "held_out")
    )
    # stages/held_out_judge.py writes down for whom it asked.
    asked_by = "json_extract_string(detail, '$.stage')"
    own: dict[str, list[tuple[str, str]]] = {
        "prompts": [("prompts", "round > 0 OR split = 'held_out'")],
        # Round 0 trains nothing of its own: these are its only training rows.
        "preferences": [("pairs", "true"), ("candidates", "split = 'train'"), ("prompts", "split = 'train'")],
        "generate": [("candidates", "split = 'train'")],
        "judge": [("judgements", train)],
        "resample": [("selections", "true"), ("evaluations", figures_of("resample"))],
        "pair": [("pairs", "true"), ("unary_labels", "true"), ("rankings", "true")],
        "lessons": [("lessons", "true")],
        "meta_judge": [("meta_judgements", "true"), ("judgement_pairs", "true")],
        "train": [("checkpoints", "true"), ("replays", "true"), ("overrides", "true"), ("rounds", "true")],
        # M_0 is not trained: the row of round 0 belongs to whoever asked it first.
        "answer": [("candidates", "split = 'held_out'"), ("rounds", "round = 0")],
        "log_ratio": [("evaluations", figures_of("log_ratio"))],
        "compare": [("judgements", f"{asked_by} = 'compare'"), ("evaluations", figures_of("compare"))],
        "drift": [("judgements", f"{asked_by} = 'drift'"), ("evaluations", figures_of("drift"))],
        "capability": [("evaluations", figures_of("capability"))],
        "evaluate": [
            ("judgements", f"{held_out} AND coalesce({asked_by}, '') NOT IN ('compare', 'drift')"),
            ("evaluations", figures_of("evaluate")),
        ],
        "calibrate": [("gold_judgements", "true"), ("evaluations", figures_of("calibrate"))],
        "gate": [],
    }
    found = [*own[stage], ("events", f"stage = '{stage}'"), ("stages", f"stage = '{stage}'")]
    return [(table, f"round = $round AND ({condition})") for table, condition in found]


def move_to_branch(
    transaction: Transaction, places: Sequence[Place], reason: Reason, detail: str, config: str, name: str | None = None
) -> str:
    """Take the rows of ``places`` (in the order in which stages run) out of the run; returns the branch's name.

    Rounds that lose a stage are open again.
    """
    branch = name or f"b{transaction.execute('SELECT count(*) FROM branches')[0][0] + 1}"
    transaction.execute(
        "INSERT INTO branches (branch, from_round, from_stage, reason, detail, config) VALUES (?, ?, ?, ?, ?, ?)",
        [branch, *places[0], reason, detail, config],
    )
    # Backwards: a judgement is found by the candidate it is about, which must still be there.
    for round, stage in reversed([*places, *_measured_by_hand(transaction, places)]):
        for table, condition in _owned(stage):
            values = {"round": round}
            transaction.connection.execute(
                f"INSERT INTO archived_{table} BY NAME SELECT '{branch}' AS branch, '{stage}' AS of_stage, * "
                f"FROM {table} WHERE {condition}",
                values,
            )
            transaction.connection.execute(f"DELETE FROM {table} WHERE {condition}", values)
    rounds = _numbers(round for round, _ in places)
    transaction.execute(f"DELETE FROM rounds WHERE round IN ({rounds}) AND round NOT IN (SELECT round FROM stages)")
    transaction.execute(f"UPDATE rounds SET status = 'running', finished_at = NULL WHERE round IN ({rounds})")
    return branch


def _measured_by_hand(transaction: Transaction, places: Sequence[Place]) -> list[Place]:
    """Rounds whose weights go, and whose judge was measured by ``selfalign calibrate`` and not by the stage."""
    begun = {round for (round,) in transaction.execute("SELECT round FROM stages WHERE stage = 'calibrate'")}
    gone = sorted(round for round, stage in places if stage == ("train" if round else "answer"))
    return [(round, "calibrate") for round in gone if round not in begun]


def find_kept(transaction: Transaction, round: int, stage: str, fingerprint: str, branch: str | None) -> Kept | None:
    """The newest archived rows of a stage made with ``fingerprint``, of one branch if given.

    What `resume --from-round` discarded was to be made again: it is offered only where its branch is asked for, and
    neither are older rows of the same fingerprint.
    """
    rows = transaction.execute(
        "SELECT s.branch, s.status FROM archived_stages s JOIN branches b USING (branch) "
        "WHERE s.round = ? AND s.stage = ? AND s.fingerprint = ? AND (b.branch = ? OR ? IS NULL AND NOT EXISTS ("
        "SELECT 1 FROM archived_stages t JOIN branches d USING (branch) WHERE d.reason = 'resume' "
        "AND d.created_at >= b.created_at AND (t.round, t.stage, t.fingerprint) = (s.round, s.stage, s.fingerprint))) "
        "ORDER BY s.status = 'done' DESC, b.created_at DESC LIMIT 1",
        [round, stage, fingerprint, branch, branch],
    )
    return Kept(*rows[0]) if rows else None


def take_back(transaction: Transaction, round: int, stage: str, kept: Kept) -> None:
    """Bring a stage's archived rows back into the run; the branch keeps its own copy."""
    for table, _ in _owned(stage):
        if table == "rounds":
            _take_round(transaction, round, kept)
            continue
        if table == "overrides":  # settled before the training is begun, and the same by its fingerprint
            transaction.execute("DELETE FROM overrides WHERE round = ?", [round])
        extra = ", created_at" if table in ("checkpoints", "events") else ""
        columns = "branch, of_stage" + extra
        transaction.connection.execute(
            f"INSERT INTO {table} BY NAME SELECT * EXCLUDE ({columns}) FROM archived_{table} "
            "WHERE branch = $branch AND of_stage = $stage AND round = $round",
            {"branch": kept.branch, "stage": stage, "round": round},
        )


def _take_round(transaction: Transaction, round: int, kept: Kept) -> None:
    if round > 0:
        transaction.execute(
            "UPDATE rounds SET weights_hash = a.weights_hash, tokenizer_hash = a.tokenizer_hash, trainer = a.trainer, "
            "reference_hash = a.reference_hash, start_hash = a.start_hash, policy = a.policy FROM archived_rounds a "
            "WHERE rounds.round = a.round AND a.round = ? AND a.branch = ? AND a.of_stage = 'train'",
            [round, kept.branch],
        )


def archived_checkpoint_path(transaction: Transaction, round: int, kept: Kept) -> str | None:
    """Folder of an archived training's checkpoint, relative to the workspace."""
    rows = transaction.execute(
        "SELECT path FROM archived_checkpoints WHERE branch = ? AND round = ? ORDER BY created_at DESC LIMIT 1",
        [kept.branch, round],
    )
    return str(rows[0][0]) if rows else None


def freeze_rounds(transaction: Transaction, rounds: Iterable[int]) -> None:
    """Accept finished rounds as they are, whatever the config says from now on."""
    transaction.execute(f"UPDATE rounds SET frozen = true WHERE status = 'done' AND round IN ({_numbers(rounds)})")


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(int(value)) for value in sorted(set(values))) or "NULL"

"""Stages whose rows leave the run for a branch."""

from __future__ import annotations

from collections.abc import Sequence

from selfalign.failpoints import reach
from selfalign.stages.context import RunContext
from selfalign.store.branches import Place, Reason, in_words, move_to_branch
from selfalign.types import Event


def go_back(
    context: RunContext, stages: Sequence[Place], reason: Reason, detail: str, remember: Event | None = None
) -> str:
    """Move the rows of ``stages`` to a new branch; returns its name.

    ``remember`` is written in the same transaction, about the branch.
    """
    begun = context.store.get_run()
    config = begun["config"] if begun else "{}"
    with context.store.write() as transaction:
        branch = move_to_branch(transaction, stages, reason, detail, config)
        if remember is not None:
            transaction.insert([remember])
        reach("branch_moved")
    reach("branch_made")
    context.forget()
    context.reporter.note(f"{in_words(stages)}: set aside as branch {branch}")
    return branch

"""A stage that was made before with the same fingerprint is taken over, not made again.

Its rows lie in a branch of this run: of a change of config that was changed back, or of the run that this one
was forked from.
"""

from __future__ import annotations

from selfalign.failpoints import reach
from selfalign.stages.context import RunContext
from selfalign.store.branches import archived_checkpoint_path, find_kept, take_back


def anything_kept(context: RunContext) -> bool:
    """Whether :func:`take_over` could find something: nearly always there is nothing, and a write costs a commit."""
    return bool(context.store.query("select 1 from branches limit 1").num_rows)


def take_over(context: RunContext, round: int, name: str, fingerprint: str, branch: str | None = None) -> str | None:
    """Bring back what a branch has of this stage; returns what was done in words, None where there is nothing.

    An unfinished stage comes back as it was left, so that only the rest of it is made.
    """
    with context.store.write() as transaction:
        kept = find_kept(transaction, round, name, fingerprint, branch)
        if kept is None:
            return None
        if name == "train" and kept.status == "done":
            path = archived_checkpoint_path(transaction, round, kept)
            if path is None or not (context.workspace.path / path).is_dir():
                return None
        take_back(transaction, round, name, kept)
        reach("rows_taken")
    return f"as branch {kept.branch} made it" if kept.status == "done" else None

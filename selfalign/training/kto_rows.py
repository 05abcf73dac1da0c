"""What KTO trains on, row by row: an example with the completion that estimates z0, and the weights of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfalign.types import LabelExample

#: Bounds of lambda_D n_D / (lambda_U n_U) that worked best (arXiv 2402.01306, eq. 8).
BALANCE = (1.0, 4 / 3)


@dataclass(frozen=True)
class LabelRow:
    """A labelled completion; ``kl_ids`` is the completion of another example, to be read behind this one's prompt.

    ``mismatched`` says whether ``kl_ids`` was written for another prompt.
    """

    label_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    kl_ids: tuple[int, ...]
    mismatched: bool
    label: bool
    weight: float


def label_rows(ordered: Sequence[LabelExample], micro_batch: int, max_length: int) -> list[LabelRow]:
    """``ordered`` with its micro-batches' completions rotated inside each of them (arXiv 2402.01306, section 4.1).

    The completions that estimate z0 are then the micro-batch's own. They are rotated by one, as TRL does, or by the
    least number that pairs the fewest of them with a prompt they were written for: a round has several answers to a
    prompt. A last micro-batch of one takes the completion before it. ``ordered`` has at least two examples; rows are
    in its order, and must reach the trainer in that order and in micro-batches of that size.
    """
    rows = []
    for start in range(0, len(ordered), micro_batch):
        batch = ordered[start : start + micro_batch]
        others = [ordered[start - 1]] if len(batch) == 1 else _rotated(batch)
        rows += [_row(example, other, max_length) for example, other in zip(batch, others, strict=True)]
    return rows


def _rotated(batch: Sequence[LabelExample]) -> list[LabelExample]:
    def own_prompts(by: int) -> int:
        return sum(e.prompt_ids == batch[i - by].prompt_ids for i, e in enumerate(batch))

    by = min(range(1, len(batch)), key=lambda by: (own_prompts(by), by))
    return [batch[i - by] for i in range(len(batch))]


def _row(example: LabelExample, other: LabelExample, max_length: int) -> LabelRow:
    return LabelRow(
        label_id=example.label_id,
        prompt_ids=example.prompt_ids,
        completion_ids=example.completion_ids,
        kl_ids=other.completion_ids[: max_length - len(example.prompt_ids)],
        mismatched=example.prompt_ids != other.prompt_ids,
        label=example.label,
        weight=example.weight,
    )


def balance(desirable: float, undesirable: float) -> tuple[float, float]:
    """(lambda_D, lambda_U) for classes of these total weights, both above 0: one of them is 1.

    The class that counts too little is weighted up until the ratio of both reaches the nearer bound of BALANCE.
    """
    low, high = BALANCE
    ratio = desirable / undesirable
    return max(1.0, low / ratio), max(1.0, ratio / high)


def label_columns(rows: Sequence[LabelRow], reference: Sequence[tuple[float, ...]]) -> dict[str, list[object]]:
    """Columns of trl.KTOTrainer's collator, plus ``weight``.

    ``reference`` has of each row the summed log-probabilities of its own completion and of ``kl_ids``.
    """
    return {
        "prompt_ids": [list(row.prompt_ids) for row in rows],
        "completion_ids": [list(row.completion_ids) for row in rows],
        "KL_completion_ids": [list(row.kl_ids) for row in rows],
        "label": [row.label for row in rows],
        "ref_logps": [own for own, _ in reference],
        "ref_KL_logps": [other for _, other in reference],
        "weight": [float(row.weight) for row in rows],
    }

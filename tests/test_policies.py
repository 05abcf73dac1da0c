"""What a plan says about where rounds start, what they are compared with, and what they train on."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pyarrow as pa
from rich.console import Console

from selfalign.cli.show import print_table
from selfalign.config import validate_config
from selfalign.policies import round_table


def table(**settings: Any) -> list[dict[str, Any]]:
    return round_table(validate_config({"name": "x", "rounds": 5, **settings}, "t"))


def test_a_plain_run_is_one_row() -> None:
    assert table() == [
        {"rounds": [1, 2, 3, 4, 5], "starts_from": "previous", "reference": "previous", "data": "this", "trainer": "dpo",
         "learning_rate": 1e-6, "beta": 0.1}
    ]  # fmt: skip


def test_every_kind_of_round_has_its_row() -> None:
    rows = table(
        policy={
            "start": ["previous", "previous", "base"],
            "data": ["this", {"last": 2}, {"replay": [0.3, 0.15]}, "all"],
        },
        train={
            "id": "dpo",
            "beta": [0.1, 0.1, 0.2],
            "reference": ["previous", "initial", {"ema": 0.9}],
            "epochs": [1, 2],
        },
        pair={"id": "max_min", "min_margin": [0.5, 0.5, 0.5, 0.25]},
        teach={"rounds": [5]},
    )
    assert [tuple(row.values()) for row in rows] == [
        ([1], "previous", "previous", "this", "dpo", 1e-6, 0.1, 1, 0.5),
        ([2], "previous", "M0", "last 2", "dpo", 1e-6, 0.1, 2, 0.5),
        ([3], "M0", "average, decay 0.9", "this, 30 % of t-1, 15 % of t-2", "dpo", 1e-6, 0.2, 2, 0.5),
        ([4], "M0", "average, decay 0.9", "all", "dpo", 1e-6, 0.2, 2, 0.25),
        ([5], "M0", None, "lessons", "sft", 3e-5, None, None, None),
    ]
    assert list(rows[0])[-2:] == ["train.epochs", "pair.min_margin"]


def test_a_loss_without_a_reference_says_none() -> None:
    assert {row["reference"] for row in table(train="simpo")} == {None}
    printed = Console(file=StringIO(), width=120)
    print_table(pa.Table.from_pylist(table(train="simpo")), printed)
    assert "simpo" in printed.file.getvalue()  # type: ignore[attr-defined]

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from selfalign.store.arrow import to_table
from selfalign.store.digests import DIGESTED
from selfalign.store.store import Store
from selfalign.types import TABLES
from tests.store.rows import (
    candidate,
    checkpoint,
    evaluation,
    event,
    gold_judgement,
    judgement,
    judgement_pair,
    lesson,
    meta_judgement,
    override,
    pair,
    prompt,
    replay,
    review,
    selection,
    unary_label,
)

ROWS: list[Any] = [
    prompt(text='é "x"\n\x00', rouge_max=0.1, instruction_id_list=("a,b", "c'd")), candidate(logprob=-1 / 3), judgement("j1", "c1"), gold_judgement(), selection(),
    pair("pair", "c1", "c2"), unary_label(), lesson(), meta_judgement(), judgement_pair(), replay(), review(), override(), checkpoint(),
]  # fmt: skip
#: The same under DuckDB 1.5 and 2.0. A change here makes every older store look damaged.
GOLDEN: dict[str, str] = {
    "prompts": "7f1eb3e6f13cde1b1a79e452fcbdc9ec",
    "candidates": "0590e8229d768ecd89735648d5eb5221",
    "judgements": "2a430acf2ade12b1ceaa3aefb1d85773",
    "gold_judgements": "2f3f0e1eb84296557848cd7cf5558990",
    "selections": "13b1136d8482b54f25621ff929a7e675",
    "pairs": "325db1d8676573f2295dd61127c285c5",
    "unary_labels": "9e294bb0dbe42f294a57a47964227be5",
    "lessons": "cb73317306935d09b7f220637afa2cac",
    "meta_judgements": "faac9bcb626302428161f49c787fad1d",
    "judgement_pairs": "afb0782fbbd49b62da67da4f3b4aa59a",
    "replays": "89edcc6ca982061fbcb615b1d2ec8c7f",
    "reviews": "a820d86c27fb03b1d96308124d4a6d38",
    "overrides": "12e97264a61ae6865532ceabd44b2d01",
    "checkpoints": "87460da29b01bee6819ab6d5297d15e8",
}


def digests(store: Store, table: str) -> list[str]:
    return list(store.query(f"select digest from {table} order by {DIGESTED[table]}")["digest"].to_pylist())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: TABLES[type(row)])
def test_a_digest_is_what_it_was_in_every_version(store: Store, row: Any) -> None:
    store.insert([row])
    table = TABLES[type(row)]
    assert digests(store, table) == [GOLDEN[table]]


def test_every_table_of_rows_is_digested_or_replaced(store: Store) -> None:
    assert set(DIGESTED) == set(TABLES.values()) - {TABLES[type(evaluation("m", 1.0))], TABLES[type(event("e"))]}


def test_neither_batches_nor_number_types_nor_repeats_change_it(store: Store) -> None:
    rows = [candidate("c1"), candidate("c2", end_token_id=None)]
    store.insert(rows)
    alone = digests(store, "candidates")
    assert len(set(alone)) == 2
    store.insert([*rows, candidate("c3")])
    assert digests(store, "candidates")[:2] == alone
    other = to_table([candidate("c4")])
    narrow = other.set_column(
        other.schema.get_field_index("max_tokens"), "max_tokens", other["max_tokens"].cast("int32")
    )
    store.insert_arrow("candidates", narrow)
    wide = replace(candidate("c4"))
    again = Store(store.path.with_name("other.duckdb"))
    again.create()
    again.insert([wide])
    assert digests(again, "candidates") == digests(store, "candidates")[3:]


def test_rows_copied_from_another_store_keep_the_digest_they_came_with(store: Store) -> None:
    table = to_table([candidate()])
    store.insert_arrow("candidates", table.append_column("digest", pa.array(["as written there"])))
    assert digests(store, "candidates") == ["as written there"]


def test_moving_a_checkpoint_is_no_change(store: Store) -> None:
    store.insert([checkpoint("k1", path="checkpoints/round-1"), checkpoint("k1", round=2)])
    other = Store(store.path.with_name("other.duckdb"))
    other.create()
    other.insert([checkpoint("k1", path="elsewhere", n_bytes=1)])
    assert digests(other, "checkpoints")[0] in digests(store, "checkpoints")

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from selfalign.decontamination.settings import Settings
from selfalign.errors import BadInput, StoreError
from selfalign.export.columns import PROVENANCE, TAKEN, TEXTS, VALUES
from selfalign.export.request import SOURCES, Request, checked, parse_rounds
from selfalign.export.run import Report, export
from selfalign.export.writers import Shards
from selfalign.identity import content_id
from selfalign.reviews import append, make_review
from selfalign.store.store import Store
from selfalign.workspace import Workspace
from tests.export.made import ODD, PROMPTS, make_run
from tests.store.rows import override, pair, review


def write(workspace: Workspace, output: Path, **asked: Any) -> Report:
    return export(workspace, checked(Request(**{"kind": "pairs", "output": output, **asked})))


def rows_of(output: Path, split: str = "train") -> list[dict[str, Any]]:
    files = sorted(output.glob(f"data/{split}-*.parquet")) if output.is_dir() else [output]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_pairs_have_trls_columns_first_and_say_where_they_come_from(made: Workspace, tmp_path: Path) -> None:
    report = write(made, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert report.rows == len(rows) == 2 * PROMPTS
    assert list(rows[0])[:3] == ["prompt", "chosen", "rejected"]
    row = next(row for row in rows if row["pair_id"] == "pair-1-0")
    assert row["chosen"] == ODD and row["prompt"] == f"Be brief.\n\n{ODD}"
    expected = {
        "rejected": "Bad 1 0", "prompt_id": content_id("p0"), "round": 1, "judge": "rubric", "builder": "max_min",
        "chosen_score": 4.0, "rejected_score": 1.0, "score_margin": 3.0, "weight": 1.0, "chosen_weights_hash": "w0",
        "checkpoint_id": "k1", "trained_rounds": [1, 2], "language": "zh", "source": "answers", "chosen_truncated": False,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert {tuple(row["trained_rounds"]) for row in rows if row["round"] == 2} == {(2,)}


def test_no_column_of_provenance_has_a_name_that_trl_acts_on() -> None:
    for kind, columns in PROVENANCE.items():
        assert not set(columns) & TAKEN
        assert {*TEXTS[kind], *VALUES[kind]} <= TAKEN


@pytest.mark.parametrize("kind", list(TEXTS))
@pytest.mark.parametrize("format", ["parquet", "jsonl", "hf"])
def test_every_kind_in_every_format_holds_the_same(made: Workspace, tmp_path: Path, kind: str, format: str) -> None:
    from datasets import load_dataset, load_from_disk

    output = tmp_path / "out"
    report = write(made, output, kind=kind, format=format, style="conversational")
    if format == "hf":
        found = load_from_disk(str(output))
    else:
        found = load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == report.rows > 0
    assert tuple(found.column_names) == report.columns == (*TEXTS[kind], *VALUES[kind], *PROVENANCE[kind])
    # Whatever the format, a text is what the store has.
    answers = {turn["content"] for row in found for name in TEXTS[kind][1:] for turn in row[name]}
    assert ODD in answers and not any("Never show" in answer for answer in answers)
    assert not any("Never show" in turn["content"] for row in found for turn in row["prompt"])


def test_conversations_are_what_the_model_was_shown(made: Workspace, tmp_path: Path) -> None:
    write(made, tmp_path / "pairs", style="conversational", bare=True)
    (row, *_) = (row for row in rows_of(tmp_path / "pairs") if row["chosen"][0]["content"] == "Good 1 2")
    assert row == {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something about number 2."}],
        "chosen": [{"role": "assistant", "content": "Good 1 2"}],
        "rejected": [{"role": "assistant", "content": "Bad 1 2"}],
    }  # fmt: skip
    write(made, tmp_path / "sft", kind="sft", style="messages", sources=("lessons",))
    row = rows_of(tmp_path / "sft")[0]
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][-1]["content"] == "Score: 1"
    assert row["truncated"], "the verdict is the beginning of an answer"


def test_sft_is_the_best_answer_of_each_prompt_and_what_else_is_worth_imitating(
    made: Workspace, tmp_path: Path
) -> None:
    report = write(made, tmp_path / "sft", kind="sft")
    assert report.left_out == {"repeated": 1}
    rows = rows_of(tmp_path / "sft")
    by_source = {name: [row for row in rows if row["source"] == name] for name in SOURCES["sft"]}
    assert {name: len(found) for name, found in by_source.items()} == {
        "chosen": 11,
        "demonstrations": 1,
        "lessons": 2,
    }, "the same answer to the same prompt is there once"
    assert all(row["completion"].startswith(("Good", "He said")) for row in by_source["chosen"])
    assert by_source["demonstrations"][0]["completion"] == "Known answer 5."
    assert not any(row["completion"].startswith("Bad") for row in rows)


def test_labels_and_sides_of_pairs(made: Workspace, tmp_path: Path) -> None:
    for source in ("labels", "pairs"):
        write(made, tmp_path / source, kind="unary", sources=(source,))
        rows = rows_of(tmp_path / source)
        assert len(rows) == 4 * PROMPTS
        assert all(row["label"] is row["completion"].startswith(("Good", "He said")) for row in rows)


def test_judgements_keep_votes_that_count_for_nothing(made: Workspace, tmp_path: Path) -> None:
    write(made, tmp_path / "votes", kind="judgements")
    rows = rows_of(tmp_path / "votes")
    assert {(row["outcome"], row["score"]) for row in rows} == {("ok", 4.0), ("parse_error", None)}


def test_rounds_sources_and_whole_answers(made: Workspace, tmp_path: Path) -> None:
    write(made, tmp_path / "out", rounds=(2,), only_complete=True)
    rows = rows_of(tmp_path / "out")
    assert {row["round"] for row in rows} == {2}
    assert len(rows) == PROMPTS - 1, "one answer of the round was cut"
    report = write(made, tmp_path / "out", sources=("judgements", "answers"))
    assert report.rows == 4 * PROMPTS


def test_prompts_of_a_split_stay_together(made: Workspace, tmp_path: Path) -> None:
    report = write(made, tmp_path / "out", test_share=0.4)
    train, test = ({row["prompt_id"] for row in rows_of(tmp_path / "out", split)} for split in ("train", "test"))
    assert not train & test and len(train | test) == PROMPTS
    assert list(report.splits) == ["train", "test"] and sum(report.splits.values()) == report.rows
    with pytest.raises(BadInput, match="all 6 prompts fall into"):
        write(made, tmp_path / "none", test_share=0.0001)
    assert not (tmp_path / "none").exists()


def test_a_second_export_is_the_same_bytes(made: Workspace, tmp_path: Path) -> None:
    write(made, tmp_path / "one")
    write(made, tmp_path / "two")
    one, two = (next((tmp_path / name / "data").iterdir()) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_parts_of_the_rows_are_the_rows(made: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: tuple[Any, ...] = ("pairs", "unary", "sft", "judgements")
    whole = {kind: write(made, tmp_path / kind, kind=kind) for kind in kinds}
    monkeypatch.setattr("selfalign.export.spool._PART", 5)
    for kind in kinds:
        assert write(made, tmp_path / "parts", kind=kind).rows == whole[kind].rows
        assert rows_of(tmp_path / "parts") == rows_of(tmp_path / kind)


def test_shards_are_named_as_the_hub_names_them(tmp_path: Path) -> None:
    import pyarrow as pa

    shards = Shards(tmp_path, "train", "parquet", shard_bytes=1)
    for number in range(3):
        shards.write(pa.RecordBatch.from_pydict({"prompt": [str(number)]}))
    shards.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"train-0000{n}-of-00003.parquet" for n in range(3)]


def test_the_card_is_read_as_the_hub_reads_it_and_is_honest(made: Workspace, tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    write(made, tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "unknown"
    assert card.data.language == ["en", "zh"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    text = card.text
    for said in (
        "| seed | 7 |", "trl 1.16.0", "0.750 [0.500, 0.900], n = 40", "not measured", "rubric 12", "max_min 12",
        "Not compared with any benchmark", "- model that wrote the answers (smollm2-135m-instruct): apache-2.0",
        "2 rows have an answer that was cut",
        "`score_margin`", "weights `w0`", "seed_prompts.jsonl: apache-2.0 (ships with selfalign)",
    ):  # fmt: skip
        assert said in text, said
    assert str(tmp_path) not in text, "a card says nothing of the machine"
    write(made, tmp_path / "out", licence="cc-by-4.0", prompt_licence="mit")
    again = DatasetCard.load(tmp_path / "out" / "README.md")
    assert again.data.license == "cc-by-4.0" and "seed_prompts.jsonl: mit" in again.text


def test_rows_that_repeat_a_benchmark_are_left_out_or_reported(made: Workspace, tmp_path: Path) -> None:
    benchmark = tmp_path / "bench.jsonl"
    benchmark.write_text(
        json.dumps({"question": "Please say something about number 3."}) + "\n" + json.dumps({"question": "yes"})
    )
    asked = {"benchmarks": (benchmark,), "decontamination": Settings(ngram=5, shortest=5)}
    report = write(made, tmp_path / "out", **asked)
    assert report.left_out == {"contaminated": 2} and report.contaminated == 2
    hits = [json.loads(line) for line in (tmp_path / "out" / "contamination.jsonl").read_text().splitlines()]
    # "Say something about number" is in every prompt but the odd one: four words, so only number 3 has five.
    assert {hit["row"] for hit in hits} == {"pair-1-3", "pair-2-3"}
    assert hits[0] == {
        "row": "pair-1-3", "column": "prompt", "benchmark": "bench.jsonl", "item": 1,
        "ngram": "say something about number 3", "share": 0.5, "items": 1,
    }  # fmt: skip
    assert not any("number 3" in row["prompt"] for row in rows_of(tmp_path / "out"))
    text = (tmp_path / "out" / "README.md").read_text()
    assert "bench.jsonl (2 items)" in text and "2 rows repeat 1 items; they were left out" in text
    kept = write(made, tmp_path / "kept", **{**asked, "decontamination": Settings(5, shortest=5, report_only=True)})
    assert (kept.rows, kept.contaminated, kept.left_out) == (2 * PROMPTS, 2, {})


def test_nothing_is_an_error_with_its_reason(made: Workspace, tmp_path: Path) -> None:
    benchmark = tmp_path / "all.txt"
    benchmark.write_text(f"{ODD}\n".replace("\n", " ") + "\nSay something about number\n")
    with pytest.raises(BadInput, match=r"the run in rounds 7 has no pairs of source answers"):
        write(made, tmp_path / "out", rounds=(7,))
    settings = Settings(ngram=4, shortest=2)
    with pytest.raises(BadInput, match=r"of 12 pairs of the run none is left \(12 rows: repeats an item"):
        write(made, tmp_path / "out", benchmarks=(benchmark,), decontamination=settings)
    with pytest.raises(BadInput, match="has no such branch; known: none"):
        write(made, tmp_path / "out", branch="b1")
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.txt"], "nothing is left aside"


def test_held_out_prompts_never_leave_however_the_row_came_there(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    store = Store(workspace.store_path)
    with store.write() as transaction:  # damage: no stage of a run writes this
        transaction.execute(f"UPDATE prompts SET text = 'Never show this.' WHERE prompt_id = '{content_id('p2')}'")
    report = write(workspace, tmp_path / "out")
    assert report.left_out == {"held_out": 2}
    assert not any("Never show" in row["prompt"] for row in rows_of(tmp_path / "out"))


def test_rows_whose_texts_are_gone_stop_the_export(tmp_path: Path) -> None:
    workspace = make_run(tmp_path / "run")
    store = Store(workspace.store_path)
    store.insert([pair("broken", "c1-0-good", "nowhere", content_id("p0"))])
    with pytest.raises(StoreError, match="1 rows name a rejected that the store does not have; 'selfalign verify RUN'"):
        write(workspace, tmp_path / "out")


def test_a_branch_is_exported_as_it_was_set_aside(tmp_path: Path) -> None:
    from selfalign.store.branches import move_to_branch

    workspace = make_run(tmp_path / "run")
    store = Store(workspace.store_path)
    with store.write() as transaction:
        config = json.dumps({"generate": {"system_prompt": "Of old."}})
        transaction.upsert_stage(2, "pair", "f", status="running")
        move_to_branch(transaction, [(2, "pair"), (2, "train")], "config", "another margin", config, "b1")
    report = write(workspace, tmp_path / "old", branch="b1")
    rows = rows_of(tmp_path / "old")
    assert report.rows == PROMPTS and {row["round"] for row in rows} == {2}
    assert rows[0]["prompt"].startswith("Of old."), "its own system prompt"
    assert {row["checkpoint_id"] for row in rows} == {"k2"}
    assert write(workspace, tmp_path / "now").rows == PROMPTS


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Of round 1: pair 0 flipped, 1 rejected, 2 accepted, 3 rejected and then withdrawn; the inbox has what the store has not."""
    workspace = make_run(tmp_path_factory.mktemp("reviewed") / "run")
    Store(workspace.store_path).insert([
        review("v1", pair_id="pair-1-0", decision="flip", note="the other is right"), review("v2", pair_id="pair-1-1", decision="reject"),
        review("v3", pair_id="pair-1-3", decision="reject"), override("o1", round=1, pair_id="pair-1-1", decision="reject"),
    ])  # fmt: skip
    for number, decision in ((2, "accept"), (3, "withdraw")):
        said = make_review(f"pair-1-{number}", 1, decision, "", "you", datetime.now(UTC))  # type: ignore[arg-type]
        append(workspace.reviews, said)
    return workspace


def test_pairs_are_exported_as_people_said(reviewed: Workspace, tmp_path: Path) -> None:
    report = write(reviewed, tmp_path / "out")
    assert (report.rows, report.left_out, report.reviews) == (
        2 * PROMPTS - 1,
        {"rejected": 1},
        {"accept": 1, "flip": 1},
    )
    rows = {row["pair_id"]: row for row in rows_of(tmp_path / "out")}
    assert "pair-1-1" not in rows and "reviewer" not in rows["pair-1-0"]
    flipped = {
        name: rows["pair-1-0"][name] for name in ("chosen", "chosen_score", "rejected_score", "score_margin", "review")
    }
    assert flipped == {
        "chosen": "Bad 1 0",
        "chosen_score": 1.0,
        "rejected_score": 4.0,
        "score_margin": 3.0,
        "review": "flip",
    }
    assert rows["pair-1-0"]["rejected"] == ODD
    assert (rows["pair-1-2"]["review"], rows["pair-1-3"]["review"]) == ("accept", None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "accepted 1, flipped (the judge had it the other way round) 1, rejected and\nso left out 1, not reviewed 9."
        in card
    )
    assert "but those that were reviewed" in card and "the other is right" not in card


def test_reviews_can_be_ignored_or_asked_for_alone(reviewed: Workspace, tmp_path: Path) -> None:
    assert write(reviewed, tmp_path / "all", reviews="ignore").rows == 2 * PROMPTS
    rows = {row["pair_id"]: row for row in rows_of(tmp_path / "all")}
    assert rows["pair-1-0"]["chosen"] == ODD and {row["review"] for row in rows.values()} == {None}
    assert (rows["pair-1-1"]["checkpoint_id"], rows["pair-1-1"]["trained_rounds"]) == (None, []), "round 1 left it out"
    assert "Not applied" in (tmp_path / "all" / "README.md").read_text()
    report = write(reviewed, tmp_path / "only", reviews="only", review_notes=True)
    assert report.left_out == {"rejected": 1}
    assert [(row["pair_id"], row["reviewer"], row["review_note"]) for row in rows_of(tmp_path / "only")] == [
        ("pair-1-0", "me", "the other is right"), ("pair-1-2", "you", ""),
    ]  # fmt: skip


def test_what_is_made_of_pairs_follows_their_reviews(reviewed: Workspace, tmp_path: Path) -> None:
    write(reviewed, tmp_path / "sides", kind="unary", sources=("pairs",))
    labels = {(row["label_id"], row["completion"]): row for row in rows_of(tmp_path / "sides")}
    assert len(labels) == 4 * PROMPTS - 2
    wanted = labels["pair-1-0", "Bad 1 0"]
    assert (wanted["label"], wanted["score"], wanted["review"]) == (True, 1.0, "flip")
    write(reviewed, tmp_path / "sft", kind="sft", sources=("chosen",), rounds=(1,), reviews="only")
    assert {(row["completion"], row["review"]) for row in rows_of(tmp_path / "sft")} == {
        ("Bad 1 0", "flip"), ("Good 1 2", "accept"),
    }  # fmt: skip


def test_an_answer_that_a_person_found_worse_is_the_best_of_none(reviewed: Workspace, tmp_path: Path) -> None:
    """Labels and rankings still say that the flipped pair's old chosen answer is the best; its pair knows better."""
    write(reviewed, tmp_path / "sft", kind="sft", sources=("chosen",), rounds=(1,))
    best = {row["prompt_id"]: row for row in rows_of(tmp_path / "sft")}
    assert best[content_id("p0")]["completion"] == "Bad 1 0"
    assert best[content_id("p1")]["completion"] == "Good 1 1", "a label says so, of whom nobody rejected anything"
    assert best[content_id("p1")]["review"] is None


def test_where_nobody_reviewed_only_says_so(made: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nobody reviewed a pair of the run in rounds 2; 'selfalign browse RUN'"):
        write(made, tmp_path / "out", reviews="only", rounds=(2,))


def test_what_is_not_ours_is_not_replaced(made: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="no export of selfalign"):
        write(made, tmp_path / "mine")
    write(made, tmp_path / "ours", format="jsonl")
    write(made, tmp_path / "ours")
    assert [path.suffix for path in (tmp_path / "ours" / "data").iterdir()] == [".parquet"], (
        "an export is replaced whole"
    )


def test_one_file_has_its_card_beside_it(made: Workspace, tmp_path: Path) -> None:
    report = write(made, tmp_path / "pairs.jsonl", format="jsonl")
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == report.rows and lines[0]["chosen"]
    assert report.card == str(tmp_path / "pairs.jsonl.md")
    head = (tmp_path / "pairs.jsonl.md").read_text().split("---")[1]
    assert yaml.safe_load(head)["configs"][0]["data_files"][0]["path"] == "pairs.jsonl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "pairs.jsonl.md"]


def test_older_stores_are_not_written_to(made: Workspace, tmp_path: Path) -> None:
    before = shutil.copy(made.store_path, tmp_path / "before")
    write(made, tmp_path / "out")
    assert Path(before).read_bytes() == made.store_path.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "triples"}, "known: pairs, unary, sft, judgements"),
        ({"format": "csv"}, "known: parquet, jsonl, hf"),
        ({"sources": ("lessons",)}, "pairs are made of answers, judgements"),
        ({"style": "messages"}, "only sft has"),
        ({"reviews": "all"}, "known: honour, ignore, only"),
        ({"reviews": "only", "kind": "judgements"}, "judgements has none; export pairs"),
        (
            {"reviews": "only", "kind": "sft", "sources": ("chosen", "lessons")},
            "--source lessons has none; of sft name --source chosen",
        ),
        ({"review_notes": True, "bare": True}, "and --bare has none"),
        ({"output": Path("x.jsonl")}, "another format"),
        ({"output": Path("x.parquet"), "test_share": 0.1}, "two splits are two files"),
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        checked(Request(**{"kind": "pairs", "output": Path("out"), **wrong}))


def test_rounds_in_words() -> None:
    assert parse_rounds("all") is None
    assert parse_rounds("3,1-2") == (1, 2, 3)
    for wrong in ("", "x", "2-1", "1,,2", "-1"):
        with pytest.raises(BadInput, match="--rounds"):
            parse_rounds(wrong)

"""One kind of damage at a time, done by SQL or to a file: exactly the damaged row is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfalign.checks.findings import Finding
from selfalign.checks.rules import rules
from selfalign.errors import StoreError
from selfalign.identity import content_id, derive_seed
from selfalign.store.store import Store
from selfalign.types import Ranking, UnaryLabel
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.checks.synthetic import make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """2,000 candidates and as many judgements."""
    return make_run(tmp_path_factory.mktemp("whole"), prompts=500)


@pytest.fixture
def run(whole: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(whole.path, tmp_path / "run")
    return Workspace(tmp_path / "run")


def sql(run: Workspace, *statements: str) -> None:
    with Store(run.store_path).write() as transaction:
        for statement in statements:
            transaction.execute(statement)


def ask(run: Workspace, query: str) -> Any:
    return Store(run.store_path).query(query).to_pylist()[0]


def names(findings: tuple[Finding, ...]) -> set[tuple[str, str, str]]:
    return {(finding.check, finding.table, finding.row_id) for finding in findings}


def test_a_run_as_it_was_made_has_no_damage(whole: Workspace) -> None:
    report = verify(whole)
    assert report.findings == ()
    assert report.uncovered == {}
    assert report.rows["candidates"] == 2000 + 2 * 5
    assert report.rows["judgements"] == 2000


#: A row to damage: the table's columns of the row that comes first by id, for {name} in the statements.
_TARGET = {
    "candidates": "SELECT *, candidate_id AS id FROM candidates WHERE split = 'train' ORDER BY candidate_id LIMIT 1",
    "judgements": "SELECT *, judgement_id AS id FROM judgements ORDER BY judgement_id LIMIT 1",
    "pairs": "SELECT *, pair_id AS id FROM pairs ORDER BY pair_id LIMIT 1",
    "prompts": "SELECT *, prompt_id AS id FROM prompts WHERE split = 'train' ORDER BY prompt_id LIMIT 1",
    "held_out": "SELECT *, prompt_id AS id FROM prompts WHERE split = 'held_out' ORDER BY prompt_id LIMIT 1",
    "checkpoints": "SELECT *, checkpoint_id AS id FROM checkpoints",
}
#: As if the row had been written like this: the digest is not what finds it.
_NO_DIGEST = "UPDATE {table} SET digest = NULL WHERE {key} = '{id}'"


def damage(run: Workspace, target: str, *statements: str) -> dict[str, Any]:
    row: dict[str, Any] = ask(run, _TARGET[target])
    table = "prompts" if target == "held_out" else target
    key = {"candidates": "candidate_id", "judgements": "judgement_id", "pairs": "pair_id", "prompts": "prompt_id",
           "checkpoints": "checkpoint_id"}[table]  # fmt: skip
    sql(run, *(statement.format(table=table, key=key, **row) for statement in statements))
    return row


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("prompts", "UPDATE prompts SET category = 'x' WHERE prompt_id = '{id}'"),
        ("prompts", "UPDATE prompts SET text = text || ' ' WHERE prompt_id = '{id}'"),
        ("candidates", "UPDATE candidates SET text = upper(text) WHERE candidate_id = '{id}'"),
        ("candidates", "UPDATE candidates SET token_ids = list_reverse(token_ids) WHERE candidate_id = '{id}'"),
        ("candidates", "UPDATE candidates SET logprob = logprob + 1e-12 WHERE candidate_id = '{id}'"),
        ("candidates", "UPDATE candidates SET end_token_id = NULL WHERE candidate_id = '{id}'"),
        ("judgements", "UPDATE judgements SET raw = raw || ' ' WHERE judgement_id = '{id}'"),
        ("judgements", "UPDATE judgements SET detail = '{{}} ' WHERE judgement_id = '{id}'"),
        ("pairs", "UPDATE pairs SET weight = 2 WHERE pair_id = '{id}'"),
    ],
)
def test_a_changed_column_is_found_by_the_digest_alone(run: Workspace, table: str, statement: str) -> None:
    row = damage(run, table, statement)
    assert names(verify(run, hashes=False).findings) == {("changed", table, row["id"])}


@pytest.mark.parametrize(
    ("target", "statements", "expected"),
    [
        # -- ids and seeds, where no digest vouches
        ("prompts", ["UPDATE prompts SET text = 'other' WHERE prompt_id = '{id}'", _NO_DIGEST], {("prompt_id", "prompts")}),
        ("judgements", ["UPDATE judgements SET judgement_id = 'j' WHERE judgement_id = '{id}'",
                        "UPDATE judgements SET digest = NULL WHERE judgement_id = 'j'"],
         {("judgement_id", "judgements", "j")}),
        ("candidates", ["UPDATE candidates SET temperature = 0.71 WHERE candidate_id = '{id}'", _NO_DIGEST],
         {("candidate_id", "candidates")}),
        ("candidates", ["UPDATE candidates SET seed = seed + 1 WHERE candidate_id = '{id}'", _NO_DIGEST],
         {("candidate_id", "candidates"), ("seed", "candidates")}),
        # -- references
        ("candidates", ["INSERT INTO candidates SELECT * FROM candidates WHERE candidate_id = '{id}'"],
         {("twice", "candidates"), ("samples_missing", "prompts", "prompt_id"), ("rows_out", "stages", "1/generate")}),
        ("judgements", ["INSERT INTO judgements SELECT * FROM judgements WHERE judgement_id = '{id}'"],
         {("twice", "judgements"), ("rows_out", "stages", "1/judge")}),
        ("judgements", ["UPDATE judgements SET candidate_id = 'gone' WHERE judgement_id = '{id}'"],
         {("unknown_candidate", "judgements"), ("changed", "judgements"), ("rows_out", "stages", "1/judge"),
          ("score", "pairs", None)}),
        ("pairs", ["UPDATE pairs SET prompt_id = (SELECT max(prompt_id) FROM pairs) WHERE pair_id = '{id}'", _NO_DIGEST],
         {("foreign_candidate", "pairs")}),
        ("pairs", ["UPDATE pairs SET prompt_id = 'gone' WHERE pair_id = '{id}'", _NO_DIGEST],
         {("foreign_candidate", "pairs"), ("unknown_prompt", "pairs")}),
        ("pairs", ["UPDATE pairs SET chosen_id = rejected_id, chosen_score = 0, margin = 0 WHERE pair_id = '{id}'",
                   _NO_DIGEST], {("same_candidate_twice", "pairs")}),
        ("prompts", ["DELETE FROM judgements WHERE candidate_id IN (SELECT candidate_id FROM candidates "
                     "WHERE prompt_id = '{id}' AND sample_idx = 2)",
                     "DELETE FROM candidates WHERE prompt_id = '{id}' AND sample_idx = 2"],
         {("samples_missing", "prompts"), ("rows_out", "stages", "1/generate"), ("rows_out", "stages", "1/judge")}),
        ("held_out", ["INSERT INTO prompts SELECT * REPLACE (1 AS round, 'train' AS split, NULL AS digest) FROM prompts "
                      "WHERE prompt_id = '{id}'"],
         {("held_out_prompt_trained_on", "prompts"), ("rows_out", "stages", "1/prompts"),
          ("samples_missing", "prompts")}),
        # -- chain
        ("candidates", ["UPDATE candidates SET weights_hash = 'w' WHERE candidate_id = '{id}'", _NO_DIGEST],
         {("made_by_other_weights", "candidates"), ("candidate_id", "candidates")}),
        ("judgements", ["UPDATE judgements SET weights_hash = 'w' WHERE judgement_id = '{id}'"],
         {("judged_by_other_weights", "judgements"), ("changed", "judgements")}),
        ("checkpoints", ["UPDATE checkpoints SET reference_hash = 'w'", _NO_DIGEST],
         {("unknown_reference", "checkpoints"), ("other_reference", "rounds", "1"), ("manifest", "checkpoints")}),
        ("checkpoints", ["DELETE FROM checkpoints"],
         {("no_checkpoint", "rounds", "1"), ("rows_out", "stages", "1/train")}),
        ("checkpoints", ["UPDATE rounds SET parent_hash = 'w' WHERE round = 1", "DELETE FROM judgements",
                         "DELETE FROM candidates", "DELETE FROM pairs", "DELETE FROM stages", "DELETE FROM evaluations",
                         "DELETE FROM prompts", "UPDATE checkpoints SET n_examples = 0, digest = NULL",
                         "UPDATE rounds SET status = 'running'"],
         {("parent", "rounds", "1"), ("not_the_rounds_checkpoint", "checkpoints"), ("manifest", "checkpoints"),
          ("unknown_stage", "checkpoints")}),
        # -- numbers
        ("pairs", ["UPDATE pairs SET margin = 0.5 WHERE pair_id = '{id}'", _NO_DIGEST], {("margin", "pairs")}),
        ("pairs", ["UPDATE pairs SET chosen_score = 0.9, margin = 0.9 WHERE pair_id = '{id}'", _NO_DIGEST],
         {("score", "pairs")}),
        ("pairs", ["UPDATE judgements SET score = NULL, outcome = 'tie', digest = NULL "
                   "WHERE candidate_id = '{chosen_id}'"], {("score", "pairs")}),
        ("judgements", ["UPDATE judgements SET score = NULL, digest = NULL WHERE candidate_id = (SELECT candidate_id "
                        "FROM candidates WHERE sample_idx = 1 AND split = 'train' ORDER BY candidate_id LIMIT 1)"],
         {("score_of_invalid_vote", "judgements", None)}),
        ("pairs", ["DELETE FROM pairs WHERE pair_id = '{id}'"],
         {("n_examples", "checkpoints", None), ("rows_out", "stages", "1/pair")}),
        # -- ledger
        ("prompts", ["UPDATE stages SET status = 'failed' WHERE stage = 'judge'"], {("round_not_done", "rounds", "1")}),
        ("prompts", ["DELETE FROM stages WHERE stage = 'answer' AND round = 0"],
         {("round_not_done", "rounds", "0"), ("unknown_stage", "candidates", None)}),
        ("prompts", ["UPDATE stages SET rows_out = 501 WHERE stage = 'pair'"], {("rows_out", "stages", "1/pair")}),
        ("prompts", ["DELETE FROM evaluations WHERE round = 1 AND metric = 'pass_rate_strict'"],
         {("rows_out", "stages", "1/evaluate")}),
    ],
)  # fmt: skip
def test_damage_is_named_by_row(
    run: Workspace, target: str, statements: list[str], expected: set[tuple[str | None, ...]]
) -> None:
    """Expected are (check, table) of the damaged row itself, or with the id of another row (None: any)."""
    row = damage(run, target, *statements)
    report = verify(run, hashes=False)
    wanted = {(*entry, row["id"]) if len(entry) == 2 else entry for entry in expected}
    found = names(report.findings)
    for check, table, row_id in wanted:
        if row_id == "prompt_id":
            wanted = (wanted - {(check, table, row_id)}) | {(check, table, row["prompt_id"])}
    anywhere = {(check, table) for check, table, row_id in wanted if row_id is None}
    assert {entry for entry in found if entry[:2] not in anywhere} == {e for e in wanted if e[2] is not None}
    assert {entry[:2] for entry in found} >= anywhere
    assert all(finding.remedy and finding.what for finding in report.findings)


@pytest.fixture
def listed(run: Workspace) -> Workspace:
    """The run with one label, called label, and one ranking, called ranking, beside its pairs."""
    found = ask(
        run,
        "SELECT prompt_id, list(candidate_id ORDER BY score DESC) AS ids, list(score ORDER BY score DESC) AS scores "
        "FROM candidates JOIN judgements USING (candidate_id) GROUP BY prompt_id ORDER BY prompt_id LIMIT 1",
    )
    Store(run.store_path).insert([
        UnaryLabel("label", found["prompt_id"], 1, found["ids"][0], True, found["scores"][0], "b", 1.0),
        Ranking("ranking", found["prompt_id"], 1, tuple(found["ids"]), tuple(found["scores"]), "rubric", "b", 1.0),
    ])  # fmt: skip
    sql(run, "UPDATE stages SET rows_out = rows_out + 2 WHERE stage = 'pair'")
    return run


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE rounds SET status = status", set()),
        ("UPDATE rankings SET weight = 2", {("changed", "rankings")}),
        ("UPDATE unary_labels SET label = false", {("changed", "unary_labels")}),
        ("UPDATE unary_labels SET score = 0.5, digest = NULL", {("score", "unary_labels")}),
        ("UPDATE unary_labels SET prompt_id = 'gone', digest = NULL",
         {("unknown_prompt", "unary_labels"), ("foreign_candidate", "unary_labels")}),
        ("INSERT INTO unary_labels SELECT * REPLACE ('other' AS label_id, false AS label, NULL AS digest) FROM unary_labels",
         {("both_labels", "unary_labels"), ("rows_out", "stages")}),
        ("UPDATE rankings SET candidate_ids = candidate_ids[:1] || ['gone'] || candidate_ids[3:], digest = NULL",
         {("unknown_candidate", "rankings"), ("score", "rankings")}),
        ("UPDATE rankings SET candidate_ids = candidate_ids[:1] || candidate_ids[:1] || candidate_ids[3:], digest = NULL",
         {("ranking", "rankings"), ("score", "rankings")}),
        ("UPDATE rankings SET prompt_id = (SELECT max(prompt_id) FROM prompts WHERE split = 'train'), digest = NULL",
         {("foreign_candidate", "rankings")}),
        ("UPDATE rankings SET scores = scores[1:2], digest = NULL", {("ranking", "rankings")}),
        ("UPDATE rankings SET scores = list_reverse(scores), digest = NULL",
         {("ranking", "rankings"), ("score", "rankings")}),
        ("DELETE FROM rankings", {("rows_out", "stages")}),
    ],
)  # fmt: skip
def test_labels_and_rankings_are_checked_like_pairs(
    listed: Workspace, statement: str, expected: set[tuple[str, str]]
) -> None:
    sql(listed, statement)
    findings = verify(listed, hashes=False).findings
    assert {(finding.check, finding.table) for finding in findings} == expected
    assert {f.row_id for f in findings if f.table in ("rankings", "unary_labels")} <= {"label", "ranking"}


@pytest.mark.parametrize(("trainer", "n"), [("kto", 1), ("rrhf", 1), ("pro", 1), ("sft", 502)])
def test_a_trainer_uses_all_rows_of_its_kind(listed: Workspace, trainer: str, n: int) -> None:
    sql(listed, f"UPDATE checkpoints SET trainer = '{trainer}', n_examples = {n}")
    assert rules(Store(listed.store_path).query) == []
    sql(listed, f"UPDATE checkpoints SET n_examples = {n + 1}")
    assert [finding.check for finding in rules(Store(listed.store_path).query)] == ["n_examples"]


def test_one_cause_in_many_rows_is_counted_and_not_listed(run: Workspace) -> None:
    sql(run, "UPDATE candidates SET text = 'x' WHERE split = 'train'")
    findings = verify(run, hashes=False).findings
    assert {finding.check for finding in findings} == {"changed"}
    assert len(findings) + findings[-1].more == 2000
    assert len(findings) < 200


def test_rows_older_than_digests_are_not_covered_and_no_damage(run: Workspace) -> None:
    sql(run, "UPDATE candidates SET digest = NULL", "UPDATE pairs SET digest = NULL")
    report = verify(run, hashes=False)
    assert report.findings == ()
    assert report.uncovered == {"candidates": 2010, "pairs": 500}


def test_rows_of_a_branch_are_checked_too(run: Workspace) -> None:
    sql(run, "INSERT INTO archived_candidates BY NAME SELECT 'b1' AS branch, * FROM candidates",
        "UPDATE archived_candidates SET text = 'x' WHERE candidate_id = (SELECT min(candidate_id) FROM candidates)",
        "INSERT INTO archived_checkpoints BY NAME SELECT 'b1' AS branch, * REPLACE ('checkpoints/old' AS path) "
        "FROM checkpoints")  # fmt: skip
    first = ask(run, "SELECT min(candidate_id) AS id FROM candidates")["id"]
    identity = ask(run, "SELECT checkpoint_id AS id FROM checkpoints")["id"]
    assert names(verify(run).findings) == {
        ("changed", "archived_candidates", first), ("no_folder", "archived_checkpoints", identity),
    }  # fmt: skip


# -- files ----------------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x01
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def edit_manifest(file: Path) -> None:
    data = json.loads(file.read_text())
    data["checkpoint"]["n_examples"] += 1
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("file", "harm", "check"),
    [
        ("model.safetensors", flip, "weights"),
        ("model.safetensors", cut, "weights"),
        ("model.safetensors", Path.unlink, "weights"),
        ("tokenizer.json", lambda file: file.write_text("{}"), "tokenizer"),
        ("selfalign.json", edit_manifest, "manifest"),
        ("selfalign.json", Path.unlink, "manifest"),
        ("selfalign.json", lambda file: file.write_text("[1"), "manifest"),
        ("", shutil.rmtree, "no_folder"),
    ],
)
def test_a_damaged_folder(run: Workspace, file: str, harm: Callable[[Path], object], check: str) -> None:
    row = ask(run, _TARGET["checkpoints"])
    harm(run.path / row["path"] / file)
    assert names(verify(run).findings) == {(check, "checkpoints", row["id"])}
    unread = {"weights", "tokenizer"}
    assert {finding.check for finding in verify(run, hashes=False).findings} == {check} - unread


def test_the_initial_model_is_hashed_as_well(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=2)
    folder = tmp_path / "model"
    flip(folder / "model.safetensors")
    assert names(verify(run).findings) == {("weights", "rounds", "0")}
    shutil.rmtree(folder)
    assert names(verify(run, hashes=False).findings) == {("no_folder", "rounds", "0")}


# -- the command ----------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfalign", "verify", *arguments], capture_output=True, text=True, cwd=cwd,
    )  # fmt: skip


def test_a_margin_may_be_what_an_event_says(run: Workspace) -> None:
    note = "INSERT INTO events (event_id, round, stage, kind, subject_id, message, detail) VALUES "
    note += "('e', 1, 'pair', 'pair_strength', '{id}', 'kept', '{{\"mean\": 0.5}}')"
    row = damage(run, "pairs", "UPDATE pairs SET margin = 0.5 WHERE pair_id = '{id}'", _NO_DIGEST, note)
    assert ("margin", "pairs", row["id"]) not in names(verify(run, hashes=False).findings)
    sql(run, "UPDATE pairs SET margin = 0.6 WHERE pair_id = '" + row["id"] + "'")
    assert ("margin", "pairs", row["id"]) in names(verify(run, hashes=False).findings)


def test_a_builders_own_scores_stand_beside_the_judges(run: Workspace) -> None:
    note = "INSERT INTO events (event_id, round, stage, kind, subject_id, message, detail) VALUES "
    note += "('e', 1, 'pair', 'pair_score', '{id}', 'win_rate', "
    note += '\'{{"chosen_judged": {chosen_score}, "rejected_judged": {rejected_score}}}\')'
    change = "UPDATE pairs SET chosen_score = 0.7, rejected_score = 0.3, margin = 0.4 WHERE pair_id = '{id}'"
    row = damage(run, "pairs", change, _NO_DIGEST)
    assert ("score", "pairs", row["id"]) in names(verify(run, hashes=False).findings)
    sql(run, note.format(**row))
    assert verify(run, hashes=False).findings == ()
    sql(run, "UPDATE events SET detail = replace(detail, '1.0', '0.9') WHERE event_id = 'e'")
    assert names(verify(run, hashes=False).findings) == {("score", "pairs", row["id"])}


def test_demonstrations_are_their_prompts_answers_and_nobodys_samples(run: Workspace) -> None:
    row = ask(run, _TARGET["prompts"])
    made = content_id("demonstration", 1, row["id"], "Known.")
    seed = derive_seed(11, 1, row["id"], -1)
    sql(
        run,
        f"UPDATE prompts SET answer = 'Known.', digest = NULL WHERE prompt_id = '{row['id']}'",
        f"INSERT INTO candidates SELECT * REPLACE ('{made}' AS candidate_id, -1 AS sample_idx, '' AS weights_hash, "
        f"'demonstration' AS engine, {seed} AS seed, 'Known.' AS text, 'demonstration' AS origin, NULL AS digest) "
        f"FROM candidates WHERE prompt_id = '{row['id']}' AND sample_idx = 0",
        "UPDATE stages SET rows_out = rows_out + 1 WHERE round = 1 AND stage = 'generate'",
    )
    assert verify(run, hashes=False).findings == ()
    sql(run, f"UPDATE candidates SET weights_hash = 'w' WHERE candidate_id = '{made}'")
    assert names(verify(run, hashes=False).findings) == {("not_the_known_answer", "candidates", made)}
    sql(run, f"UPDATE candidates SET weights_hash = '', text = 'Another.' WHERE candidate_id = '{made}'")
    assert names(verify(run, hashes=False).findings) == {
        ("not_the_known_answer", "candidates", made), ("candidate_id", "candidates", made),
    }  # fmt: skip


def test_exit_codes_and_json(run: Workspace) -> None:
    done = command(str(run.path), cwd=run.path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "whole: no damage found" in done.stdout
    row = damage(run, "pairs", "UPDATE pairs SET margin = 7 WHERE pair_id = '{id}'")
    damaged = command(str(run.path), "--no-weights", "--json", cwd=run.path)
    assert damaged.returncode == 1
    report = json.loads(damaged.stdout)
    assert report["whole"] is False
    assert {(f["check"], f["row_id"]) for f in report["findings"]} == {("margin", row["id"]), ("changed", row["id"])}
    assert "--from-round 0" in report["findings"][0]["remedy"]
    sql(run, "UPDATE pairs SET judge = 'a' || chr(27) || '[2J' WHERE pair_id = '" + row["id"] + "'")
    shown = command(str(run.path), "--no-weights", cwd=run.path).stdout
    assert f"margin: pairs {row['id']} (round 1)" in shown
    assert "\x1b" not in shown


def test_a_store_that_cannot_be_read_is_one_line_and_exit_2(run: Workspace) -> None:
    data = bytearray(run.store_path.read_bytes())
    for position in range(12288, len(data), 4096):  # behind the header: it opens, and breaks on reading
        data[position : position + 512] = bytes(512)
    run.store_path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        verify(run)
    done = command(str(run.path), cwd=run.path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "restore the file from a copy" in done.stderr
    run.store_path.write_bytes(b"not a database")
    assert command(str(run.path), cwd=run.path).returncode == 2

"""Every query and command of docs/queries.md, on a finished run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from selfalign.store.sql import read_sql, read_sql_of_runs
from tests.e2e.project import Project

PAGE = Path(__file__).parent.parent.parent / "docs" / "queries.md"
_BLOCK = re.compile(r"^### (?P<title>.+?)\n(?:(?!^#).)*?^```sql(?P<two> two runs)?\n(?P<sql>.*?)^```$", re.M | re.S)
QUERIES = {block["title"]: block for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
            for line in block.splitlines()]  # fmt: skip

#: Question -> first columns of the answer, and the least rows it has on the run of conftest.py (2 rounds of 8
#: prompts, 16 held-out prompts; 0 where a sound run may have none).
EXPECTED = {
    "How did each round go?": ("model prompts pairs pair_yield pass_rate_strict", 3),
    "What became of the prompts?": ("round reason prompts share", 4),
    "How far did prompts get?": ("round name prompts row_count share", 8),
    "What did each round start from, and what was it compared with?": ("model starts_from reference data", 2),
    "What was each round's training given?": ("round kind from_round review examples", 2),
    "Which imported preferences are there, and which rounds took them?": ("file pairs mean_margin trained_rounds", 0),
    "Where did the time go?": ("round stage seconds share", 17),
    "How many tokens a second were sampled?": ("round stage tokens_written seconds", 7),
    "Do texts grow?": ("kind round n mean_tokens", 9),
    "Is sampling still exploring?": ("round prompts candidates distinct_per_prompt", 2),
    "Which pairs have the largest margin?": ("round margin prompt chosen rejected", 2),
    "Where did the judge choose what the verifier finds worse?": ("round prompt chosen rejected margin", 0),
    "Is longer simply better to the judge?": ("round pairs longer_chosen", 2),
    "Which chosen answers were cut off?": ("round prompt chosen n_tokens max_tokens", 1),
    "Where did one pair come from, and what did it train?": ("side prompt candidate_id made_by judgement_ids", 2),
    "Which weights made a row?": ("candidate_id round weights_hash made_by_model path", 3),
    "Why did a prompt give no pair?": ("round reason prompt judge scores outcomes", 2),
    "Which prompts were never paired, in any round?": ("prompt rounds reasons", 1),
    "What did people say of pairs, and what came of it?": ("reviewed_at reviewer decision note trained_rounds", 0),
    "Does the judge agree with people?": ("round judge reviewed accepted flipped rejected_pairs", 0),
    "What was trained otherwise than the pairs say?": ("round decision from_round reviewer note prompt margin", 0),
    "Can a judge be read at all?": ("round judge votes ok_rate parse_error", 8),
    "Does a judge order answers as the verifier does?": ("round judge n agreement ties", 2),
    "How are scores spread?": ("round judge bin_low bin_high n bar", 6),
    "What did the votes say that could not be parsed?": ("judge outcome raw answer prompt", 5),
    "On which answers do votes of one judge disagree most?": ("judge candidate_id votes lowest highest", 0),
    "What did each member of a weighted judge say?": ("candidate_id judge weight on_unit combined", 9),
    "Is the judge right, and does it change from round to round?": ("model judge_accuracy judge_accuracy_low", 3),
    "Was a judge right that could be read so well?": ("round judge votes ok_rate share_at_mode mean_score change", 8),
    "What did the gold set say of each judge?": ("judge whole metric value low high n", 4),
    "Which member of a judge is to be trusted, and is it still?": ("judge round value low high n", 12),
    "Do its biases grow?": ("round length_bias position_bias ties readable", 3),
    "At which kinds of gold items is it wrong?": ("round kind accuracy n", 3),
    "What did the gates decide, and what followed?": ("round branch rule figure verdict value", 9),
    "Why did a round not go on, and what can be done?": ("round branch done reason remedy", 0),
    "How did each round end?": ("model gate gate_failed judge_accuracy", 3),
    "Which rules cannot tell, for want of a figure?": ("rule figure reason rounds", 2),
    "How near to its bound is every figure?": ("rule figure round value threshold distance", 5),
    "What did rounds that were rolled back look like?": ("branch round rule metric value", 0),
    "Which categories and languages pass?": ("round language category answers pass_rate", 6),
    "Which instructions got better or worse?": ("instruction n m0 latest change", 2),
    "Which prompts flipped, and how do both answers read?": ("round change prompt answer_before answer_now", 1),
    "In which rounds was more lost than gained?": ("round answers gained lost delta_vs_previous", 1),
    "Which pairs trained what regressed?": ("round regressed shared_ids chosen_breaks prompt", 1),
    "Which texts came back in a later round?": ("round first_round prompt text", 0),
    "Which prompts give the same text again and again?": ("round prompt_id text times", 0),
    "How do two runs compare, round by round?": ("run model pairs mean_margin", 6),
    "Which held-out prompts does only one of them pass?": ("round prompt passed other_passed", 0),
    "What did they train on that is the same?": ("round pairs shared", 2),
}


def test_every_block_of_the_page_is_tested() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(QUERIES) == text.count("```sql") == len(EXPECTED)
    assert all(command.startswith(("selfalign sql ", "echo ")) for command in COMMANDS)


@pytest.mark.parametrize("title", EXPECTED)
def test_query(finished_runs: Project, title: str) -> None:
    columns, at_least = EXPECTED[title]
    block = QUERIES[title]
    runs = {name: finished_runs.folder / "runs" / name / "store.duckdb" for name in ("quickstart", "other")}
    answer = read_sql_of_runs(runs, block["sql"]) if block["two"] else read_sql(runs["quickstart"], block["sql"])
    assert answer.column_names[: len(columns.split())] == columns.split()
    assert answer.num_rows >= at_least, answer.to_pylist()


def test_every_column_of_round_summary_is_explained(finished_runs: Project) -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## What `round_summary` has")[2]
    explained = [name for line in table.splitlines() if line.startswith("| `")
                 for name in re.findall(r"`(\w+)`", line.split("|")[1])]  # fmt: skip
    found = read_sql(finished_runs.folder / "runs" / "quickstart" / "store.duckdb", "select * from round_summary")
    assert sorted(explained) == sorted(found.column_names)


def test_commands(finished_runs: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "runs").symlink_to(finished_runs.folder / "runs")
    environment = finished_runs.environment()
    ran = subprocess.run(
        ["bash", "-euc", "selfalign() { \"$PYTHON\" -m selfalign \"$@\"; }\n" + "\n".join(COMMANDS)],
        cwd=folder, env={**environment, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert pq.read_table(folder / "pairs.parquet").column_names == ["prompt", "chosen", "rejected"]
    assert "there are more rows" in ran.stdout

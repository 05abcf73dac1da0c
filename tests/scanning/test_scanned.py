"""``prompts.scan``: what becomes of flagged prompts, from the files to the events of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign.config import load_config
from selfalign.errors import ConfigError, PromptFileError
from selfalign.stages import prompts, scanned
from selfalign.stages.context import RunContext
from selfalign.types import Event
from tests.sources.test_repeats import opened as opened_run

MAIL = "Write to jane.roe@gmail.com"


def opened(folder: Path, **settings: object) -> RunContext:
    rows = [{"text": "A poem"}, {"text": MAIL}, {"text": "A joke", "answer": "Call (212) 736-5000"}]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return opened_run(folder, **settings)


def events(context: RunContext) -> list[Event]:
    for round in (0, 1, 2):
        prompts.run(context, round, "fingerprint")
    return context.store.rows(Event, "kind = 'flagged_prompt'")


def test_off_looks_at_nothing(tmp_path: Path) -> None:
    context = opened(tmp_path)
    assert MAIL in [p.text for p in prompts.load_training(context)]
    assert context.flagged == {} and events(context) == []


def test_warn_keeps_them_and_the_fingerprint(tmp_path: Path) -> None:
    without, context = opened(tmp_path), opened(tmp_path, scan="warn")
    assert prompts.fingerprint(context, 1) == prompts.fingerprint(without, 1)
    assert scanned.in_words(context) == ["2 training prompts hold email 1, phone_number 1: kept"]
    assert sorted(e.message for e in events(context)) == [
        "p.jsonl:2 kept: holds email 1",
        "p.jsonl:3 kept: holds phone_number 1",
    ]


def test_drop_leaves_them_out_and_says_so_without_quoting(tmp_path: Path) -> None:
    context = opened(tmp_path, scan="drop")
    assert [p.text for p in prompts.load_training(context)] == ["A poem", "A story, please!", "A song"]
    found = events(context)
    assert {(e.round, e.stage, e.message) for e in found} == {
        (1, "prompts", "p.jsonl:2 left out: holds email 1"),
        (1, "prompts", "p.jsonl:3 left out: holds phone_number 1"),
    }
    kept = (tmp_path / "run" / ".selfalign" / "scan.json").read_text()
    for told in (str(found), kept):
        assert "gmail" not in told and "736" not in told


def test_refuse_names_the_first_places(tmp_path: Path) -> None:
    with pytest.raises(
        PromptFileError, match=r"2 training prompts hold .*first: p\.jsonl:2 jan\*+ \(email\); p\.jsonl:3 a"
    ):
        prompts.load_training(opened(tmp_path, scan="refuse"))


def test_held_out_prompts_count_as_well(tmp_path: Path) -> None:
    context = opened(tmp_path, scan="drop")
    (tmp_path / "h.jsonl").write_text(json.dumps({"text": MAIL}))
    with pytest.raises(PromptFileError, match=r"no held_out prompt is left after prompts\.scan"):
        prompts.load_held_out(context)


def test_a_scan_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts.load_training(opened(tmp_path, scan="drop"))
    looked: list[str] = []
    monkeypatch.setattr(scanned, "findings_in", lambda prompt: looked.append(prompt.text) or [])
    assert len(prompts.load_training(opened(tmp_path, scan="drop"))) == 3 and looked == []
    context = opened(tmp_path, scan="drop")
    (tmp_path / "p.txt").write_text("Another\n")
    prompts.load_training(context)
    assert looked == ["A poem", MAIL, "A joke", "Another"]


@pytest.mark.parametrize(("written", "read"), [("off", "off"), ("drop", "drop"), ("'off'", "off")])
def test_a_bare_off_is_a_word(tmp_path: Path, written: str, read: str) -> None:
    (tmp_path / "run.yaml").write_text(f"prompts: {{scan: {written}}}\n")
    assert load_config(tmp_path / "run.yaml").prompts.scan == read


def test_another_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("prompts: {scan: yes}\n")
    with pytest.raises(ConfigError, match="scan"):
        load_config(tmp_path / "run.yaml")

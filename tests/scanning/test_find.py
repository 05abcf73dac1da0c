"""What is found, what is not, in how much time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.scanning.find import find, findings, findings_in
from selfalign.scanning.findings import KINDS, Match, masked, settled
from selfalign.sources.records import prompt_of
from tests.scanning.samples import ALLOWED, FOUND, token

DATA = Path(__file__).parent.parent.parent / "data"
PAGE = DATA.parent / "docs" / "scan.md"


@pytest.mark.parametrize(("kind", "text", "value"), FOUND, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(FOUND)])
def test_a_value_is_found_whole_and_once(kind: str, text: str, value: str) -> None:
    assert [(match.kind, text[match.start : match.end]) for match in find(text)] == [(kind, value)]


@pytest.mark.parametrize("text", ALLOWED)
def test_examples_and_lookalikes_are_not(text: str) -> None:
    assert find(text) == []


def test_every_kind_has_a_sample_and_a_line_in_the_docs() -> None:
    assert {kind for kind, _, _ in FOUND} == set(KINDS)
    page = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from strings(member)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json*")), ids=lambda path: path.name)
def test_the_shipped_data_has_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    documents = [json.loads(text)] if path.suffix == ".json" else map(json.loads, text.splitlines())
    found = [(string, match) for document in documents for string in strings(document) for match in find(string)]
    assert found == []


@given(st.text() | st.text(alphabet="aA1@.:/-+ =_ey中J"))
@settings(max_examples=200, deadline=None)
def test_matches_are_in_order_apart_and_within_the_text(text: str) -> None:
    places = [place for match in find(text) for place in (match.start, match.end)]
    assert places == sorted(places) and all(0 <= place <= len(text) for place in places)


@given(st.text(min_size=1))
def test_an_excerpt_tells_little(value: str) -> None:
    shown = masked(value).removesuffix("********")
    assert value.startswith(shown) and len(shown) <= min(4, len(value) / 5)


def test_of_two_rules_the_surer_one_counts() -> None:
    assert settled([Match("high_entropy", 0, 30), Match("github_token", 0, 20), Match("email", 25, 40)]) == [
        Match("github_token", 0, 20),
        Match("email", 25, 40),
    ]


def test_rows_say_where_and_never_what() -> None:
    secret = "ghp_" + token(36)
    prompt = prompt_of({"text": "Mail jane.roe@gmail.com", "answer": f"It is {secret}."}, "p.jsonl:3")
    found = findings_in(prompt, "p.jsonl")
    assert [(f.where, f.field, f.start, f.kind, f.excerpt) for f in found] == [
        ("p.jsonl:3", "text", 5, "email", "jan********"),
        ("p.jsonl:3", "answer", 6, "github_token", "ghp_********"),
    ]
    assert {f.id for f in found} == {prompt.prompt_id}
    assert findings("", source="", where="", id="", field="text") == []


#: Text on which a careless pattern takes quadratic time or more.
HOSTILE = [
    "a", "1", " ", "1 ", "1-", "1.", "1:", "@", "a@", "a@b.", "://", "://a:", "/", "eyJ", "eyJ.", "sk-", "aws ", "key" + " " * 50,
    "xoxb-1-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "DE12 ", "2001:", "(1", "+1", "中1", "eyJ" * 600 + " ",
    "//a/:_authToken= ", "sk-" * 20 + "T3BlbkFJ ",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE, ids=lambda unit: repr(unit[:20]))
def test_time_grows_with_length_alone(unit: str) -> None:
    begin = time.process_time()
    find(unit * (1_000_000 // len(unit)))
    assert time.process_time() - begin < 20, "seconds for a line of 1 MB; quadratic time would be hours"


def test_ordinary_prompts_take_little_time() -> None:
    lines = (DATA / "seed_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    text = " ".join(json.loads(line)["text"] for line in lines)
    prompts = [text[start : start + 300] for start in range(0, len(text), 300)]
    find(FOUND[0][1] + FOUND[-4][1])  # load the libraries
    begin = time.process_time()
    for prompt in prompts:
        find(prompt)
    assert len(prompts) / (time.process_time() - begin) > 2_000, "prompts a CPU second; 23,000 were measured"

"""The pages over a real run's store: what they show, what they filter, and what they write."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from selfalign.browse import queries
from selfalign.reviews import latest, read
from selfalign.store.store import Store
from selfalign.types import Candidate, Judgement, Pair, Prompt
from selfalign.workspace import Workspace
from tests.browse.conftest import BASE, HOSTILE

ORIGIN = {"Origin": BASE}


def rows(workspace: Workspace, kind: type[Any], where: str = "") -> list[Any]:
    return Store(workspace.store_path).rows(kind, where)


def listed(client: TestClient, path: str) -> list[str]:
    """Ids that a list links to, over all of its pages."""
    found: list[str] = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        found += re.findall(r'class="item" href="/\w+/([0-9a-f]+)', answer.text)
        following = re.search(r'<a rel="next" href="([^"]+)"', answer.text)
        path = html.unescape(following[1]) if following else ""
    return found


def say(client: TestClient, pair_id: str, decision: str, note: str = "", **headers: str) -> Any:
    return client.post(f"/pairs/{pair_id}/review", data={"decision": decision, "note": note}, headers=ORIGIN | headers)


def test_every_page_answers_and_leads_nowhere_else(client: TestClient, workspace: Workspace) -> None:
    seen, waiting = set[str](), ["/", "/help", "/sql?q=select+*+from+round_summary"]
    while waiting and len(seen) < 60:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = client.get(path)
        assert answer.status_code == (303 if path == "/search" else 200), (path, answer.text)
        if path.startswith("/static"):
            continue
        links = re.findall(r'(?:href|src|action)="([^"]+)"', answer.text)
        assert all(link.startswith(("/", "?")) and not link.startswith("//") for link in links), links
        assert not re.search(r"<script(?! src=)|<[^>]+\s(?:on\w+|style)=", answer.text), "no inline script or style"
        waiting += [
            html.unescape(link)
            for link in links
            if link.startswith("/") and "/review?" not in link and not link.endswith("/review")
        ]
    assert {path.split("?")[0].split("/")[1] for path in seen} >= {
        "pairs", "prompts", "candidates", "judgements", "reviews", "sql", "help", "static",
    }  # fmt: skip


def test_texts_are_shown_as_text(client: TestClient, workspace: Workspace) -> None:
    prompt = next(p for p in rows(workspace, Prompt, "split = 'train'"))
    assert prompt.text.startswith(HOSTILE)
    pair = rows(workspace, Pair)[0]
    for path in ("/pairs", f"/pairs/{pair.pair_id}", "/prompts", f"/prompts/{prompt.prompt_id}", "/sql?q=from+prompts"):
        text = client.get(path).text
        assert "<script>document" not in text and "<img" not in text and "\u202e" not in text, path
        assert "&lt;script&gt;" in text and "{{ 7 * 7 }}" in text, path
    reflected = client.get("/pairs", params={"q": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in reflected
    assert "<script>alert" not in client.get("/pairs", params={"sort": "<script>alert(1)</script>"}).text
    assert (
        "<script>alert"
        not in client.get("/sql", params={"q": "select '<script>alert(1)</script>' as \"<script>alert(2)\""}).text
    )


def test_a_pair_has_its_texts_scores_votes_and_lineage(client: TestClient, workspace: Workspace) -> None:
    pair = rows(workspace, Pair)[0]
    sides = {c.candidate_id: c for c in rows(workspace, Candidate)}
    text = html.unescape(re.sub(r"</?mark>", "", client.get(f"/pairs/{pair.pair_id}").text))
    with Store(workspace.store_path).read():
        found = queries.pair(Store(workspace.store_path), pair.pair_id, queries.Filters(), [], frozenset())
    assert found is not None and found.chosen and found.rejected
    assert found.chosen.candidate.text == sides[pair.chosen_id].text
    assert found.rejected.candidate.text == sides[pair.rejected_id].text
    votes = [j for j in rows(workspace, Judgement) if j.candidate_id in (pair.chosen_id, pair.rejected_id)]
    shown = [v.judgement_id for a in (found.chosen, found.rejected) for v in a.judgements]
    assert sorted(shown) == sorted(j.judgement_id for j in votes) and votes
    for vote in votes:
        assert vote.judge in text and (not vote.raw or queries.words(vote.raw)[0] in text)
    assert [(t.round, t.review) for t in found.trainings] == [(1, None)]
    assert found.trainings[0].checkpoint == "checkpoints/round-1" and "trained M1" in text


def test_filters_give_exactly_what_sql_gives(client: TestClient, workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)  # several pages, so that none loses or repeats a row
    pairs, prompts = rows(workspace, Pair), {p.prompt_id: p for p in rows(workspace, Prompt)}
    answers = {c.candidate_id: c for c in rows(workspace, Candidate)}
    every = {pair.pair_id for pair in pairs}
    assert len(pairs) >= 4
    middle = sorted(pair.margin for pair in pairs)[len(pairs) // 2]
    length = answers[pairs[0].chosen_id].n_tokens
    judge = pairs[0].judge
    for query, wanted in (
        ("", every), ("round=1", every), ("round=2", set()), (f"judge={judge}", every), ("judge=nobody", set()),
        ("language=de", {p.pair_id for p in pairs if prompts[p.prompt_id].language == "de"}),
        ("category=story", {p.pair_id for p in pairs if prompts[p.prompt_id].category == "story"}),
        (f"min_margin={middle!r}", {p.pair_id for p in pairs if p.margin >= middle}),
        (f"max_margin={middle!r}", {p.pair_id for p in pairs if p.margin <= middle}),
        (f"min_length={length}&max_length={length}", {p.pair_id for p in pairs if answers[p.chosen_id].n_tokens == length}),
        ("outcome=ok", every), ("outcome=refused", set()), ("review=none", every), ("review=any", set()),
        ("q=NUMBER+3", {p.pair_id for p in pairs if prompts[p.prompt_id].text.endswith(" 3")}),
        ("branch=none", set()),
    ):  # fmt: skip
        found = listed(client, f"/pairs?{query}")
        assert len(found) == len(set(found)) and set(found) == wanted, query
    by_margin = [p.pair_id for p in sorted(pairs, key=lambda p: (-p.margin, p.pair_id))]
    assert listed(client, "/pairs?sort=margin_low") == [
        p.pair_id for p in sorted(pairs, key=lambda p: (p.margin, p.pair_id))
    ]
    margins = {p.pair_id: p.margin for p in pairs}
    assert [margins[p] for p in listed(client, "/pairs?sort=margin_high")] == [margins[p] for p in by_margin]


def test_other_lists_are_whole_and_filtered(client: TestClient, workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(queries, "PAGE", 5)
    candidates, judgements = rows(workspace, Candidate), rows(workspace, Judgement)
    assert sorted(listed(client, "/candidates")) == sorted(c.candidate_id for c in candidates)
    assert sorted(listed(client, "/candidates?split=held_out")) == sorted(
        c.candidate_id for c in candidates if c.split == "held_out"
    )
    assert sorted(listed(client, "/judgements?judge=verifier")) == sorted(
        j.candidate_id for j in judgements if j.judge == "verifier"
    )
    assert len(listed(client, "/prompts?split=train&language=de")) == 4
    assert listed(client, "/candidates?outcome=refused") == []


def test_a_search_goes_on_where_it_stopped(client: TestClient, workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(queries, "STRETCH", 3)
    monkeypatch.setattr(queries, "SEARCH_S", 0.0)
    monkeypatch.setattr(queries, "PAGE", 2)
    candidates = rows(workspace, Candidate)
    letter = next(c for one in candidates for c in one.text if c.isascii() and c.isalpha())
    wanted = sorted(c.candidate_id for c in candidates if letter.lower() in c.text.lower())
    assert sorted(listed(client, f"/candidates?q={letter}")) == wanted and wanted
    assert listed(client, "/candidates?q=not+anywhere+to+be+found") == []
    assert client.get("/search?q=x&in=judgements").headers["location"] == "/judgements?q=x"


def test_characters_of_expressions_are_looked_for_as_they_are(client: TestClient, workspace: Workspace) -> None:
    assert len(listed(client, "/prompts?q=%7B%7B+7+*+7+%7D%7D")) == 8
    for text in (".*", "\\", "(", "[a-", "%", "a{2}", "?", "^", "\x00"):
        assert client.get("/prompts", params={"q": text, "split": "held_out"}).status_code == 200
    assert listed(client, "/prompts?split=train&q=.%2B") == []
    assert len(listed(client, "/prompts?q=%22number+3%22")) == 1


@pytest.mark.parametrize(
    "query",
    ["round=x", "round=-1", "round=99999999999", "min_margin=nan", "sort=drop", "outcome=good", "after=x", "after=1~",
     "review=no", "q=" + "x" * 501, "after=nan~p"],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(client: TestClient, query: str) -> None:
    assert client.get(f"/pairs?{query}").status_code in (200, 400)
    if not query.startswith("after"):
        assert client.get(f"/pairs?{query}").status_code == 400


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    for path in (
        "/pairs/abc",
        "/prompts/abc",
        "/candidates/abc",
        "/nothing",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
    ):
        assert client.get(path).status_code == 404, path
    assert say(client, "abc", "flip").status_code == 404


def test_a_review_is_in_the_inbox_and_on_the_pages_and_the_store_is_untouched(
    client: TestClient, workspace: Workspace
) -> None:
    one, two, three, *_ = rows(workspace, Pair)
    before = workspace.store_path.read_bytes()
    answer = say(client, one.pair_id, "flip", "the other\r\nis <b>right</b>")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/pairs/{one.pair_id}")
    say(client, two.pair_id, "reject")
    say(client, three.pair_id, "accept")
    say(client, three.pair_id, "withdraw")
    said = read(workspace.reviews).reviews
    assert {p: (r.decision, r.note, r.reviewer, r.round) for p, r in latest(said).items()} == {
        one.pair_id: ("flip", "the other\nis <b>right</b>", "tester", 1), two.pair_id: ("reject", "", "tester", 1),
    }  # fmt: skip
    text = client.get(f"/pairs/{one.pair_id}").text
    assert "&lt;b&gt;right" in text and "flipped" in text and "waits in reviews.jsonl" in text
    assert listed(client, "/pairs?review=any") and set(listed(client, "/pairs?review=any")) == {
        one.pair_id,
        two.pair_id,
    }
    assert set(listed(client, "/pairs?review=reject")) == {two.pair_id}
    assert one.pair_id not in listed(client, "/pairs?review=none")
    assert listed(client, "/reviews") == [three.pair_id, three.pair_id, two.pair_id, one.pair_id]
    assert workspace.store_path.read_bytes() == before, "the store has one writer, and this is not it"


def test_reviewing_keeps_the_filters_and_goes_nowhere_else(client: TestClient, workspace: Workspace) -> None:
    one = rows(workspace, Pair)[0]
    path = f"/pairs/{one.pair_id}/review?round=1&sort=margin_high&after=//evil.example"
    answer = client.post(path, data={"decision": "accept"}, headers=ORIGIN)
    assert answer.headers["location"].startswith(f"/pairs/{one.pair_id}?round=1&sort=margin_high")


def test_neighbours_are_those_of_the_list(client: TestClient, workspace: Workspace) -> None:
    for query in ("", "?sort=margin_high", "?language=de"):
        order = listed(client, f"/pairs{query}")
        for at, pair_id in enumerate(order):
            text = client.get(f"/pairs/{pair_id}{query}").text
            near = {rel: re.search(rf'<link rel="{rel}" href="/pairs/([0-9a-f]+)', text) for rel in ("prev", "next")}
            assert (near["next"][1] if near["next"] else None) == (order[at + 1] if at + 1 < len(order) else None)
            assert (near["prev"][1] if near["prev"] else None) == (order[at - 1] if at else None)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"decision": "drop"}, {}), ({}, {}), ({"decision": "flip", "note": "x" * 4001}, {}),
        ({"decision": "flip", "note": "x" * 70_000}, {}), ({"decision": "flip"}, {"Content-Type": "text/plain"}),
    ],
)  # fmt: skip
def test_what_is_no_review_is_refused(
    client: TestClient, workspace: Workspace, body: Any, headers: dict[str, str]
) -> None:
    pair = rows(workspace, Pair)[0]
    assert client.post(f"/pairs/{pair.pair_id}/review", data=body, headers=ORIGIN | headers).status_code == 400
    assert not workspace.reviews.exists()


def test_branches_can_be_read(client: TestClient, workspace: Workspace) -> None:
    pair = rows(workspace, Pair)[0]
    with Store(workspace.store_path).write() as transaction:
        transaction.execute("INSERT INTO branches (branch, from_round, from_stage, reason, detail, config) "
                            "VALUES ('b1', 1, 'pair', 'config', '', '{}')")  # fmt: skip
        transaction.execute(
            "INSERT INTO archived_pairs BY NAME SELECT 'b1' AS branch, 'pair' AS of_stage, * FROM pairs"
        )
        transaction.execute("DELETE FROM pairs")
    assert listed(client, "/pairs") == []
    assert pair.pair_id in listed(client, "/pairs?branch=b1")
    text = client.get(f"/pairs/{pair.pair_id}?branch=b1").text
    assert "set aside in branch b1" in text and "no round of the run as it stands" in text


def test_an_older_store_and_one_that_is_gone(client: TestClient, workspace: Workspace) -> None:
    pair = rows(workspace, Pair)[0]
    with Store(workspace.store_path).write() as transaction:
        for statement in ("DROP VIEW review_text", "DROP VIEW trained_on", "DROP VIEW lineage", "DROP VIEW regression_pairs",
                          "DROP TABLE reviews", "DROP TABLE overrides", "DROP TABLE archived_overrides",
                          "DELETE FROM schema_version WHERE version >= 10"):  # fmt: skip
            transaction.execute(statement)
    for path in ("/", "/pairs", f"/pairs/{pair.pair_id}", "/reviews"):
        assert client.get(path).status_code == 200, path
    assert say(client, pair.pair_id, "reject").status_code == 303
    workspace.store_path.unlink()
    assert client.get("/").status_code == 400
    assert "\n" not in re.search(r'class="error">([^<]*)<', client.get("/").text)[1]  # type: ignore[index]


def test_the_folder_has_nothing_but_the_inbox_that_was_not_there(client: TestClient, workspace: Workspace) -> None:
    def files() -> set[Path]:
        return {path.relative_to(workspace.path) for path in workspace.path.rglob("*") if path.is_file()}

    before = files()
    for path in ("/", "/pairs", "/sql?q=select+count(*)+from+candidates"):
        client.get(path)
    say(client, rows(workspace, Pair)[0].pair_id, "accept")
    assert files() - before == {Path("reviews.jsonl")}

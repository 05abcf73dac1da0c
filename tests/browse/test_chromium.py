"""The pages in a real browser: keys, filters, the diff, the SQL box, and a store that is being written.

Needs an installed Chromium (Debian's package ``chromium``) and the Python package playwright.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from selfalign.browse.access import access_for
from selfalign.browse.app import make_app
from selfalign.browse.server import _listening
from selfalign.reviews import latest, read
from selfalign.store.store import Store
from selfalign.types import Pair
from selfalign.workspace import Workspace
from tests.store.rows import candidate

CHROMIUM = os.environ.get("SELFALIGN_CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-sync", "--disable-default-apps",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def address(workspace: Workspace) -> Iterator[str]:
    """The pages of a copy of the run, on a port of their own."""
    listening = _listening("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = make_app(workspace, access_for("127.0.0.1", port, [], token=False), "tester")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    context = chromium.new_context(base_url=address)
    page = context.new_page()
    page.set_default_timeout(20_000)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(address) else problems.append(request.url))
    yield page
    context.close()
    assert problems == [], "no script fails, no policy is broken, nothing is fetched from elsewhere"


def shows(page: Any, selector: str) -> None:
    """The page with ``selector`` is there, its script included."""
    page.wait_for_selector(selector)
    page.wait_for_load_state("load")


def items(page: Any) -> list[str]:
    return [link.get_attribute("href").split("?")[0].rpartition("/")[2] for link in page.query_selector_all("a.item")]


def test_a_list_is_filtered_and_walked_by_keys(page: Any, workspace: Workspace) -> None:
    page.goto("/pairs")
    every = items(page)
    assert len(every) == len(Store(workspace.store_path).rows(Pair))
    page.select_option("form.filters select[name=language]", "de")
    page.click("form.filters button")
    page.wait_for_url(re.compile("language=de"))
    assert 0 < len(items(page)) < len(every) and set(items(page)) < set(every)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    assert items(page)[0] in focused
    page.keyboard.press("Enter")
    shows(page, "#review")
    assert "language=de" in page.url, "the pair keeps the list's filters"
    first = page.url
    if len(items(page)) > 1:
        page.keyboard.press("j")
        page.wait_for_url(lambda url: url != first)


def test_a_pair_is_reviewed_by_keys(page: Any, workspace: Workspace) -> None:
    page.goto("/pairs")
    order = items(page)
    page.goto(f"/pairs/{order[0]}")
    page.keyboard.press("n")
    page.keyboard.type("far better: a f r j /")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    shows(page, "h1 .tag.flip")
    page.keyboard.press("j")
    page.wait_for_url(re.compile(order[1]))
    page.keyboard.press("r")
    shows(page, "h1 .tag.reject")
    page.keyboard.press("k")
    page.wait_for_url(re.compile(order[0]))
    said = latest(read(workspace.reviews).reviews)
    assert {pair_id: (one.decision, one.note) for pair_id, one in said.items()} == {
        order[0]: ("flip", "far better: a f r j /"), order[1]: ("reject", ""),
    }  # fmt: skip
    page.keyboard.press("w")
    shows(page, "h1:not(:has(.tag))")
    assert set(latest(read(workspace.reviews).reviews)) == {order[1]}
    page.keyboard.press("u")
    page.wait_for_url(re.compile("/pairs$"))


def test_the_diff_marks_what_differs_and_leaves_the_texts_whole(page: Any, workspace: Workspace) -> None:
    with Store(workspace.store_path).write() as transaction:
        pair = transaction.rows(Pair)[0]
        for side, text in (
            (pair.chosen_id, "The cat sat on <b>the</b> mat."),
            (pair.rejected_id, "The dog sat on <b>the</b> mat!"),
        ):
            transaction.execute("UPDATE candidates SET text = ? WHERE candidate_id = ?", [text, side])
    page.goto(f"/pairs/{pair.pair_id}")
    assert page.inner_text(".chosen .answer") == "The cat sat on <b>the</b> mat."
    assert page.locator(".chosen mark").all_inner_texts() == ["cat", "mat."]
    assert page.locator(".rejected mark").all_inner_texts() == ["dog", "mat!"]
    assert "owned" not in page.title()


def test_search_help_and_the_sql_box(page: Any) -> None:
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type("j")
    page.select_option(".search select", "prompts")
    page.click(".search button")
    page.wait_for_url(re.compile(r"/prompts\?q=j"))
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector("#keys")
    page.goto("/sql")
    page.fill("#sql", "select stage, rows_out from stages where stage = 'pair'")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("tbody tr")
    assert page.locator("thead th").all_inner_texts() == ["stage", "rows_out"]


def test_everything_is_read_without_javascript(chromium: Any, address: str) -> None:
    context = chromium.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.click("nav a[href='/pairs']")
    page.click("a.item")
    page.click("#review button[value=accept]")
    page.wait_for_selector("h1 .tag.accept")
    context.close()


def test_a_store_that_is_being_written_is_read_meanwhile(page: Any, workspace: Workspace) -> None:
    over, batches = threading.Event(), 0
    store = Store(workspace.store_path)

    def write() -> None:
        nonlocal batches
        while not over.is_set():
            store.insert([candidate(f"extra{batches}-{i}", "p") for i in range(50)])
            batches += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for path in ("/pairs", "/candidates", "/", "/sql?q=select+count(*)+from+candidates", "/judgements"):
            answer = page.goto(path)
            assert answer.status == 200
    finally:
        over.set()
        writer.join()
    assert batches > 1
    page.goto("/candidates?round=1&split=train")
    assert page.locator("a.item").count() > 0


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("wide", 1280, "light"), ("phone", 390, "light"), ("dark", 1280, "dark")]
)
def test_nothing_runs_over_the_edge(
    chromium: Any, address: str, workspace: Workspace, name: str, width: int, scheme: Any
) -> None:
    context = chromium.new_context(base_url=address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    pair = Store(workspace.store_path).rows(Pair)[0]
    for path in ("/", "/pairs", f"/pairs/{pair.pair_id}", "/judgements", "/sql?q=from+stages", "/help"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if folder := os.environ.get("SELFALIGN_SCREENSHOTS"):
            target = (
                Path(folder)
                / f"{name}-{path.split('?')[0].split('/')[1] or 'rounds'}{'-one' if path.count('/') > 1 else ''}.png"
            )
            page.screenshot(path=str(target), full_page=True)
    context.close()

"""The page: one file that needs no network, and shows as text whatever models and users wrote."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from selfalign.report.figures import RunFigures
from selfalign.report.page import differences, render
from selfalign.report.reading import read_runs
from selfalign.workspace import Workspace
from tests.report.made import HOSTILE

CHROMIUM = Path("/usr/bin/chromium")


class Elements(HTMLParser):
    """Elements with their attributes, and the text in each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, []).append(data)


@pytest.fixture(scope="module")
def page(figures: RunFigures) -> str:
    return render([figures])


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    return Elements(page)


def test_hostile_text_is_text(page: str, elements: Elements) -> None:
    assert [tag for tag, _ in elements.found].count("script") == 3
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "embed", "form")]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    shown = "".join(text for tag in ("pre", "mark", "td") for text in elements.text[tag])
    assert HOSTILE.replace("\u2028", "\\u2028").replace("\x1b", "\\x1b") in shown
    assert "\x1b" not in page


def test_embedded_data_is_json_that_cannot_end_its_element(page: str) -> None:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert "<" not in text and "\u2028" not in text
    data = json.loads(text)
    assert any(HOSTILE in row["reason"] for row in data["gate_decisions"]["rows"])
    assert data["pass_rate_strict"]["columns"] == ["run", "branch", "round", "figure", "value", "low", "high", "n"]
    assert data["rounds"]["columns"][:4] == ["model", "trained_on", "pass_rate_strict", "pass_rate_strict_low"]


def test_the_policy_allows_the_two_scripts_of_the_page_and_nothing_else(page: str, elements: Elements) -> None:
    (policy,) = [a["content"] for tag, a in elements.found if tag == "meta" and "http-equiv" in a]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{h}'" for h in hashes) + ";")
    assert "connect-src" not in policy and "http" not in policy


def test_nothing_is_loaded_from_elsewhere(elements: Elements) -> None:
    for tag, attributes in elements.found:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), tag


def test_every_plot_has_its_csv_and_every_absence_a_word(page: str, elements: Elements) -> None:
    plots = [attributes["data-plot"] for tag, attributes in elements.found if tag == "figure"]
    buttons = [attributes["data-csv"] for tag, attributes in elements.found if "data-csv" in attributes]
    assert set(plots) < set(buttons)
    assert "<b>Wins over M0</b>: not measured; evaluate.win_rate turns it on." in page


def test_settings_that_differ_are_listed(made: Workspace, other: Workspace) -> None:
    runs = read_runs([made, other], examples=1)
    assert differences(runs) == [("train.beta", ["0.03", "0.01"])]
    text = render(runs)
    assert "<title>made and other – report</title>" in text
    assert text.count('<section class="card">') == 2


def test_long_answers_are_cut_with_a_word(figures: RunFigures) -> None:
    first = figures.examples[0]
    assert first.better is not None
    long = replace(first, better=replace(first.better, text="x" * 5000))
    assert "… and 1,000 more characters" in render([replace(figures, examples=[long])])


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}")
def test_a_browser_draws_every_plot_and_runs_nothing_else(page: str, elements: Elements, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=20000", "--window-size=390,2000", "--dump-dom",
    ]  # fmt: skip
    shown = subprocess.run([CHROMIUM, *options, file.as_uri()], capture_output=True, text=True, timeout=120).stdout
    shutil.rmtree(tmp_path / "browser", ignore_errors=True)
    assert 'data-drawn="yes"' in shown
    shown = re.sub(r"<script.*?</script>", "", shown, flags=re.S)
    assert "cannot be drawn" not in shown and "data-hacked" not in shown
    drawn = re.findall(r'<figure data-plot="[\w-]+">(.*?)</figure>', shown, re.S)
    assert len(drawn) == len([tag for tag, _ in elements.found if tag == "figure"])
    assert all("<svg" in figure for figure in drawn)

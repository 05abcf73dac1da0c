"""docs/gates.md says what the code does: every rule with its default action, and a query that works."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfalign.config import validate_config
from selfalign.registry import plugins
from selfalign.store.store import Store, read_sql

PAGE = (Path(__file__).parent.parent.parent / "docs" / "gates.md").read_text(encoding="utf-8")
ROWS = {
    row["rule"]: row
    for row in re.finditer(r"^\| `(?P<rule>\w+)`(?P<default> \*)? \|.*\| (?P<action>\w+) \|$", PAGE, re.M)
}


def test_the_table_has_every_rule_with_its_action_and_whether_it_is_on() -> None:
    on = [gate.id for gate in validate_config({"name": "x"}, "test").gates]
    for plugin in plugins("gate"):
        fields = plugin.load().Config.model_fields
        row = ROWS[plugin.name]
        assert row["action"] == fields["action"].default
        assert bool(row["default"]) == (plugin.name in on)
        for name, default in re.findall(r"`(\w+)` \(([\d.]+)\)", row[0]):
            assert float(default) == fields[name].default, name
    assert {plugin.name for plugin in plugins("gate")} == ROWS.keys()


def test_the_example_is_a_config() -> None:
    (block,) = re.findall(r"^    gates:\n(?:      .*\n)+", PAGE, re.M)
    gates = validate_config({"name": "x", **yaml.safe_load(block)}, "test").gates
    assert [gate.action for gate in gates] == ["stop", "ask", "stop", "roll_back"]


def test_the_query_works(tmp_path: Path) -> None:
    (query,) = re.findall(r'^    selfalign sql runs/quickstart "(.*)"$', PAGE, re.M)
    Store(tmp_path / "store.duckdb").create()
    assert read_sql(tmp_path / "store.duckdb", query).num_rows == 0

"""docs/meta.md: its config is one, with the defaults it names, and its queries work."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfalign.config import MetaSettings, validate_config
from selfalign.store.store import Store, read_sql

PAGE = (Path(__file__).parent.parent.parent / "docs" / "meta.md").read_text(encoding="utf-8")
QUERIES = re.findall(r'^selfalign sql runs/quickstart "(.*)"$', PAGE, re.M)


def test_the_example_is_a_config_with_the_defaults() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = validate_config({"name": "page", **yaml.safe_load(block)}, "docs/meta.md")
    assert config.meta_judges(1)
    assert config.meta.model_dump(exclude={"enabled"}) == MetaSettings().model_dump(exclude={"enabled"})


def test_the_queries_work(tmp_path: Path) -> None:
    Store(tmp_path / "store.duckdb").create()
    assert len(QUERIES) == 4
    for query in QUERIES:
        assert read_sql(tmp_path / "store.duckdb", query).num_rows == 0

"""docs/evaluation.md names every figure, and only figures that there are."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfalign.config import EvaluateSettings
from selfalign.evaluation import METRICS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_every_metric_is_in_a_table_and_every_one_in_a_table_exists() -> None:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`([a-z0-9_]+)`", cell)]
    assert sorted(named) == sorted(METRICS)


def test_the_settings_shown_are_settings() -> None:
    shown = yaml.safe_load(re.search(r"```yaml\nevaluate:\n(.*?)```", PAGE, re.S).group(1))  # type: ignore[union-attr]
    settings = EvaluateSettings.model_validate(shown)
    assert settings.win_rate is not None and settings.win_rate.against == ("previous", "m0")
    assert settings.drift is not None and settings.capability

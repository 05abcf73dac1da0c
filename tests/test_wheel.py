"""An installed wheel has every file that a checkout reads: templates, SQL, prompts, data, recipes."""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent


def test_the_wheel_has_every_file_of_its_folders() -> None:
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {
        f"{shipped}{path.relative_to(ROOT)}"
        for folder, shipped in (("selfalign", ""), ("flows", ""), ("prompts", "selfalign/shipped/"), ("data", "selfalign/shipped/"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    assert wanted <= packed, sorted(wanted - packed)
    for part in ("report/templates/report.css", "browse/static/app.js", "export/card.md.j2", "store/schema.sql"):
        assert f"selfalign/{part}" in packed

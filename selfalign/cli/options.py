"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(help="The run's YAML config.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(help="A run: its folder, or its name under runs/.", show_default=False)]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a config key, e.g. --set train.beta=0.2 (repeatable).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
OnChangeOption = Annotated[
    str,
    typer.Option(
        "--on-change",
        help="Stages that today's settings would make differently: ask, branch (set their rows aside, make them again), "
        "keep (leave finished rounds as they are) or refuse.",
    ),
]

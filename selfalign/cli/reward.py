"""``reward``: a reward model from a run's pairs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.errors import ConfigError
from selfalign.workspace import Workspace


def reward(
    run: RunArgument,
    output: Annotated[Path, typer.Option(help="Folder of the reward model.", show_default=False)],
    rounds: Annotated[list[int] | None, typer.Option("--round", help="Only this round's pairs (repeatable).")] = None,
    from_round: Annotated[int, typer.Option(help="Start from M_N's weights.", min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, e.g. --set learning_rate=2e-5 (repeatable).")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Train a reward model on a run's pairs; judge reward_model scores with it.

    Example: [cyan]selfalign reward runs/quickstart --output reward-model[/cyan]
    """
    from selfalign.evaluation.statistics import wilson
    from selfalign.progress import Silent
    from selfalign.stages.context import RunContext
    from selfalign.stages.reward import reward_from_run
    from selfalign.store.store import Store

    workspace = Workspace.existing(run)
    context = RunContext(workspace.load_config(), workspace, Store(workspace.store_path), Silent())
    result = reward_from_run(context, output, _settings(set_ or []), rounds=rounds, from_round=from_round)
    interval = wilson(round((result.accuracy or 0.0) * result.n_held_out), result.n_held_out)
    low, high = interval.low, interval.high
    if json_:
        figures = {key: value for key, value in asdict(result).items() if key != "history"}
        print(json.dumps({"output": str(output), **figures, "accuracy_low": low, "accuracy_high": high}))
        return
    print(
        f"{output}: a reward model ({result.weights_hash[:12]}) from {result.n_examples} pairs, right on {result.train_accuracy:.0%} of them"
    )
    if result.accuracy is None:
        print("too few pairs to set some aside: how it does on other prompts is not known; see selfalign calibrate")
    else:
        print(
            f"on {result.n_held_out} pairs of prompts it never saw: {result.accuracy:.2f} (95 % {low:.2f} to {high:.2f})"
        )
    print(f"to judge with it: judge: {{id: reward_model, path: {output}}}")


def _settings(assignments: list[str]) -> Any:
    import yaml
    from pydantic import ValidationError

    from selfalign.training.reward import RewardSettings

    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write it as key=value")
        values[key.strip()] = yaml.safe_load(value)
    try:
        return RewardSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        known = ", ".join(RewardSettings.model_fields)
        raise ConfigError(f"--set {'.'.join(map(str, problem['loc']))}: {problem['msg']}; known: {known}") from None

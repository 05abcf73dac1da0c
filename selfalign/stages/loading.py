"""Load a model in a stage process, and prove that it is the one the run means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfalign.errors import WeightsMismatch
from selfalign.identity import content_id
from selfalign.protocols import Engine
from selfalign.registry import find
from selfalign.stages.meter import Meter
from selfalign.types import Event


class Notes:
    """What an engine reports while a batch is made; becomes event rows of that batch."""

    def __init__(self, round: int, stage: str) -> None:
        self._round, self._stage = round, stage
        self._pending: list[tuple[str, str]] = []

    def add(self, kind: str, message: str) -> None:
        self._pending.append((kind, message))

    def take(self, batch: int) -> list[Event]:
        """The events since the last call; their ids are by batch, so that a repeated batch repeats none."""
        events = [
            Event(
                content_id("event", self._round, self._stage, batch, position, kind, message),
                self._round, self._stage, kind, None, message, "{}",
            )
            for position, (kind, message) in enumerate(self._pending)
        ]  # fmt: skip
        self._pending.clear()
        return events


def load_engine(spec: dict[str, Any], on_event: Callable[[str, str], None], meter: Meter | None = None) -> Engine:
    """The engine that ``spec`` (see generate.engine_spec) describes; ``meter`` begins, and is told of its tokens.

    Raises:
        WeightsMismatch: the folder's weights are not those the spec names (guarantee 2).
    """
    plugin = find("engine", spec["engine"]["id"]).load()
    engine: Engine = plugin(
        plugin.Config.model_validate(spec["engine"]),
        Path(spec["model"]),
        dtype=spec["dtype"],
        device=spec["device"],
        trust_remote_code=spec["trust_remote_code"],
        on_event=on_event,
    )
    # Of a server this is only a name: nobody can look at its weights (engines/openai_engine.py).
    if engine.weights_hash != spec["weights_hash"]:
        raise WeightsMismatch(
            f"{spec['model']}: holds weights {engine.weights_hash[:12]}, this stage is for {spec['weights_hash'][:12]}; "
            f"put the original files back and run again"
        )
    if meter is not None:
        meter.begin()
        if hasattr(engine, "on_tokens"):
            engine.on_tokens = meter.sampled
    return engine


def load_tokenizer(spec: dict[str, Any]) -> Any:
    """The tokenizer of the same model, for what is not sampled but written down as the policy would have."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        spec["model"], local_files_only=True, trust_remote_code=spec["trust_remote_code"]
    )

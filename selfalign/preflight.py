"""Everything that can be found wrong before the first token is generated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign import known_checks
from selfalign.by_round import ByRound, at
from selfalign.config import RunConfig
from selfalign.constraints import checker_version, validate
from selfalign.engines.chat import encode_chat
from selfalign.errors import BadInput, ConfigError, PromptFileError
from selfalign.fit import reads
from selfalign.identity import content_id, hash_tokenizer
from selfalign.models.resolve import ModelInfo, describe_model, resolve_model
from selfalign.protocols import Judge
from selfalign.registry import find
from selfalign.stages import calibrate, meta_judge, preferences
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import contrasted, load_contrast, messages_for
from selfalign.stages.demonstrations import answer_ids, with_answer
from selfalign.stages.engine import check_engine
from selfalign.stages.engine import window as engine_window
from selfalign.stages.judge import check_judge
from selfalign.stages.lessons import teach_items, teachable
from selfalign.stages.prompts import load_held_out, load_training, refuse_overlap
from selfalign.templates import Template
from selfalign.training import average
from selfalign.training.settings import Average, TrainingSettings
from selfalign.training.sizes import check_adapter, shapes
from selfalign.types import Origin, Prompt


@dataclass(frozen=True)
class Preflight:
    """What a run will work on, for people and for the plan."""

    model_path: Path
    model: ModelInfo
    training: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    mean_prompt_tokens: float
    #: Of the prompts' text, by the model's tokenizer, and what its chat template adds to a prompt.
    characters_a_token: float = 4.0
    extra_tokens: int = 0


def check(context: RunContext) -> Preflight:
    """Resolve the model, read every prompt and rubric, and refuse what cannot work.

    Raises:
        BadInput: one line; nothing has been written.
    """
    config = context.config
    builders, trained_by = _of_rounds(config, config.pair), trainers(config)
    for trainer in trained_by:
        trainer.check_installed()
    training, held_out = load_training(context), load_held_out(context)
    verified = (
        config.judge is not None and config.judge.id == "verifier" and any("scores" in reads(b) for b in builders)
    )
    if verified and not any(p.instruction_id_list for p in training):
        raise PromptFileError("judge 'verifier' needs prompts with constraints, and no training prompt carries any")
    if config.generate.demonstrations and not with_answer(training):
        raise PromptFileError(
            'generate.demonstrations needs prompts with an "answer", and no training prompt has one; add a prompt file '
            "that has, such as data/demonstrations.jsonl"
        )
    if config.preferences:
        preferences.load(context)
    if config.resample:
        find("resample", config.resample.id).load()(config.resample)
    for builder in builders:
        find("pair", builder.id).load()(builder)
    if config.judge is not None:
        judge = check_judge(context, config.judge)
        for builder in builders:
            _refuse_unreachable(builder, judge)
    for measuring in (config.evaluate.win_rate, config.evaluate.drift):
        if measuring is not None:
            check_judge(context, measuring.judge)
    contrast = config.generate.contrast and load_contrast(context.templates(), config.generate.contrast.model_dump())
    if config.teach.rounds:
        teachable(context, 1)
        teach_items(context)
    if config.meta.enabled:
        meta_judge.check(context)
    if calibrate.enabled(config):
        calibrate.run_items(context)
    path = resolve_model(config.model)
    model = describe_model(path)
    check_engine(config)
    window = engine_window(config, model.context_length)
    for trainer in trained_by:
        check_adapter(trainer, shapes(path))
        if isinstance(getattr(trainer, "reference", None), Average):
            average.check_formats(path)
    answer_tokens = max(config.generate.max_tokens, config.evaluate.max_tokens or 0)
    # Checking, comparing and tokenising every prompt takes seconds: not again for a start that changes nothing of it.
    question = content_id(
        "preflight with sizes", [p.prompt_id for p in training], [p.prompt_id for p in held_out], config.prompts.held_out_overlap,
        checker_version(), hash_tokenizer(path), window, answer_tokens, config.generate.system_prompt,
        [template.hash for template in contrast.values()] if contrast else None,
        [p.answer for p in training] if config.generate.demonstrations else None,
    )  # fmt: skip
    known = known_checks.recall(context.workspace, question)
    if known is None:
        _refuse_unusable([*training, *held_out])
        refuse_overlap(training, held_out, config.prompts.held_out_overlap)
        known = _sizes(config, path, [*training, *held_out], window, answer_tokens)
        _refuse_long(config, path, training, window, contrast or {})
        known_checks.remember(context.workspace, question, known)
    return Preflight(
        path, model, tuple(training), tuple(held_out), float(known["mean_prompt_tokens"]),
        float(known["characters_a_token"]), int(known["extra_tokens"]),
    )  # fmt: skip


def _of_rounds(config: RunConfig, settings: Any) -> list[Any]:
    """``settings`` of every round in which they differ."""
    return [at(settings, round) for round in (config.different_rounds() if isinstance(settings, ByRound) else [1])]


def trainers(config: RunConfig) -> list[TrainingSettings]:
    """Settings of every trainer that rounds use, but for those from elsewhere."""
    chosen = [config.train, *([config.teach.train] if config.teach.rounds else [])]
    found = [trainer for settings in chosen for trainer in _of_rounds(config, settings)]
    return [trainer for trainer in found if isinstance(trainer, TrainingSettings)]


def _refuse_unreachable(settings: Any, judge: Judge) -> None:
    """Absolute scores that the builder of ``settings`` is set to must be ones that the judge can give."""
    builder = find("pair", settings.id).load()
    low, high = judge.score_range
    for name, value in (builder.thresholds(settings) if hasattr(builder, "thresholds") else {}).items():
        if value is not None and not low <= value <= high:
            raise ConfigError(
                f"pair.{name} {value:g} is outside the scores of judge '{judge.name}', {low:g} to {high:g}; set it to one "
                f"of these"
            )


def _refuse_unusable(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        try:
            validate(prompt.instruction_id_list, json.loads(prompt.kwargs))
        except BadInput as error:
            raise PromptFileError(f"{prompt.origin}: {error}") from None


def _sizes(
    config: RunConfig, path: Path, prompts: Sequence[Prompt], window: int, answer_tokens: int
) -> dict[str, float]:
    """The last fields of :class:`Preflight`."""
    tokenizer = _tokenizer(config, path)
    shown = [messages_for(prompt.text, config.generate.system_prompt) for prompt in prompts]
    lengths = [
        _fitting(prompt, encode_chat(tokenizer, messages), answer_tokens, window, "lower generate.max_tokens")
        for prompt, messages in zip(prompts, shown, strict=True)
    ]
    plain = sum(map(len, tokenizer([p.text for p in prompts], add_special_tokens=False)["input_ids"]))
    return {
        "mean_prompt_tokens": sum(lengths) / len(lengths),
        "characters_a_token": sum(len(p.text) for p in prompts) / max(plain, 1),
        "extra_tokens": max(0, round((sum(lengths) - plain) / len(lengths))),
    }


def _refuse_long(
    config: RunConfig, path: Path, prompts: Sequence[Prompt], window: int, contrast: Mapping[Origin, Template]
) -> None:
    """Training prompts as contrast files show them, and with their own answers, must fit into the window as well."""
    tokenizer, settings = _tokenizer(config, path), config.generate
    for template in contrast.values():
        for prompt in prompts:
            shown = encode_chat(tokenizer, contrasted(prompt.text, template, settings.system_prompt))
            _fitting(prompt, shown, settings.max_tokens, window, f"shorten {template.path}")
    for prompt in with_answer(prompts) if settings.demonstrations else []:
        shown = encode_chat(tokenizer, messages_for(prompt.text, settings.system_prompt))
        answer = answer_ids(tokenizer, prompt.answer or "")
        _fitting(prompt, shown, len(answer) + 1, window, "shorten its own answer")


def _tokenizer(config: RunConfig, path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)


def _fitting(prompt: Prompt, shown: Sequence[int], answer_tokens: int, window: int, remedy: str) -> int:
    if len(shown) + answer_tokens > window:
        raise BadInput(
            f"prompt {prompt.text[:50]!r} ({prompt.origin}) has {len(shown)} tokens; with {answer_tokens} for the answer "
            f"it exceeds the model's window of {window}; shorten it or {remedy}"
        )
    return len(shown)

"""Everything that can be found wrong before the first token is generated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.constraints import checker_version, validate
from selfalign.errors import BadInput, PromptFileError
from selfalign.identity import content_id, hash_tokenizer
from selfalign.models.resolve import ModelInfo, describe_model, resolve_model
from selfalign.registry import find
from selfalign.stages import calibrate, meta_judge
from selfalign.stages.context import RunContext
from selfalign.stages.generate import messages_for
from selfalign.stages.judge import build_judge
from selfalign.stages.lessons import teach_items, teachable
from selfalign.stages.prompts import load_held_out, load_training, refuse_overlap
from selfalign.types import Prompt


@dataclass(frozen=True)
class Preflight:
    """What a run will work on, for people and for the plan."""

    model_path: Path
    model: ModelInfo
    training: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    mean_prompt_tokens: float


def check(context: RunContext) -> Preflight:
    """Resolve the model, read every prompt and rubric, and refuse what cannot work.

    Raises:
        BadInput: one line; nothing has been written.
    """
    config = context.config
    training, held_out = load_training(context), load_held_out(context)
    if config.train.id == "dpo" and config.judge.id == "verifier" and not any(p.instruction_id_list for p in training):
        raise PromptFileError("judge 'verifier' needs prompts with constraints, and no training prompt carries any")
    find("pair", config.pair.id).load()(config.pair)
    build_judge(context, 1)
    if config.teach.rounds:
        teachable(context, 1)
        teach_items(context)
    if config.meta.enabled:
        meta_judge.check(context)
    if calibrate.enabled(config):
        calibrate.run_items(context)
    path = resolve_model(config.model)
    model = describe_model(path)
    answer_tokens = max(config.generate.max_tokens, config.evaluate.max_tokens or 0)
    # Checking, comparing and tokenising every prompt takes seconds: not again for a start that changes nothing of it.
    question = content_id(
        "preflight", [p.prompt_id for p in training], [p.prompt_id for p in held_out], config.prompts.held_out_overlap,
        checker_version(), hash_tokenizer(path), model.context_length, answer_tokens, config.generate.system_prompt,
    )  # fmt: skip
    known = context.workspace.recall("preflight")
    if known.get("question") != question:
        _refuse_unusable([*training, *held_out])
        refuse_overlap(training, held_out, config.prompts.held_out_overlap)
        lengths = _lengths(config, path, [*training, *held_out], model.context_length, answer_tokens)
        known = {"question": question, "mean_prompt_tokens": sum(lengths) / len(lengths)}
        context.workspace.remember("preflight", known)
    return Preflight(path, model, tuple(training), tuple(held_out), float(known["mean_prompt_tokens"]))


def _refuse_unusable(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        try:
            validate(prompt.instruction_id_list, json.loads(prompt.kwargs))
        except BadInput as error:
            raise PromptFileError(f"{prompt.origin}: {error}") from None


def _lengths(config: RunConfig, path: Path, prompts: Sequence[Prompt], window: int, answer_tokens: int) -> list[int]:
    from transformers import AutoTokenizer

    from selfalign.engines.chat import encode_chat

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    lengths = [len(encode_chat(tokenizer, messages_for(p.text, config.generate.system_prompt))) for p in prompts]
    for prompt, length in zip(prompts, lengths, strict=True):
        if length + answer_tokens > window:
            raise BadInput(
                f"prompt {prompt.text[:50]!r} ({prompt.origin}) has {length} tokens; with {answer_tokens} for the answer "
                f"it exceeds the model's window of {window}; shorten it or lower generate.max_tokens"
            )
    return lengths

"""What a policy is shown for a prompt: the instruction as it is, or as both files of ``generate.contrast`` have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign.errors import PromptFileError
from selfalign.templates import Template, Templates
from selfalign.types import Message, Origin, Prompt


@dataclass(frozen=True)
class Ask:
    """One conversation and which of the prompt's samples answer it; ``shown`` is the contrast file's hash."""

    prompt: Prompt
    messages: tuple[Message, ...]
    samples: tuple[int, ...]
    origin: Origin | None = None
    shown: str | None = None


def messages_for(text: str, system_prompt: str | None) -> tuple[Message, ...]:
    """The conversation a policy is shown for an instruction; training uses the same."""
    user: Message = {"role": "user", "content": text}
    return ({"role": "system", "content": system_prompt}, user) if system_prompt else (user,)


def load_contrast(templates: Templates, settings: Mapping[str, Any]) -> dict[Origin, Template]:
    """The two files, filled in once for trial.

    Raises:
        PromptFileError: one cannot be loaded, is of another kind, or does not show the instruction; both are the same.
    """
    sides: tuple[Origin, Origin] = ("positive", "negative")
    found = {side: templates.load(settings[side]) for side in sides}
    for template in found.values():
        if template.kind != "contrast" or template.variables != ("instruction",):
            raise PromptFileError(
                f"{template.path}: generate.contrast takes files of kind 'contrast' with the one variable instruction, "
                f"this is of kind '{template.kind}' with {', '.join(template.variables) or 'none'}"
            )
        template.messages(instruction="a")
    if found["positive"].hash == found["negative"].hash:
        raise PromptFileError(f"{found['positive'].path}: is both sides of generate.contrast; name two different files")
    return found


def contrasted(text: str, template: Template, system_prompt: str | None) -> tuple[Message, ...]:
    """The conversation for an instruction as ``template`` has it; its own system message replaces ``system_prompt``."""
    messages = template.messages(instruction=text)
    if system_prompt and messages[0]["role"] != "system":
        return ({"role": "system", "content": system_prompt}, *messages)
    return messages


def asks(
    prompts: Sequence[Prompt], samples: int, system_prompt: str | None, contrast: Mapping[Origin, Template] | None
) -> list[Ask]:
    """What is asked for every prompt, in order: once for all ``samples``, or of both sides in turn.

    Samples 0, 2, ... are of the positive side and 1, 3, ... of the negative one.
    """
    if contrast is None:
        return [Ask(p, messages_for(p.text, system_prompt), tuple(range(samples))) for p in prompts]
    return [
        Ask(
            prompt,
            contrasted(prompt.text, template, system_prompt),
            tuple(range(first, samples, 2)),
            side,
            template.hash,
        )
        for prompt in prompts
        for first, (side, template) in enumerate(contrast.items())
    ]

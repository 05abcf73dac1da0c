"""Prompts that hold personal data or secrets, and what ``prompts.scan`` does with them. No event or file quotes a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from selfalign.errors import PromptFileError
from selfalign.identity import canonical, content_id
from selfalign.scanning.find import findings_in, rules_version
from selfalign.scanning.findings import Finding, Flagged
from selfalign.scanning.report import counted, place
from selfalign.stages.context import RunContext
from selfalign.types import Event, Prompt, Split

#: Places that an error names.
_NAMED = 3
_SPOKEN: dict[Split, str] = {"train": "training", "held_out": "held-out"}


def without_flagged(context: RunContext, prompts: Sequence[Prompt], split: Split) -> Sequence[Prompt]:
    """``prompts`` as they are, or with ``drop`` without those that hold something; ``context.flagged`` has these.

    Raises:
        PromptFileError: with ``refuse``, that there are some; with ``drop``, that all of them are.
    """
    action = context.config.prompts.scan
    if action == "off":
        return prompts
    found = _scan(context, prompts, split)
    flagged = context.flagged[split] = [Flagged(prompts[index], held) for index, held in found.items()]
    if flagged and action == "refuse":
        raise PromptFileError(
            f"prompts.scan: {_in_words(flagged, split)}, first: {'; '.join(_places(flagged))}; remove these prompts, or set "
            f"prompts.scan: drop (selfalign scan CONFIG lists all)"
        )
    if action == "drop":
        prompts = [prompt for index, prompt in enumerate(prompts) if index not in found]
        if not prompts:
            raise PromptFileError(
                f"no {split} prompt is left after prompts.scan: {_in_words(flagged, split)}; set it to warn, or give others"
            )
    return prompts


def in_words(context: RunContext) -> list[str]:
    """A line for each split with such prompts: how many, what they hold, what became of them."""
    done = "left out" if context.config.prompts.scan == "drop" else "kept"
    return [f"{_in_words(flagged, split)}: {done}" for split, flagged in context.flagged.items() if flagged]


def flagged_events(context: RunContext, round: int) -> list[Event]:
    """An event for every such prompt that ``round`` could have drawn."""
    action = context.config.prompts.scan
    return [
        Event(
            content_id("flagged_prompt", action, flagged.prompt.origin, flagged.prompt.prompt_id), round, "prompts",
            "flagged_prompt", flagged.prompt.prompt_id,
            f"{flagged.prompt.origin} {'left out' if action == 'drop' else 'kept'}: holds {counted(flagged.findings)}",
            canonical({"scan": action, "found": [asdict(finding) for finding in flagged.findings]}),
        )
        for flagged in context.flagged.get("train" if round else "held_out", [])
    ]  # fmt: skip


def _scan(context: RunContext, prompts: Sequence[Prompt], split: Split) -> dict[int, tuple[Finding, ...]]:
    """Index of each prompt that holds something -> what; remembered, so that only changed files are looked at again."""
    question = content_id("scan", rules_version(), [[p.prompt_id, p.origin, p.answer] for p in prompts])
    known = context.workspace.recall("scan")
    if known.get(split, {}).get("question") != question:
        found = [[index, [asdict(finding) for finding in held]] for index, held in _held(prompts)]
        known = {**known, split: {"question": question, "found": found}}
        context.workspace.remember("scan", known)
    return {index: tuple(Finding(**finding) for finding in held) for index, held in known[split]["found"]}


def _held(prompts: Sequence[Prompt]) -> list[tuple[int, list[Finding]]]:
    return [(index, held) for index, prompt in enumerate(prompts) if (held := findings_in(prompt))]


def _in_words(flagged: Sequence[Flagged], split: Split) -> str:
    held = counted(finding for each in flagged for finding in each.findings)
    return f"{len(flagged)} {_SPOKEN[split]} prompts hold {held}"


def _places(flagged: Sequence[Flagged]) -> list[str]:
    return [f"{place(each.findings[0])} ({each.findings[0].kind})" for each in flagged[:_NAMED]]

"""Stage ``preferences``: pairs that somebody else made become rows of round 0, for later rounds to train on (policy.data).

Nobody knows which weights wrote their answers, so that ``weights_hash`` is "imported:" and the file's name, ``origin`` is
"imported", and ``logprob`` is NaN. Round 0 trains nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfalign.engines.chat import encode_chat
from selfalign.errors import PromptFileError
from selfalign.identity import canonical, content_id, derive_seed, hash_file
from selfalign.models.resolve import describe_model
from selfalign.sources.draw import overlap_with_held_out
from selfalign.sources.language import guess_language
from selfalign.sources.preferences import IMPORTED, NAME, Preference, Unusable, find_path, read_rows, usable
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import messages_for
from selfalign.stages.demonstrations import answer_ids
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.prompts import load_held_out
from selfalign.types import Candidate, Event, Pair, Prompt

#: Scores of a pair that came without any: chosen is better, nobody said by how much.
_BETTER, _WORSE = 1.0, 0.0


def fingerprint(context: RunContext, round: int) -> str:
    files = [
        [path.name, [hash_file(file) for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else hash_file(path)]
        for path in _paths(context)
    ]  # fmt: skip
    held_out = [prompt.prompt_id for prompt in load_held_out(context)]
    config = context.config
    return content_id(
        "preferences", config.seed, files, held_out, config.prompts.held_out_overlap, config.generate.system_prompt,
        context.initial.tokenizer_hash,
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    found, refused = load(context)
    rows, too_long = _rows(context, found)
    refused = refused + Counter({"too_long": too_long}) if too_long else refused
    pairs = sum(isinstance(row, Pair) for row in rows)
    if not pairs:
        raise _nothing(context, refused)
    events = [
        Event(
            content_id("not_imported", reason),
            round,
            "preferences",
            "not_imported",
            None,
            reason,
            canonical({"rows": n}),
        )
        for reason, n in sorted(refused.items())
    ]
    context.store.insert([*rows, *events])
    why = ", ".join(f"{n} {reason}" for reason, n in refused.most_common()) or "none refused"
    seen = len(found) + refused.total() - too_long
    return StageOutcome(seen, pairs, f"{pairs} pairs of {seen} ({why})", {"refused": dict(refused)})


def load(context: RunContext) -> tuple[list[tuple[str, Preference]], Counter[str]]:
    """(file's name, row) of every usable row of all files, and how many were refused by reason.

    Raises:
        PromptFileError: a file cannot be read, or nothing of it is left.
    """
    found: list[tuple[str, Preference]] = []
    refused: Counter[str] = Counter()
    known: set[tuple[str, ...]] = set()
    for path in _paths(context):
        for place, row in read_rows(path):
            try:
                pair = usable(place, row, context.config.generate.system_prompt)
            except Unusable as reason:
                refused[str(reason)] += 1
                continue
            key = (pair.prompt, *sorted((pair.chosen, pair.rejected)))
            if key in known:  # the other way round as well: which of the two is right nobody can tell
                refused["repeated"] += 1
                continue
            known.add(key)
            found.append((path.name, pair))
    held_out = load_held_out(context)
    prompts = {pair.prompt: _prompt(pair, name) for name, pair in found}
    hits = overlap_with_held_out(list(prompts.values()), held_out, context.config.prompts.held_out_overlap)
    own = {prompt.text for prompt in held_out} | {prompt.text for prompt, _, _ in hits}
    kept = [entry for entry in found if entry[1].prompt not in own]
    if len(kept) < len(found):
        refused["held_out"] += len(found) - len(kept)
    if not kept:
        raise _nothing(context, refused)
    return kept, refused


def _nothing(context: RunContext, refused: Counter[str]) -> PromptFileError:
    why = ", ".join(f"{n} {reason}" for reason, n in refused.most_common()) or "the files are empty"
    return PromptFileError(
        f"preferences: no usable pair in {', '.join(map(str, _paths(context)))} ({why}); docs/import.md"
    )


def _paths(context: RunContext) -> Iterator[Path]:
    return (find_path(path, Path.cwd()) for path in context.config.preferences or ())


def _prompt(pair: Preference, name: str) -> Prompt:
    return Prompt(
        content_id("prompt", pair.prompt, [], "[]"), 0, "train", pair.prompt, guess_language(pair.prompt), "",
        f"{name}:{pair.place}", None, None, (), "[]",
    )  # fmt: skip


def _rows(context: RunContext, found: list[tuple[str, Preference]]) -> tuple[list[Any], int]:
    """The rows, and how many pairs exceed the model's window."""
    from transformers import AutoTokenizer

    path = context.model(0).path
    tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=context.config.trust_remote_code)
    window = describe_model(path).context_length
    prompts: dict[str, Prompt] = {}
    candidates: dict[str, Candidate] = {}
    numbers: Counter[str] = Counter()
    pairs: list[Pair] = []
    too_long = 0
    for name, pair in found:
        prompt = _prompt(pair, name)
        shown = len(encode_chat(tokenizer, messages_for(prompt.text, context.config.generate.system_prompt)))
        tokens = {text: answer_ids(tokenizer, text) for text in (pair.chosen, pair.rejected)}
        if shown + max(map(len, tokens.values())) + 1 > window:
            too_long += 1
            continue
        prompts.setdefault(prompt.prompt_id, prompt)
        for text, ids in tokens.items():
            identity = content_id("imported", prompt.prompt_id, text)
            if identity not in candidates:
                number = numbers[prompt.prompt_id]
                numbers[prompt.prompt_id] += 1
                seed = derive_seed(context.config.seed, 0, prompt.prompt_id, number)
                candidates[identity] = Candidate(
                    identity, prompt.prompt_id, 0, "train", number, f"{IMPORTED}{name}", NAME, 0.0, 1.0, 0, 0, seed, text,
                    ids, len(ids), shown, "stop", tokenizer.eos_token_id, float("nan"), "imported",
                )  # fmt: skip
        chosen_id, rejected_id = (
            content_id("imported", prompt.prompt_id, text) for text in (pair.chosen, pair.rejected)
        )
        chosen = _BETTER if pair.chosen_score is None else pair.chosen_score
        rejected = _WORSE if pair.rejected_score is None else pair.rejected_score
        pairs.append(
            Pair(
                content_id("pair", chosen_id, rejected_id, "imported"), prompt.prompt_id, 0, chosen_id, rejected_id, chosen,
                rejected, chosen - rejected, "imported", "imported", 0, 1.0, candidates[chosen_id].n_tokens,
                candidates[rejected_id].n_tokens,
            )
        )  # fmt: skip
    return [*prompts.values(), *candidates.values(), *pairs], too_long

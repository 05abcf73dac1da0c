"""A reward model from the pairs of a run; beside the rounds, not one of their stages: it writes no row."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from selfalign.errors import BadInput, EmptyStage
from selfalign.identity import derive_seed
from selfalign.stages import reviewed
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import messages_for
from selfalign.training.checkpoints import publish
from selfalign.training.reward import RECORD, RewardResult, RewardSettings, train_reward
from selfalign.types import Candidate, Pair, PairExample, Prompt


def reward_from_run(
    context: RunContext,
    output: Path,
    settings: RewardSettings,
    *,
    rounds: Sequence[int] | None = None,
    from_round: int = 0,
    report: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, metrics: None,
) -> RewardResult:
    """Train M_{from_round} with a scalar head on the pairs of ``rounds`` (all by default); ``output`` appears whole.

    Raises:
        BadInput: ``output`` holds something that is no reward model. EmptyStage: the run has no such pairs.
        WeightsMismatch: M_{from_round} is not what the store says.
    """
    if output.exists() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise BadInput(f"{output}: holds other things than a reward model; name another folder with --output")
    parent = context.model(from_round).path
    aside = output.with_name(f".{output.name}.partial")
    scratch = output.with_name(f".{output.name}.scratch")
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = train_reward(
            settings, parent, _examples(context, parent, rounds), aside, scratch,
            seed=derive_seed(context.config.seed, "reward"), report=report,
        )  # fmt: skip
        publish(aside, output)
    finally:
        for leftover in (aside, scratch):
            shutil.rmtree(leftover, ignore_errors=True)
    return result


def _examples(context: RunContext, parent: Path, rounds: Sequence[int] | None) -> list[PairExample]:
    """Token ids as they were sampled; a pair that several rounds made is one example."""
    from transformers import AutoTokenizer

    from selfalign.engines.chat import encode_chat

    made = [p for p in context.store.rows(Pair) if rounds is None or p.round in rounds]
    pairs: list[Pair] = reviewed.applied({"pairs": made}, reviewed.now(context)).get("pairs", [])
    if made and not pairs:
        raise EmptyStage(f"{context.workspace.path}: every pair of it was rejected in review")
    if not pairs:
        which = "no pairs" if rounds is None else f"no pairs in rounds {', '.join(map(str, rounds))}"
        raise EmptyStage(f"{context.workspace.path}: has {which}; make some with selfalign run")
    wanted = {p.chosen_id for p in pairs} | {p.rejected_id for p in pairs}
    candidates = {
        c.candidate_id: c for c in context.store.rows(Candidate, "split = 'train'") if c.candidate_id in wanted
    }
    prompts = {p.prompt_id: p for p in context.store.rows(Prompt, "split = 'train'")}
    tokenizer = AutoTokenizer.from_pretrained(parent, local_files_only=True, trust_remote_code=False)
    examples: dict[tuple[tuple[int, ...], ...], PairExample] = {}
    for pair in pairs:
        # Without the run's system prompt: a judge is shown the instruction alone.
        asked = encode_chat(tokenizer, messages_for(prompts[pair.prompt_id].text, None))
        sides = candidates[pair.chosen_id].sampled_ids, candidates[pair.rejected_id].sampled_ids
        if all(sides):
            examples.setdefault((asked, *sides), PairExample(pair.pair_id, asked, *sides, pair.margin, pair.weight))
    return list(examples.values())

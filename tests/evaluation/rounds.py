"""Held-out rounds as an evaluator gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from selfalign.identity import canonical
from selfalign.protocols import EvaluationInput
from selfalign.types import Candidate, FinishReason, JudgeItem, Judgement, Pair, Prompt


def make_item(
    prompt_id: str,
    text: str = "a b",
    sample: int = 0,
    *,
    round: int = 0,
    language: str = "en",
    n_tokens: int = 2,
    finish: FinishReason = "stop",
) -> JudgeItem:
    prompt = Prompt(prompt_id, 0, "held_out", "Do it.", language, "", "test", None, None, (), "[]")
    candidate = Candidate(
        f"{prompt_id}-r{round}-s{sample}", prompt_id, round, "held_out", sample, f"weights{round}", "test", 0.0, 1.0,
        0, 64, sample, text, (), n_tokens, 5, finish, 2 if finish == "stop" else None, -1.0,
    )  # fmt: skip
    return JudgeItem(prompt, candidate)


def make_training(prompt_id: str, round: int, text: str, sample: int = 0) -> Candidate:
    return Candidate(
        f"{prompt_id}-t{round}-s{sample}", prompt_id, round, "train", sample, "weights", "test", 1.0, 1.0, 0, 64, sample,
        text, (), len(text.split()), 5, "stop", 2, -1.0,
    )  # fmt: skip


def make_pair(chosen: Candidate, rejected: Candidate) -> Pair:
    return Pair(
        f"{chosen.candidate_id}>{rejected.candidate_id}", chosen.prompt_id, chosen.round, chosen.candidate_id,
        rejected.candidate_id, 1.0, 0.0, 1.0, "judge", "builder", 1, 1.0,
    )  # fmt: skip


def verdict(item: JudgeItem, ids: Sequence[str], strict: Sequence[bool], loose: Sequence[bool]) -> Judgement:
    candidate = item.candidate
    detail = canonical({"ids": list(ids), "strict": list(strict), "loose": list(loose)})
    return Judgement(
        f"j-{candidate.candidate_id}", candidate.candidate_id, candidate.round, "verifier", "hash", None, 0,
        sum(strict) / len(strict), "ok", "", None, detail,
    )  # fmt: skip


def make_input(
    round: int,
    items: Mapping[int, Sequence[JudgeItem]] | None = None,
    judgements: Mapping[int, Sequence[Judgement]] | None = None,
    training: Mapping[str, float] | None = None,
) -> EvaluationInput:
    prompts = {item.prompt.prompt_id: item.prompt for answers in (items or {}).values() for item in answers}
    return EvaluationInput("run", round, list(prompts.values()), items or {}, judgements or {}, training or {}, seed=7)


def checked(round: int, passes: Mapping[int, Mapping[str, Sequence[int]]]) -> EvaluationInput:
    """``passes``: round -> prompt id -> one 0/1 for every sample, of the one instruction "x"."""
    items = {
        t: [make_item(p, sample=i, round=t) for p, samples in prompts.items() for i in range(len(samples))]
        for t, prompts in passes.items()
    }
    judgements = {
        t: [
            verdict(item, ["x"], [flag := bool(passes[t][item.prompt.prompt_id][item.candidate.sample_idx])], [flag])
            for item in answers
        ]
        for t, answers in items.items()
    }
    return make_input(round, items, judgements)

"""Held-out answers before a judge, to measure models: shared by win rates and judge drift.

Answers that are to be judged side by side form a :class:`Question`. The judge gets a prompt and
candidates of its own for each (as for gold items), so that an answer may stand in several questions and
any judge, pointwise or pairwise, works as it does in training. Its rows are stored under the real
candidate's id, with the stage and the question in ``detail``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfalign.config import Settings
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.judges.scores import Votes, aggregate
from selfalign.protocols import Judge
from selfalign.stages.context import Model, RunContext
from selfalign.stages.jobs import JobFolder
from selfalign.stages.judge import judge_batches, judge_spec, needs_model, without_model
from selfalign.stages.supervise import supervise
from selfalign.types import Candidate, JudgeItem, Judgement, Prompt

#: Votes are sampled as in this round, whatever the present one: a fixed judge then says the same every time.
_VOTE_ROUND = 0

#: A judgement and what the judge knew its candidate by.
Filed = tuple[str, Judgement]


@dataclass(frozen=True)
class Question:
    """A prompt and the answers to it that are judged together."""

    prompt: Prompt
    answers: tuple[Candidate, ...]

    @property
    def key(self) -> str:
        return content_id("question", self.prompt.prompt_id, [answer.candidate_id for answer in self.answers])

    def item_key(self, answer: Candidate) -> str:
        """What the judge knows ``answer`` by in this question."""
        return content_id("asked", self.key, answer.candidate_id)


def build_judge(context: RunContext, settings: Settings) -> Judge:
    """The judge without a model: enough for its name and hash."""
    return without_model(context, _VOTE_ROUND, settings)


def draw(prompts: Sequence[Prompt], cap: int | None, seed: int, purpose: str) -> list[Prompt]:
    """The same ``cap`` prompts (all without) in every round, in order of prompt_id."""
    chosen = sorted(prompts, key=lambda p: (derive_seed(seed, purpose, p.prompt_id), p.prompt_id))[:cap]
    return sorted(chosen, key=lambda p: p.prompt_id)


def job(
    context: RunContext, round: int, stage: str, settings: Settings, model: Model | None, questions: Sequence[Question],
    done: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:  # fmt: skip
    """Spec and input rows for :func:`work`; ``model`` is None for a judge that needs none.

    ``done`` are item keys that need no judgement any more.
    """
    prompts, candidates, real = [], [], {}
    for question in questions:
        prompts.append(replace(question.prompt, prompt_id=question.key))
        for number, answer in enumerate(question.answers):
            key = question.item_key(answer)
            candidates.append(replace(answer, candidate_id=key, prompt_id=question.key, sample_idx=number))
            real[key] = answer.candidate_id
    spec = {
        "kind": "held_out_judge",
        "stage": stage,
        "real": real,
        **judge_spec(context, round, settings, model, done, _VOTE_ROUND),
    }
    return spec, {"prompts": prompts, "candidates": candidates}


def ask(
    context: RunContext, folder: JobFolder, round: int, stage: str, settings: Settings, by: int,
    questions: Sequence[Question],
) -> dict[str, Votes]:  # fmt: skip
    """Have M_``by`` judge what it has not judged yet in this stage; item key -> its votes, from the store.

    What an earlier attempt left in ``folder`` must have been collected.
    """
    model = context.model(by) if needs_model(settings) else None
    judge, weights = build_judge(context, settings), model.weights_hash if model else None
    done = {key for key, _ in _filed(context, round, stage, judge, weights)}
    wanted = {question.item_key(answer) for question in questions for answer in question.answers}
    if wanted - done:
        spec, inputs = job(context, round, stage, settings, model, questions, sorted(done))
        supervise(folder, spec, inputs, context=context, label=f"round {round} {stage}")
    return votes(judge, _filed(context, round, stage, judge, weights))


def votes(judge: Judge, filed: Sequence[Filed]) -> dict[str, Votes]:
    """Item key -> the judge's own votes together."""
    own = [replace(row, candidate_id=key) for key, row in filed if row.judge_hash == judge.judge_hash]
    return aggregate(own, judge.name, judge.min_valid_votes)


def item_key(judgement: Judgement) -> str | None:
    """What the judge knew the candidate by; None for judgements that other stages made."""
    key = json.loads(judgement.detail).get("item")
    return key if isinstance(key, str) else None


def _filed(context: RunContext, round: int, stage: str, judge: Judge, weights: str | None) -> list[Filed]:
    rows = context.store.rows(
        Judgement, "round = ? and judge_hash = ? and json_extract_string(detail, '$.stage') = ?",
        (round, judge.judge_hash, stage),
    )  # fmt: skip
    return [(key, row) for row in rows if weights in (None, row.weights_hash) and (key := item_key(row))]


def failures(found: Sequence[Votes | None]) -> Counter[str]:
    """Outcomes of the votes that were not valid; "not_judged" for answers that got none."""
    counts: Counter[str] = Counter()
    for answer in found:
        if answer is None:
            counts["not_judged"] += 1
        elif answer.score is None:
            counts.update({outcome: n for outcome, n in answer.outcomes.items() if outcome != "ok"})
    return counts


# -- in the stage process -----------------------------------------------------------------------


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    # By question; an answer's place in its question is its sample_idx.
    candidates = sorted(folder.rows("candidates", Candidate), key=lambda c: (c.prompt_id, c.sample_idx))

    def as_rows(found: list[Judgement]) -> list[Judgement]:
        return [file(row, spec["stage"], spec["round"], spec["real"]) for row in found]

    judge_batches(folder, spec["stage"], [JudgeItem(prompts[c.prompt_id], c) for c in candidates], as_rows, "answers")


def file(row: Judgement, stage: str, round: int, real: Mapping[str, str]) -> Judgement:
    """A judge's row as it is stored: about the real candidate, and of this stage and round."""
    told = {key: real.get(value, value) if isinstance(value, str) else value
            for key, value in json.loads(row.detail).items()}  # fmt: skip
    return replace(
        row,
        judgement_id=content_id("judgement", stage, round, row.judgement_id),
        candidate_id=real[row.candidate_id],
        round=round,
        detail=canonical({**told, "stage": stage, "item": row.candidate_id}),
    )

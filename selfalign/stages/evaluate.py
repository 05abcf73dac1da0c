"""Stage ``evaluate``: checks M_t's held-out answers and computes every configured figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from selfalign.identity import content_id, derive_seed
from selfalign.judges.verifier import VerifierJudge
from selfalign.protocols import EvaluationInput, Evaluator, JudgeContext
from selfalign.registry import find
from selfalign.stages.context import RunContext
from selfalign.stages.judge import judge_spec
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.supervise import collect, supervise
from selfalign.types import Candidate, Checkpoint, JudgeItem, Judgement, Pair, Prompt

R = TypeVar("R")


def fingerprint(context: RunContext, round: int) -> str:
    metrics = [metric.model_dump(mode="json") for metric in context.config.evaluate.metrics]
    trained = upstream(context, round, "train") if round else None
    return content_id(
        "evaluate", upstream(context, round, "answer"), trained, metrics, _verifier(context, round).judge_hash
    )


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    with context.store.read():
        prompts = {p.prompt_id: p for p in context.store.rows(Prompt, "round = 0 and split = 'held_out'")}
        answers = {
            t: [
                JudgeItem(prompts[c.prompt_id], c)
                for c in context.store.rows(Candidate, "round = ? and split = 'held_out'", (t,))
            ]
            for t in range(round + 1)
        }
    judge = _verifier(context, round)
    _verify(context, round, fingerprint, judge, answers[round])
    with context.store.read():
        data = _input(context, round, prompts, answers, judge)
    figures = [figure for evaluator in _evaluators(context) for figure in evaluator.evaluate(data)]
    context.store.insert(figures)
    shown = {f.metric: f for f in figures}
    text = [f"M{round}"]
    if "pass_rate_strict" in shown and shown["pass_rate_strict"].value is not None:
        text.append(f"strict pass rate {shown['pass_rate_strict'].value:.3f}")
    if (delta := shown.get("pass_rate_delta_vs_m0")) and None not in (delta.value, delta.low, delta.high):
        text.append(f"{delta.value:+.3f} against M0 [{delta.low:+.3f}, {delta.high:+.3f}]")
    return StageOutcome(len(answers[round]), len(figures), ", ".join(text))


def _verify(
    context: RunContext, round: int, fingerprint: str, judge: VerifierJudge, items: Sequence[JudgeItem]
) -> None:
    """Check the constraints of ``items`` in a stage process: the run's own stays free of what the checkers bring along."""
    folder = context.job(round, "evaluate", fingerprint)
    collect(folder, context)
    done = context.store.query(
        "select distinct candidate_id from judgements where round = ? and judge_hash = ?", (round, judge.judge_hash)
    )["candidate_id"].to_pylist()
    asked = [item for item in items if item.prompt.instruction_id_list]
    if {item.candidate.candidate_id for item in asked} - set(done):
        spec = {"kind": "judge", **judge_spec(context, round, judge.config, None, done)}
        inputs: dict[str, Sequence[Any]] = {
            "prompts": [item.prompt for item in asked],
            "candidates": [item.candidate for item in asked],
        }
        supervise(folder, spec, inputs, context=context, label=f"round {round} evaluate")
    folder.remove()


def _evaluators(context: RunContext) -> list[Evaluator]:
    return [find("evaluate", settings.id).load()(settings) for settings in context.config.evaluate.metrics]


def _input(
    context: RunContext,
    round: int,
    prompts: Mapping[str, Prompt],
    answers: Mapping[int, Sequence[JudgeItem]],
    judge: VerifierJudge,
) -> EvaluationInput:
    judgements = context.store.rows(
        Judgement,
        "judge_hash = ? and candidate_id in (select candidate_id from candidates where split = 'held_out')",
        (judge.judge_hash,),
    )
    trained = context.store.rows(Checkpoint, "round = ?", (round,)) if round else []
    evaluators = _evaluators(context)
    needs = {need for evaluator in evaluators for need in getattr(evaluator, "needs", ())}
    return EvaluationInput(
        run=context.config.name,
        round=round,
        prompts=list(prompts.values()),
        candidates=answers,
        judgements={t: [j for j in judgements if j.round == t] for t in range(round + 1)},
        training=json.loads(trained[0].metrics) if trained else {},
        seed=derive_seed(context.config.seed, round, "evaluate") & 0xFFFFFFFF,
        n_trained=trained[0].n_examples if trained else 0,
        training_candidates=_by_round(
            context, Candidate, "split = 'train' and origin is distinct from 'demonstration'", round
        )
        if "training_candidates" in needs
        else {},
        pairs=_by_round(context, Pair, "true", round) if "pairs" in needs else {},
    )


def _by_round(context: RunContext, kind: type[R], condition: str, last: int) -> dict[int, list[R]]:
    return {t: context.store.rows(kind, f"round = ? and {condition}", (t,)) for t in range(1, last + 1)}


def _verifier(context: RunContext, round: int) -> VerifierJudge:
    return VerifierJudge(VerifierJudge.Config(), JudgeContext(None, context.config.seed, round, context.templates()))

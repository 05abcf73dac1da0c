"""Stage ``log_ratio``: how far M_t has moved from M_0, on M_t's own held-out answers.

Sampled at temperature 1, the mean of log pi_t - log pi_0 a sequence estimates KL(pi_t || pi_0); with
greedy answers it is a mean log-ratio, and is reported as that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from selfalign.evaluation.statistics import cluster_mean_interval
from selfalign.failpoints import reach
from selfalign.identity import canonical, content_id
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import messages_for
from selfalign.stages.generate import engine_spec
from selfalign.stages.jobs import JobFolder
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.stages.loading import load_engine
from selfalign.stages.meter import Meter
from selfalign.stages.supervise import collect, supervise
from selfalign.types import Candidate, Evaluation, Prompt, TokenSequence

_CHUNK = 32


def fingerprint(context: RunContext, round: int) -> str:
    return content_id("log_ratio", upstream(context, round, "answer"), context.weights(0).weights_hash)


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    folder = context.job(round, "log_ratio", fingerprint)
    collect(folder, context)
    where = "round = ? and metric = 'log_ratio_vs_m0'"
    if not context.store.rows(Evaluation, where, (round,)):
        spec = {
            "kind": "log_ratio",
            "round": round,
            "run": context.config.name,
            "system_prompt": context.config.generate.system_prompt,
            "sampled": context.config.evaluate.temperature == 1.0 and context.config.evaluate.top_p == 1.0,
            **engine_spec(context, context.model(0)),
        }
        inputs: dict[str, Sequence[Any]] = {
            "prompts": context.store.rows(Prompt, "round = 0 and split = 'held_out'"),
            "candidates": context.store.rows(Candidate, "round = ? and split = 'held_out'", (round,)),
        }
        supervise(
            folder, spec, inputs, context=context, label=f"round {round} log_ratio",
        )  # fmt: skip
    folder.remove()
    figure = context.store.rows(Evaluation, where, (round,))[0]
    return StageOutcome(figure.n, 1, f"mean log-ratio of M{round} to M0: {figure.value:.2f} nats an answer")


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    candidates = sorted(
        folder.rows("candidates", Candidate), key=lambda c: (c.n_prompt_tokens + c.n_tokens, c.candidate_id)
    )
    meter = Meter(folder, len(candidates), "answers")
    engine = load_engine(spec, lambda kind, message: None, meter)
    ratios: dict[str, list[float]] = defaultdict(list)
    tokens = 0
    reach("batch_begun")
    for start in range(0, len(candidates), _CHUNK):
        chunk = candidates[start : start + _CHUNK]
        sequences = [
            TokenSequence(
                engine.encode_prompt(messages_for(prompts[c.prompt_id].text, spec["system_prompt"])),
                c.sampled_ids,
            )
            for c in chunk
        ]
        for candidate, values in zip(chunk, engine.log_probs(sequences), strict=True):
            ratios[candidate.prompt_id].append(candidate.logprob - float(values.sum()))
            tokens += len(values)
        meter.made(len(chunk))
    engine.close()
    mean = cluster_mean_interval(ratios)
    total = sum(sum(values) for values in ratios.values())
    detail = {"unit": "nats an answer", "nats_a_token": total / max(tokens, 1), "estimates_kl": spec["sampled"]}
    folder.emit(
        0,
        [Evaluation(spec["run"], spec["round"], "log_ratio_vs_m0", "held_out", mean.value, mean.low, mean.high,
                    mean.n, canonical(detail))],
    )  # fmt: skip

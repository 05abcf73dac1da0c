"""What an approximation of M_t's weights loses, in the terms that count: its view of M_t's own answers."""

from __future__ import annotations

from pathlib import Path

from selfalign.engines.chat import encode_chat
from selfalign.errors import BadInput
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import messages_for
from selfalign.types import Candidate, Prompt, TokenSequence

#: Enough for a figure in seconds.
_MOST_ANSWERS = 64


def log_prob_error(context: RunContext, round: int, folder: Path) -> dict[str, float]:
    """Compare ``folder``'s log-probabilities of M_round's held-out answers with those stored when they were sampled.

    Returns:
        ``answers`` compared, ``mean_per_token`` and ``mean_abs_per_token`` in nats (the latter over answers).

    Raises:
        BadInput: the round has no held-out answers.
    """
    answers = context.store.rows(Candidate, "round = ? and split = 'held_out'", (round,))[:_MOST_ANSWERS]
    if not answers:
        raise BadInput(f"round {round}: has no held-out answers to measure with")
    prompts = {row.prompt_id: row for row in context.store.rows(Prompt, "round = 0 and split = 'held_out'")}
    # Loads a model: in this process, as the command ends right after.
    from selfalign.training.logprobs import sequence_log_probs
    from selfalign.training.policy import load_model, load_tokenizer, quiet

    with quiet():
        tokenizer, model = load_tokenizer(folder), load_model(folder)
        system = context.config.generate.system_prompt
        sequences = [
            TokenSequence(encode_chat(tokenizer, messages_for(prompts[a.prompt_id].text, system)), a.sampled_ids)
            for a in answers
        ]
        values = sequence_log_probs(model, sequences)
    gaps = [(v - a.logprob) / len(a.sampled_ids) for v, a in zip(values, answers, strict=True) if a.sampled_ids]
    return {
        "answers": len(gaps),
        "mean_per_token": sum(gaps) / len(gaps),
        "mean_abs_per_token": sum(abs(gap) for gap in gaps) / len(gaps),
    }

"""Log-probabilities without sampling: of choices as the next tokens, and of whole completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from selfalign.engines.attention import is_plain, new_cache
from selfalign.engines.decoding import Context, prefill
from selfalign.engines.sampling import token_log_probs
from selfalign.types import TokenSequence

#: Positions put through the language-model head together: 512 x 49152 float32 logits are 100 MB.
_HEAD_POSITIONS = 512
#: A shared prefix shorter than this is not worth a forward pass of its own.
MIN_SHARED_PREFIX = 16


def read_prefix(model: Any, prefix_ids: Sequence[int]) -> Context | None:
    """The context after ``prefix_ids``, or None where the architecture cannot share it between rows."""
    if not is_plain(new_cache(model.config)):
        return None
    return prefill(model, [prefix_ids])


def choice_log_probs(
    model: Any, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]], prefix: Context | None = None
) -> np.ndarray:
    """Float64 [prompts, choices], nats: each choice's tokens as the continuation of each prompt.

    ``prompts`` are what follows ``prefix`` where there is one.
    """
    if max(map(len, choices)) > 1 and not is_plain(new_cache(model.config)):
        return _by_sequences(model, prompts, choices)
    context = prefill(model, prompts, prefix)
    first = torch.tensor([choice[0] for choice in choices], device=model.device)
    normaliser = context.logits.float().logsumexp(dim=-1, keepdim=True).double()
    result = context.logits.index_select(-1, first).double() - normaliser
    for column, choice in enumerate(choices):
        if len(choice) > 1:
            result[:, column] += _continuation(model, context, choice)
    scores: np.ndarray = result.cpu().numpy()
    return scores


def _by_sequences(model: Any, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]) -> np.ndarray:
    """As :func:`choice_log_probs`, each choice read with its whole prompt: for caches that cannot be cropped."""
    columns = []
    for choice in choices:
        sequences = [TokenSequence(tuple(prompt), tuple(choice)) for prompt in prompts]
        columns.append([float(values.sum()) for values in completion_log_probs(model, sequences, head_is_plain=False)])
    return np.array(columns).T


def _continuation(model: Any, context: Context, choice: Sequence[int]) -> torch.Tensor:
    """Float64 [rows]: log-probability of ``choice[1:]`` after ``choice[0]``; ``context`` is left as it was."""
    ids = torch.tensor(choice, device=model.device).expand(len(context.positions), -1)
    steps = ids.shape[1] - 1
    mask = torch.cat([context.mask, context.mask.new_ones(len(ids), steps)], dim=-1)
    positions = context.positions.unsqueeze(-1) + torch.arange(steps, device=model.device)
    output = model(
        input_ids=ids[:, :-1],
        attention_mask=mask,
        position_ids=positions,
        past_key_values=context.cache,
        use_cache=True,
        logits_to_keep=steps,
    )
    context.cache.crop(-steps)
    return token_log_probs(output.logits, ids[:, 1:]).sum(dim=-1)


def completion_log_probs(model: Any, sequences: Sequence[TokenSequence], head_is_plain: bool) -> list[np.ndarray]:
    """Float64 [len(completion_ids)] for each sequence, nats.

    Right-padded without a mask: causal attention never looks at what follows. Only the positions that
    predict a completion token go through the head where ``head_is_plain`` (see :func:`plain_head`).
    """
    whole = [(*sequence.prompt_ids, *sequence.completion_ids) for sequence in sequences]
    longest = max(len(ids) for ids in whole)
    padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in whole], device=model.device)
    rows = [row for row, sequence in enumerate(sequences) for _ in sequence.completion_ids]
    columns = [
        column for sequence, ids in zip(sequences, whole, strict=True)
        for column in range(len(sequence.prompt_ids) - 1, len(ids) - 1)
    ]  # fmt: skip
    row, column = torch.tensor(rows, device=model.device), torch.tensor(columns, device=model.device)
    targets = padded[row, column + 1]
    if head_is_plain:
        hidden = model.base_model(input_ids=padded, use_cache=False).last_hidden_state[row, column]
        head = model.get_output_embeddings()
        parts = [
            token_log_probs(head(hidden[at : at + _HEAD_POSITIONS]), targets[at : at + _HEAD_POSITIONS])
            for at in range(0, len(targets), _HEAD_POSITIONS)
        ]
        values = torch.cat(parts)
    else:
        logits = model(input_ids=padded, use_cache=False).logits
        values = token_log_probs(logits[row, column], targets)
    ends = np.cumsum([len(sequence.completion_ids) for sequence in sequences])[:-1]
    return np.split(values.cpu().numpy(), ends)


def plain_head(model: Any) -> bool:
    """True where logits are the head applied to the base model's output, with nothing (soft-cap, scale) after."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    ids = torch.arange(4, device=model.device).unsqueeze(0)
    try:
        by_head = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    except (AttributeError, TypeError):
        return False
    logits = model(input_ids=ids, use_cache=False).logits
    return by_head.shape == logits.shape and bool(torch.allclose(by_head, logits, rtol=1e-3, atol=1e-3))

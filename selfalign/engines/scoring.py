"""Log-probabilities without sampling: of choices as the next tokens, and of whole completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from selfalign.engines.attention import GROUPED_SDPA, caches_plainly, copy_of_rows
from selfalign.engines.decoding import Context, prefill
from selfalign.engines.key_blocks import key_blocks
from selfalign.engines.sampling import token_log_probs
from selfalign.packing import Packed, can_pack, pack
from selfalign.types import TokenSequence

#: Positions put through the language-model head together: 512 x 49152 float32 logits are 100 MB.
_HEAD_POSITIONS = 512
#: Tokens of a forest where attention costs with the square of them; what forests read twice costs with their number.
FOREST_TOKENS = 512


def read_prefix(model: Any, prefix_ids: Sequence[int]) -> Context | None:
    """The context after ``prefix_ids``, or None where the architecture cannot share it between rows."""
    if not caches_plainly(model.config):
        return None
    return prefill(model, [prefix_ids])


def packs(model: Any) -> bool:
    """Whether :func:`packed_log_probs` can be used, with a plain head."""
    return can_pack(model, ("sdpa", "eager", GROUPED_SDPA)) and caches_plainly(model.config)


def packed_log_probs(
    model: Any, forests: Sequence[Sequence[TokenSequence]], prefix: Context | None = None, *, by_blocks: bool = False
) -> list[list[np.ndarray]]:
    """Float64 [len(completion_ids)], nats, for each sequence of each forest; see packing.py. Needs :func:`packs`.

    A forest is a row. Its sequences are what follows ``prefix`` where there is one. ``by_blocks``: the attention of a
    single row reads what its tokens see, and no more; needs a model that :func:`key_blocks.reads_blocks`.
    """
    packed = [pack(forest) for forest in forests]
    ids, mask, positions = (part.to(model.device) for part in _side_by_side(packed))
    cache = None
    if prefix is not None:
        cache = copy_of_rows(prefix.cache, model.config, torch.zeros(len(ids), dtype=torch.long, device=model.device))
        positions += prefix.positions
        mask = torch.cat([mask.new_ones(*mask.shape[:3], int(prefix.positions)), mask], dim=-1)
    blocks = {"key_blocks": key_blocks(mask, model.dtype)} if by_blocks and len(ids) == 1 else {}
    output = model.base_model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
        use_cache=cache is not None, **blocks,
    )  # fmt: skip
    hidden = torch.cat(
        [row[tree.read_from.to(row.device)] for row, tree in zip(output.last_hidden_state, packed, strict=True)]
    )
    before = np.cumsum([0, *(len(tree.read_from) for tree in packed)])
    column = torch.cat([tree.column + int(start) for tree, start in zip(packed, before, strict=False)])
    target = torch.cat([tree.target for tree in packed])
    values = _head_log_probs(model, hidden, column.to(model.device), target.to(model.device)).cpu().numpy()
    # Predictions come in the order of the forest, and of the completion within a sequence.
    found, start = [], 0
    for forest, tree in zip(forests, packed, strict=True):
        owners = tree.owner.numpy()
        own = values[start : start + len(owners)]
        found.append([own[owners == index] for index in range(len(forest))])
        start += len(owners)
    return found


def _side_by_side(packed: Sequence[Packed]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, mask, positions): [rows, n], [rows, 1, n, n], [rows, n], padded on the right with tokens that see all."""
    width = max(len(tree.ids) for tree in packed)
    ids, positions = (torch.zeros(len(packed), width, dtype=torch.long) for _ in range(2))
    mask = torch.ones(len(packed), 1, width, width, dtype=torch.bool)
    for row, tree in enumerate(packed):
        n = len(tree.ids)
        ids[row, :n], positions[row, :n] = tree.ids, tree.positions
        mask[row, 0, :n] = False
        mask[row, 0, :n, :n] = tree.mask()[0, 0]
    return ids, mask, positions


def _head_log_probs(model: Any, hidden: torch.Tensor, column: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Float64 [predictions]: log-probability of ``target`` after the position ``column`` of ``hidden`` [positions, d]."""
    head = model.get_output_embeddings()
    found = torch.empty(len(column), dtype=torch.float64, device=hidden.device)
    for at in range(0, len(hidden), _HEAD_POSITIONS):
        logits = head(hidden[at : at + _HEAD_POSITIONS]).float()
        here = (column >= at) & (column < at + _HEAD_POSITIONS)
        place = column[here] - at
        found[here] = logits[place, target[here]].double() - logits.logsumexp(dim=-1).double()[place]
    return found


def choice_log_probs(
    model: Any, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]], prefix: Context | None = None
) -> np.ndarray:
    """Float64 [prompts, choices], nats: each choice's tokens as the continuation of each prompt.

    ``prompts`` are what follows ``prefix`` where there is one.
    """
    if max(map(len, choices)) > 1 and not caches_plainly(model.config):
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
        columns.append([float(values.sum()) for values in completion_log_probs(model, sequences, False)])
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
    """Float64 [len(completion_ids)] for each sequence, nats, with any model.

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
        values = _head_log_probs(model, hidden, torch.arange(len(targets), device=model.device), targets)
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

"""Prefill and the decode loop: every distinct prompt is read once, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfalign.engines.attention import copy_of_rows, is_plain, keep_rows, new_cache
from selfalign.engines.sampling import choose_tokens, uniform_numbers
from selfalign.types import SamplingParams

#: A batch is compacted once at most this share of its rows is unfinished: copying the cache costs about one step.
COMPACT_AT = 0.75


@dataclass(frozen=True)
class Row:
    """One sample to make."""

    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Sample:
    """What came of a row: ``token_ids`` without the end token, ``log_prob`` (nats) with it where there is one."""

    token_ids: tuple[int, ...]
    log_prob: float
    end_token_id: int | None


@dataclass
class Context:
    """A batch that has been read: what the next forward pass needs.

    ``logits`` [rows, vocabulary] of the next token; ``mask`` int64 [rows, columns], 0 on padding;
    ``positions`` int64 [rows], position of the next token.
    """

    logits: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor


def left_pad(sequences: Sequence[Sequence[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (int64 [rows, longest]); padding is masked, so its id does not matter."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        mask[row, longest - len(sequence) :] = 1
    return ids.to(device), mask.to(device)


def prefill(model: Any, prompts: Sequence[Sequence[int]], prefix: Context | None = None) -> Context:
    """Read ``prompts``, left-padded. With ``prefix`` (one row, plain cache) they are what follows it."""
    ids, mask = left_pad(prompts, model.device)
    positions = (mask.cumsum(dim=-1) - 1).clamp_(min=0)
    if prefix is None:
        cache = new_cache(model.config)
    else:
        cache = copy_of_rows(prefix.cache, model.config, torch.zeros(len(ids), dtype=torch.long, device=model.device))
        positions += prefix.positions
        mask = torch.cat([prefix.mask.expand(len(ids), -1), mask], dim=-1)
    logits = _forward(model, ids, mask, positions, cache)
    return Context(logits, cache, mask, positions[:, -1] + 1)


def extend(model: Any, context: Context, tokens: torch.Tensor) -> None:
    """Append one token (int64 [rows]) to every row and update ``context`` in place."""
    context.mask = torch.cat([context.mask, context.mask.new_ones(len(tokens), 1)], dim=-1)
    context.logits = _forward(model, tokens.unsqueeze(-1), context.mask, context.positions.unsqueeze(-1), context.cache)
    context.positions = context.positions + 1


def keep(context: Context, rows: torch.Tensor) -> None:
    """Keep (or repeat) ``rows`` in place, and drop the columns that are padding in all of them."""
    context.mask = context.mask.index_select(0, rows)
    first = int(context.mask.argmax(dim=-1).min()) if is_plain(context.cache) else 0
    context.mask = context.mask[:, first:]
    context.positions = context.positions.index_select(0, rows)
    context.logits = context.logits.index_select(0, rows)
    keep_rows(context.cache, rows, first)


def copied(model: Any, context: Context, rows: int) -> Context:
    """``rows`` copies of a context of one row with a plain cache, which is left as it is."""
    first = torch.zeros(rows, dtype=torch.long, device=model.device)
    return Context(
        context.logits.index_select(0, first), copy_of_rows(context.cache, model.config, first),
        context.mask.index_select(0, first), context.positions.index_select(0, first),
    )  # fmt: skip


class PromptReader:
    """Reads the prompts of rows, and keeps the last one: samples of one prompt in several batches read it once."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._prompt: tuple[int, ...] | None = None
        self._read: Context | None = None

    def read(self, rows: Sequence[Row]) -> Context:
        """A context with one row for each of ``rows``, to be written to; every distinct prompt is read once."""
        prompts = list(dict.fromkeys(row.prompt_ids for row in rows))
        if prompts == [self._prompt] and self._read is not None:
            return copied(self._model, self._read, len(rows))
        context = prefill(self._model, prompts)
        if len(prompts) == 1 and is_plain(context.cache):
            self._prompt, self._read = prompts[0], context
            return copied(self._model, context, len(rows))
        if len(rows) > 1:
            index_of = {prompt: index for index, prompt in enumerate(prompts)}
            keep(context, torch.tensor([index_of[row.prompt_ids] for row in rows], device=self._model.device))
        return context


def decode(
    model: Any,
    rows: Sequence[Row],
    params: SamplingParams,
    end_ids: Sequence[int],
    prompts: PromptReader | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> list[Sample]:
    """Sample every row to its end token or ``params.max_tokens``, in order of ``rows``.

    A row's tokens depend on its prompt and seed; neighbours and batch size matter only through the
    rounding of matrix products. ``on_tokens`` is told after every step how many tokens it made.
    """
    context = (prompts or PromptReader(model)).read(rows)
    return _sample(model, context, [row.seed for row in rows], params, end_ids, on_tokens)


def _sample(
    model: Any,
    context: Context,
    seeds: Sequence[int],
    params: SamplingParams,
    end_ids: Sequence[int],
    on_tokens: Callable[[int], None],
) -> list[Sample]:
    device, n_rows, steps = model.device, len(seeds), params.max_tokens
    uniform = uniform_numbers(seeds, steps if params.temperature > 0 else 1).to(device)
    ends = torch.tensor(end_ids, dtype=torch.long, device=device)
    tokens = torch.zeros(n_rows, steps, dtype=torch.long, device=device)
    log_probs = torch.zeros(n_rows, dtype=torch.float64, device=device)
    length = torch.full((n_rows,), steps, dtype=torch.long, device=device)
    # Which sample each row of the batch makes, and whether it still does.
    sample = torch.arange(n_rows, device=device)
    live = torch.ones(n_rows, dtype=torch.bool, device=device)
    n_live = n_rows
    for step in range(steps):
        chosen, gained = choose_tokens(context.logits, uniform[sample, step % uniform.shape[1]], params)
        log_probs[sample] += torch.where(live, gained, 0.0)
        tokens[sample, step] = chosen
        ended = live & torch.isin(chosen, ends)
        length[sample[ended]] = step
        live &= ~ended
        on_tokens(n_live)
        n_live = int(live.sum())
        if n_live == 0 or step + 1 == steps:
            break
        if n_live <= COMPACT_AT * len(sample):
            rows = live.nonzero().squeeze(-1)
            keep(context, rows)
            sample, chosen, live = sample[rows], chosen[rows], live[rows]
        extend(model, context, chosen)
    return _samples(tokens, log_probs, length)


def _samples(tokens: torch.Tensor, log_probs: torch.Tensor, length: torch.Tensor) -> list[Sample]:
    lists = zip(tokens.tolist(), log_probs.tolist(), length.tolist(), strict=True)
    return [Sample(tuple(ids[:end]), total, ids[end] if end < len(ids) else None) for ids, total, end in lists]


def _forward(model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits of the last column, [rows, vocabulary]; ``cache`` grows in place."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits

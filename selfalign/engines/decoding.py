"""Prefill and the decode loop: every distinct prompt is read once, waiting rows take the place of finished ones."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfalign.engines.attention import append_rows, caches_plainly, copy_of_rows, is_plain, keep_rows, new_cache
from selfalign.engines.sampling import choose_tokens, uniform_numbers
from selfalign.prefixes import shared_beginning
from selfalign.types import SamplingParams

#: A batch is compacted once at most this share of its rows is unfinished: copying the cache costs about one step.
COMPACT_AT = 0.75
#: Rows enter once at most this share of the places is taken: what they enter costs about one step as well.
REFILL_AT = 0.75
#: A shared prefix shorter than this is not worth a forward pass of its own.
MIN_SHARED_PREFIX = 16


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


def join(context: Context, other: Context) -> None:
    """Append the rows of ``other`` in place; both caches are plain. What has fewer columns is padded on the left."""
    columns = max(context.mask.shape[1], other.mask.shape[1])
    context.mask = torch.cat(
        [torch.nn.functional.pad(mask, (columns - mask.shape[1], 0)) for mask in (context.mask, other.mask)]
    )
    context.positions = torch.cat([context.positions, other.positions])
    context.logits = torch.cat([context.logits, other.logits])
    append_rows(context.cache, other.cache)


def copied(model: Any, context: Context, rows: int) -> Context:
    """``rows`` copies of a context of one row with a plain cache, which is left as it is."""
    first = torch.zeros(rows, dtype=torch.long, device=model.device)
    return Context(
        context.logits.index_select(0, first), copy_of_rows(context.cache, model.config, first),
        context.mask.index_select(0, first), context.positions.index_select(0, first),
    )  # fmt: skip


class PromptReader:
    """Reads the prompts of rows; what all of ``prompts`` begin with, and the last prompt, is kept and not read again."""

    def __init__(self, model: Any, prompts: Sequence[tuple[int, ...]]) -> None:
        self._model = model
        self._prompt: tuple[int, ...] | None = None
        self._read: Context | None = None
        distinct = list(dict.fromkeys(prompts))
        self._shared = shared_beginning(distinct, MIN_SHARED_PREFIX) if caches_plainly(model.config) else ()
        self._prefix: Context | None = None

    def read(self, rows: Sequence[Row]) -> Context:
        """A context with one row for each of ``rows``, to be written to; every distinct prompt is read once."""
        prompts = list(dict.fromkeys(row.prompt_ids for row in rows))
        if prompts == [self._prompt] and self._read is not None:
            return copied(self._model, self._read, len(rows))
        if self._shared and self._prefix is None:
            self._prefix = prefill(self._model, [self._shared])
        context = prefill(self._model, [prompt[len(self._shared) :] for prompt in prompts], self._prefix)
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
    reader: PromptReader,
    together: int,
    on_tokens: Callable[[int, int], None],
) -> list[Sample]:
    """Sample every row to its end token or ``params.max_tokens``, in order of ``rows``.

    At most ``together`` rows are decoded at a time, and the others enter in their order as rows end (Orca,
    Yu et al. 2022); more than ``together`` need a plain cache, since they are padded. A row's tokens depend on its
    prompt and seed; neighbours matter only through the rounding of matrix products, and the same ``rows`` have the same
    neighbours. ``on_tokens`` is told after every step how many tokens it made, and how many rows ended with it.
    """
    device, steps = model.device, params.max_tokens
    uniform = uniform_numbers([row.seed for row in rows], steps if params.temperature > 0 else 1).to(device)
    ends = torch.tensor(end_ids, dtype=torch.long, device=device)
    # A column more than there are steps: there write the rows that have ended and still are in the batch.
    tokens = torch.zeros(len(rows), steps + 1, dtype=torch.long, device=device)
    log_probs = torch.zeros(len(rows), dtype=torch.float64, device=device)
    length = torch.full((len(rows),), steps, dtype=torch.long, device=device)
    waiting = _groups(rows, together)
    while waiting:
        entering = _next(waiting, together)
        context = reader.read([rows[index] for index in entering])
        # Which sample each row of the batch makes, its next column, and whether it still makes it.
        sample = torch.tensor(entering, device=device)
        at, live = torch.zeros_like(sample), torch.ones_like(sample, dtype=torch.bool)
        n_live = len(entering)
        while n_live:
            chosen, gained = choose_tokens(context.logits, uniform[sample, at % uniform.shape[1]], params)
            log_probs[sample] += torch.where(live, gained, 0.0)
            tokens[sample, at] = chosen
            ended = live & torch.isin(chosen, ends)
            length[sample[ended]] = at[ended]
            live &= ~ended & (at + 1 < steps)
            at = torch.where(live, at + 1, steps)
            before, n_live = n_live, int(live.sum())
            on_tokens(before, before - n_live)
            if n_live == 0:
                break
            entering = _next(waiting, together - n_live) if n_live <= REFILL_AT * together else []
            if n_live <= COMPACT_AT * len(sample) or (entering and n_live < len(sample)):
                left = live.nonzero().squeeze(-1)
                keep(context, left)
                sample, at, chosen, live = sample[left], at[left], chosen[left], live[left]
            extend(model, context, chosen)
            if entering:
                join(context, reader.read([rows[index] for index in entering]))
                sample = torch.cat([sample, torch.tensor(entering, device=device)])
                at = torch.cat([at, at.new_zeros(len(entering))])
                live = torch.cat([live, live.new_ones(len(entering))])
                n_live += len(entering)
    return _samples(tokens[:, :steps], log_probs, length)


def _groups(rows: Sequence[Row], together: int) -> deque[list[int]]:
    """Indices into ``rows``, those of one prompt together, in pieces that find room whenever rows may enter."""
    most = max(1, together - int(REFILL_AT * together))
    groups: deque[list[int]] = deque()
    for _, found in itertools.groupby(range(len(rows)), key=lambda index: rows[index].prompt_ids):
        same = list(found)
        groups += [same[start : start + most] for start in range(0, len(same), most)]
    return groups


def _next(waiting: deque[list[int]], room: int) -> list[int]:
    """Take from ``waiting``, in its order, what has room."""
    taken: list[int] = []
    while waiting and len(taken) + len(waiting[0]) <= room:
        taken += waiting.popleft()
    return taken


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

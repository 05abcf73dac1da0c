"""Log-probabilities of completions, computed once for the same weights and tokens."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from selfalign.errors import GuardFailed, StageFailed
from selfalign.packing import can_pack, pack, packed_log_probs, takes
from selfalign.prefixes import forest_size, forests, tokens_to_read
from selfalign.training import logprob_cache
from selfalign.training.guards import BFLOAT16, FLOAT32, check_log_probs
from selfalign.training.micro_batch import gains
from selfalign.training.policy import load_model, load_quantised
from selfalign.training.settings import TrainingSettings
from selfalign.types import TokenSequence

#: Logits held at once, so that batches fit in memory whatever the vocabulary: 0.5 GB of float32.
_MAX_LOGITS = 1 << 27
#: Tokens of a forest: attention costs with the square of them, what forests read twice with their number.
_FOREST_TOKENS = 512
_PLAIN = TrainingSettings()


def completion_log_probs(model: Any, input_ids: Any, completion_mask: Any) -> Any:
    """Log-probability of every completion token: [rows, columns], 0 elsewhere.

    Arguments are [rows, T], padded on the right. Only columns that predict a completion token of
    some row go through the head (``logits_to_keep``); columns come out in that reduced form.
    """
    targets = input_ids[:, 1:].masked_fill(completion_mask[:, 1:] == 0, -100)
    columns = (targets != -100).any(dim=0).nonzero().squeeze(-1)
    # No attention mask: padding on the right is invisible to a causal model's real tokens, and without
    # a mask the attention kernel takes its causal fast path (12 % of a step on a CPU).
    inputs = {"input_ids": input_ids, "use_cache": False}
    if takes(model, "logits_to_keep"):
        logits = model(**inputs, logits_to_keep=columns).logits
    else:
        logits = model(**inputs).logits[:, columns]
    kept = targets[:, columns]
    losses = F.cross_entropy(logits.float().flatten(0, 1), kept.flatten(), ignore_index=-100, reduction="none")
    return -losses.view(kept.shape)


def summed_log_probs(model: Any, input_ids: Any, attention_mask: Any, completion_mask: Any) -> Any:
    """Summed log-probability in nats of each row's completion, [rows], with gradient; arguments are [rows, T].

    ``model`` is one that a trainer of TRL has given its fused head.
    """
    if input_ids.device.type == "cpu":
        return completion_log_probs(model, input_ids, completion_mask).sum(dim=1)
    # TRL's fused head never holds a [tokens, vocabulary] matrix; without Triton it projects the prompt too.
    labels = input_ids.masked_fill(completion_mask == 0, -100)
    outputs = model(
        input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False, fused_lm_head=True
    )
    return outputs.log_probs.sum(dim=1)


def mixed_precision(device: Any, precision: str = "auto") -> bool:
    """Whether training on ``device`` autocasts to bfloat16; auto: where it is CUDA that supports it."""
    if precision == "auto":
        return bool(device.type == "cuda" and torch.cuda.is_bf16_supported())
    return precision == "bfloat16"


def sequence_log_probs(
    model: Any, sequences: Sequence[TokenSequence], precision: str = "auto", packs: bool = True
) -> list[float]:
    """Summed log-probability in nats of each completion, in the order given, without gradient.

    ``packs``: on a CPU, what sequences have in common at their beginning is read once, where the model allows it.
    """
    device = next(model.parameters()).device
    vocabulary = model.config.get_text_config().vocab_size
    result = [0.0] * len(sequences)
    was_training = model.training
    model.eval()
    # The same arithmetic as training's, so that its rounding cancels in policy - reference.
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision(device, precision)),
    ):
        packed = _what_packs(model, sequences, precision) if packs and device.type == "cpu" else []
        rest = sorted(set(range(len(sequences))) - {index for forest in packed for index in forest})
        for forest in packed:
            found = packed_log_probs(model, pack([sequences[i] for i in forest]))
            for index, value in zip(forest, found.tolist(), strict=True):
                result[index] = value
        for batch in _batches([sequences[i] for i in rest], max(1, _MAX_LOGITS // vocabulary)):
            log_probs = _plain_log_probs(model, [sequences[rest[i]] for i in batch])
            for index, value in zip(batch, log_probs, strict=True):
                result[rest[index]] = value
    model.train(was_training)
    return result


def _what_packs(model: Any, sequences: Sequence[TokenSequence], precision: str) -> list[list[int]]:
    """Forests of indices into ``sequences`` that cost less than their sequences one by one; none if it changes values."""
    if not can_pack(model):
        return []
    reads = [tokens_to_read(s) for s in sequences]
    packed = []
    for forest in forests(reads, _FOREST_TOKENS):
        mean = sum(len(reads[i]) for i in forest) // len(forest)
        if gains(forest_size([reads[i] for i in forest]), len(forest), mean):
            packed.append(forest)
    if packed and not _packs_alike(model, [sequences[i] for i in packed[0][:2]], precision):
        return []
    return packed


def _packs_alike(model: Any, sequences: Sequence[TokenSequence], precision: str) -> bool:
    """Whether ``model`` gives these packed what it gives them plainly: an architecture may not do as its config says."""
    tolerance = BFLOAT16 if mixed_precision(next(model.parameters()).device, precision) else FLOAT32
    try:
        check_log_probs(
            packed_log_probs(model, pack(sequences)).tolist(), _plain_log_probs(model, sequences), tolerance
        )
    except GuardFailed:
        return False
    return True


def _plain_log_probs(model: Any, sequences: Sequence[TokenSequence]) -> list[float]:
    device = next(model.parameters()).device
    values: list[float] = completion_log_probs(model, *(row.to(device) for row in _pad(sequences))).sum(dim=1).tolist()
    return values


def _batches(sequences: Sequence[TokenSequence], max_tokens: int) -> list[list[int]]:
    """Indices, longest first, in batches of at most ``max_tokens`` padded tokens (or one sequence)."""
    lengths = [len(s.prompt_ids) + len(s.completion_ids) for s in sequences]
    batches: list[list[int]] = []
    for index in sorted(range(len(sequences)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _pad(sequences: Sequence[TokenSequence]) -> tuple[Any, Any]:
    """(input_ids, completion_mask), each [rows, T], padded on the right."""
    width = max(len(s.prompt_ids) + len(s.completion_ids) for s in sequences)
    shape = (len(sequences), width)
    ids, completion = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    for row, sequence in enumerate(sequences):
        begin, end = len(sequence.prompt_ids), len(sequence.prompt_ids) + len(sequence.completion_ids)
        ids[row, :end] = torch.tensor([*sequence.prompt_ids, *sequence.completion_ids])
        completion[row, begin:end] = 1
    return ids, completion


def grouped_log_probs(
    folder: Path,
    weights_hash: str,
    groups: Sequence[Sequence[TokenSequence]],
    cache: Path,
    config: TrainingSettings = _PLAIN,
) -> list[list[float]]:
    """:func:`sequence_log_probs` of the model in ``folder``, which is loaded for this only, or from ``cache``.

    It is loaded, at most once, and computed with, as the policy that ``config`` trains. A group of sequences is computed
    whole or read whole: in batches with other rows a value differs in its last bits, so it must not depend on what else
    the cache happens to hold.

    Raises:
        StageFailed: the model gives NaN or infinite values.
    """
    keys = [logprob_cache.key(weights_hash, group, config.form()) for group in groups]
    found = [logprob_cache.read(cache, key, len(group)) for key, group in zip(keys, groups, strict=True)]
    if any(values is None for values in found):
        model = load_quantised(folder, config.quantised) if config.quantised else load_model(folder)
        for index, values in enumerate(found):
            if values is None:
                computed = _finite(
                    sequence_log_probs(model, groups[index], config.precision, config.packing != "off"), folder
                )
                logprob_cache.write(cache, keys[index], computed)
                found[index] = computed
        del model
        give_back_memory()
    return [values for values in found if values is not None]


def _finite(values: list[float], folder: Path) -> list[float]:
    if not all(math.isfinite(value) for value in values):
        raise StageFailed(f"{folder}: gives log-probabilities that are not finite; lower train.learning_rate")
    return values


def give_back_memory() -> None:
    """Free what a dropped model held, before the next one is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

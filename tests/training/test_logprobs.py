from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from selfalign.errors import StageFailed
from selfalign.identity import hash_weights
from selfalign.training import logprobs
from selfalign.training.dataset import pair_sequences
from selfalign.training.logprobs import completion_log_probs, grouped_log_probs, sequence_log_probs
from selfalign.training.policy import load_model
from selfalign.types import TokenSequence
from tests.training.examples import pairs

SEQUENCES = pair_sequences(pairs(6))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(tiny_model)


def brute_force(model: Any, sequence: TokenSequence) -> float:
    """One sequence, all logits, token by token."""
    ids = [*sequence.prompt_ids, *sequence.completion_ids]
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(rows[t - 1, ids[t]].item() for t in range(len(sequence.prompt_ids), len(ids)))


def checkpoint_log_probs(
    folder: Path, weights_hash: str, sequences: Sequence[TokenSequence], cache: Path
) -> list[float]:
    return grouped_log_probs(folder, weights_hash, [sequences], cache)[0]


def test_sums_equal_brute_force_whatever_the_batches(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [brute_force(model, sequence) for sequence in SEQUENCES]
    assert sequence_log_probs(model, SEQUENCES) == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(logprobs, "_MAX_LOGITS", 1)  # one sequence a batch
    assert sequence_log_probs(model, SEQUENCES) == pytest.approx(expected, abs=1e-4)


def test_a_model_that_cannot_keep_logits_gives_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sequence_log_probs(model, SEQUENCES)
    monkeypatch.setattr(logprobs, "takes", lambda model, *names: False)
    assert sequence_log_probs(model, SEQUENCES) == pytest.approx(kept, abs=1e-4)


def test_prompt_positions_carry_no_gradient_of_their_own(model: Any) -> None:
    """The head sees only the columns that predict a completion token."""
    seen: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    ids = torch.tensor([[50, 51, 52, 53, 54]])
    mask = torch.tensor([[0, 0, 0, 1, 1]])
    result = completion_log_probs(model, ids, mask)
    hook.remove()
    assert seen == [2] and result.shape == (1, 2)


def test_log_probs_are_computed_once_for_the_same_weights_and_tokens(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = hash_weights(tiny_model)
    first = checkpoint_log_probs(tiny_model, weights, SEQUENCES, tmp_path)
    monkeypatch.setattr(logprobs, "load_model", lambda folder: pytest.fail("computed twice"))
    assert checkpoint_log_probs(tiny_model, weights, SEQUENCES, tmp_path) == first


def test_another_models_or_other_tokens_cache_is_not_used(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    first = checkpoint_log_probs(tiny_model, hash_weights(tiny_model), SEQUENCES, tmp_path)
    other = checkpoint_log_probs(other_model, hash_weights(other_model), SEQUENCES, tmp_path)
    fewer = checkpoint_log_probs(tiny_model, hash_weights(tiny_model), SEQUENCES[:3], tmp_path)
    assert all(abs(a - b) > 0.01 for a, b in zip(first, other, strict=True))
    assert fewer == pytest.approx(first[:3], abs=1e-4)


def test_a_torn_cache_is_computed_again(tiny_model: Path, tmp_path: Path) -> None:
    weights = hash_weights(tiny_model)
    first = checkpoint_log_probs(tiny_model, weights, SEQUENCES, tmp_path)
    (cache,) = tmp_path.iterdir()
    cache.write_text(cache.read_text()[:40])
    assert checkpoint_log_probs(tiny_model, weights, SEQUENCES, tmp_path) == first


def test_weights_that_give_nan_are_refused(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = load_model(tiny_model)
    broken.model.norm.weight.data.fill_(float("nan"))
    monkeypatch.setattr(logprobs, "load_model", lambda folder: broken)
    with pytest.raises(StageFailed, match="not finite"):
        checkpoint_log_probs(tiny_model, "hash", SEQUENCES, tmp_path)


def tokens_read(model: Any, **options: Any) -> tuple[int, list[float]]:
    """How many tokens ``model`` reads for SEQUENCES, and what it gives them."""
    read: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, inputs, _: read.append(inputs[0].numel()))
    values = sequence_log_probs(model, SEQUENCES, **options)
    hook.remove()
    return sum(read), values


def test_a_prompt_is_read_once_for_its_completions(model: Any) -> None:
    plainly, expected = tokens_read(model, packs=False)
    packed, values = tokens_read(model)
    # The check that packing changes nothing reads two sequences once more, packed and plain.
    two = sum(len(s.prompt_ids) + len(s.completion_ids) for s in SEQUENCES[:2])
    assert packed - 2 * two < 0.8 * plainly
    assert values == pytest.approx(expected, abs=1e-4)


def test_a_model_that_packing_would_change_reads_plainly(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sequence_log_probs(model, SEQUENCES, packs=False)
    right = logprobs.packed_log_probs
    monkeypatch.setattr(logprobs, "packed_log_probs", lambda model, packed: right(model, packed) - 1.0)
    assert sequence_log_probs(model, SEQUENCES) == expected

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from selfalign.packing import can_pack, pack, packed_log_probs, rows_as_sequences
from selfalign.prefixes import forest_size, forests, tokens_to_read
from selfalign.training.logprobs import sequence_log_probs
from selfalign.training.micro_batch import gains, tokens_read
from selfalign.types import TokenSequence

TOKENS = st.lists(st.integers(1, 3), max_size=6).map(tuple)
SEQUENCES = st.lists(st.builds(TokenSequence, TOKENS.filter(bool), TOKENS), min_size=1, max_size=6)


@given(SEQUENCES)
def test_every_sequence_is_a_path_from_a_root_and_no_beginning_is_there_twice(sequences: list[TokenSequence]) -> None:
    packed = pack(sequences)
    mask, ids = packed.mask()[0, 0], packed.ids.tolist()
    paths = [tuple(ids[i] for i in row.nonzero().flatten()) for row in mask]
    assert len(set(paths)) == len(paths)
    assert [len(path) - 1 for path in paths] == packed.positions.tolist()
    texts = [tokens_to_read(s) for s in sequences]
    assert set(paths) == {text[: n + 1] for text in texts for n in range(len(text))}
    assert forest_size(texts) == len(ids)


@given(st.lists(TOKENS.filter(bool), max_size=12), st.integers(1, 20))
def test_forests_hold_every_text_once_and_keep_to_their_room(texts: list[tuple[int, ...]], room: int) -> None:
    found = forests(texts, room)
    assert sorted(index for forest in found for index in forest) == list(range(len(texts)))
    for forest in found:
        assert len(forest) == 1 or forest_size([texts[index] for index in forest]) <= room
    assert [texts[i] for forest in found for i in forest] == sorted(texts), "what begins alike is together"


@given(st.lists(TOKENS.filter(bool), min_size=1, max_size=7), st.integers(6, 20))
def test_forests_are_few_and_the_largest_is_small(texts: list[tuple[int, ...]], room: int) -> None:
    def shape(forests: Sequence[Sequence[tuple[int, ...]]]) -> tuple[int, int]:
        return len(forests), max(map(forest_size, forests))

    ordered = sorted(texts)
    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, len(texts)), n) for n in range(len(texts)))
    every = [[ordered[a:b] for a, b in itertools.pairwise((0, *cut, len(texts)))] for cut in cuts]
    best = min(shape(forests) for forests in every if shape(forests)[1] <= room)
    assert shape([[texts[i] for i in forest] for forest in forests(texts, room)]) == best


@given(SEQUENCES)
def test_each_completion_token_is_predicted_once_from_what_precedes_it(sequences: list[TokenSequence]) -> None:
    packed = pack(sequences)
    mask, ids = packed.mask()[0, 0], packed.ids
    found: list[list[int]] = [[] for _ in sequences]
    for column, target, owner in zip(*(t.tolist() for t in (packed.column, packed.target, packed.owner)), strict=True):
        node = packed.read_from[column]
        before = tuple(ids[mask[node]].tolist())
        sequence = sequences[owner]
        assert before == (*sequence.prompt_ids, *sequence.completion_ids)[: len(before)]
        found[owner].append(target)
    assert [tuple(targets) for targets in found] == [s.completion_ids for s in sequences]


@settings(max_examples=20, deadline=None)
@given(sequences=SEQUENCES)
def test_log_probs_and_gradients_are_those_of_each_sequence_alone(
    sequences: list[TokenSequence], loaded: torch.nn.Module
) -> None:
    alone = [sequence_log_probs(loaded, [sequence])[0] for sequence in sequences]
    packed = packed_log_probs(loaded, pack(sequences))
    assert packed.tolist() == pytest.approx(alone, abs=1e-4)


def test_the_gradient_is_that_of_plain_rows(loaded: torch.nn.Module) -> None:
    from selfalign.training.logprobs import summed_log_probs

    sequences = [
        TokenSequence((5, 6, 7), (8, 9)), TokenSequence((5, 6, 7), (8, 10, 11)), TokenSequence((4,), (3,))
    ]  # fmt: skip
    ids, attended, completion = (torch.zeros(3, 6, dtype=torch.long) for _ in range(3))
    for row, s in enumerate(sequences):
        n, m = len(s.prompt_ids), len(s.prompt_ids) + len(s.completion_ids)
        ids[row, :m] = torch.tensor([*s.prompt_ids, *s.completion_ids])
        attended[row, :m], completion[row, n:m] = 1, 1
    assert rows_as_sequences(ids, attended, completion) == sequences
    gradients = []
    for values in (summed_log_probs(loaded, ids, attended, completion), packed_log_probs(loaded, pack(sequences))):
        loaded.zero_grad()
        (values * torch.tensor([1.0, -0.5, 2.0])).sum().backward()
        gradients.append([p.grad.clone() for p in loaded.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, packed in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)


def test_packing_gains_where_beginnings_are_long_and_not_where_nothing_is_shared() -> None:
    prompt = tuple(range(100))
    shared = [TokenSequence(prompt, (number, 7)) for number in range(8)]
    apart = [TokenSequence((number, *prompt), (7,)) for number in range(8)]
    assert gains(len(pack(shared).ids), 8, 102)
    assert not gains(len(pack(apart).ids), 8, 102)
    assert (tokens_read(shared, True), tokens_read(shared, False)) == (100 + 8, 8 * 102)
    assert tokens_read(apart, True) == tokens_read(apart, False) == 8 * 102
    assert tokens_read([TokenSequence((1, 2), (3,)), TokenSequence((4,), (5,))], False) == 2 * 3, "padded"


def test_a_model_with_a_sliding_window_or_state_is_not_packed(loaded: torch.nn.Module) -> None:
    assert can_pack(loaded)
    for name, value in (("sliding_window", 128), ("layer_types", ["full_attention", "linear_attention"])):
        setattr(loaded.config, name, value)
        assert not can_pack(loaded)
        delattr(loaded.config, name)
    assert can_pack(loaded)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> torch.nn.Module:
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return model

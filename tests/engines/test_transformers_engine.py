"""On the tiny random model: real forward passes, compared with naive ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.engines import decoding
from selfalign.engines.chat import encode_plain
from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import BadInput, ConfigError, ModelError, StageFailed
from selfalign.types import Completion, GenerationRequest, SamplingParams, TokenSequence
from tests.tiny_model import make_tiny_model

TEXTS = ["Hi", "你好,世界。请用一句话介绍自己。", "Name three colours.", "x" * 90, "一二三四五六七八九十"]
SAMPLED = SamplingParams(temperature=1.0, top_p=0.95, max_tokens=24)

Make = Callable[..., TransformersEngine]


@pytest.fixture(scope="module")
def stopping_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, made to end answers early now and then.

    The head is tied to the embedding: scaled up, the end token's logit varies more than the others'.
    """
    folder = make_tiny_model(tmp_path_factory.mktemp("stopping") / "model", std=0.12)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.embed_tokens.weight[2] *= 4
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def make(stopping_model: Path) -> Make:
    def build(on_event: Any = None, **config: Any) -> TransformersEngine:
        return TransformersEngine(TransformersEngine.Config(**config), stopping_model, device="cpu", on_event=on_event)

    return build


@pytest.fixture(scope="module")
def engine(make: Make) -> TransformersEngine:
    return make()


@pytest.fixture(scope="module")
def reference(stopping_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(stopping_model).eval()


def requests(texts: Sequence[str] = TEXTS, samples: int = 3) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            text[:9], ({"role": "user", "content": text},), tuple(100 * len(text) + j for j in range(samples))
        )
        for text in texts
    ]


def same(left: Sequence[Completion], right: Sequence[Completion]) -> bool:
    return [(c.token_ids, c.finish_reason, c.text) for c in left] == [
        (c.token_ids, c.finish_reason, c.text) for c in right
    ] and np.allclose([c.logprob for c in left], [c.logprob for c in right], atol=1e-4)


def naive_log_probs(reference: Any, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = reference(torch.tensor([[*prompt, *completion]])).logits[0].double()
    table = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
    return table.gather(-1, torch.tensor(completion).unsqueeze(-1)).squeeze(-1).numpy()


def test_a_sample_does_not_depend_on_its_neighbours(engine: TransformersEngine, make: Make) -> None:
    together = engine.generate(requests(), SAMPLED)
    reasons = {c.finish_reason for group in together for c in group}
    assert reasons == {"stop", "length"}, "the fixture must show both endings"
    assert len({c.token_ids for group in together for c in group}) > 10
    for request, expected in zip(requests(), together, strict=True):
        assert same(engine.generate([request], SAMPLED)[0], expected)
        for seed, sample in zip(request.seeds, expected, strict=True):
            alone = GenerationRequest("alone", request.messages, (seed,))
            assert same(engine.generate([alone], SAMPLED)[0], [sample])
    backwards = engine.generate(requests()[::-1], SAMPLED)[::-1]
    in_pieces = make(max_rows=2).generate(requests(), SAMPLED)
    for expected, left, right in zip(together, backwards, in_pieces, strict=True):
        assert same(left, expected) and same(right, expected)


def test_the_plan_follows_the_budget_and_changes_no_sample(engine: TransformersEngine, make: Make) -> None:
    everything = engine.generate(requests(), SAMPLED)
    lengths = [len(engine.encode_prompt(r.messages)) for r in requests()]
    small = make(token_budget=400, max_rows=8)
    batches = small.plan(lengths, 3, SAMPLED.max_tokens)
    assert len(batches) > len(engine.plan(lengths, 3, SAMPLED.max_tokens))
    for batch in batches:
        for index, completions in zip(batch, small.generate([requests()[i] for i in batch], SAMPLED), strict=True):
            assert same(completions, everything[index])


def test_the_same_seed_gives_the_same_text(engine: TransformersEngine) -> None:
    request = GenerationRequest("r", ({"role": "user", "content": "Hi"},), (1, 1, 2, 1))
    first, second, other, fourth = engine.generate([request], SAMPLED)[0]
    # Some processors' kernels round the last rows of a product differently from the others.
    assert same([first, first], [second, fourth])
    assert other.token_ids != first.token_ids


def test_tokens_are_told_while_they_are_sampled(make: Make) -> None:
    engine, told = make(max_num_seqs=6), list[tuple[int, int]]()
    engine.on_tokens = lambda tokens, ended: told.append((tokens, ended))
    made = [completion for group in engine.generate(requests(), SAMPLED) for completion in group]
    assert any(c.end_token_id is not None for c in made) and len(told) > 1
    assert sum(tokens for tokens, _ in told) == sum(len(c.token_ids) + (c.end_token_id is not None) for c in made)
    assert sum(ended for _, ended in told) == len(made)


@pytest.mark.parametrize("params", [SAMPLED, SamplingParams(0.6, 1.0, 0, 16), SamplingParams(0.0, 1.0, 0, 16)], ids=str)
def test_logprob_is_that_of_log_probs(engine: TransformersEngine, params: SamplingParams) -> None:
    for request, completions in zip(requests(), engine.generate(requests(), params), strict=True):
        prompt = engine.encode_prompt(request.messages)
        ends = [(*c.token_ids, *((2,) if c.finish_reason == "stop" else ())) for c in completions]
        values = engine.log_probs([TokenSequence(prompt, end) for end in ends])
        assert [float(v.sum()) for v in values] == pytest.approx([c.logprob for c in completions], abs=1e-4)
        assert all(c.n_prompt_tokens == len(prompt) for c in completions)


def test_greedy_is_token_for_token_that_of_hugging_face(
    engine: TransformersEngine, reference: Any, stopping_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stopping_model)
    found = engine.generate(requests(samples=1), SamplingParams(temperature=0, max_tokens=32))
    for request, (completion,) in zip(requests(samples=1), found, strict=True):
        prompt = torch.tensor([engine.encode_prompt(request.messages)])
        ids = reference.generate(prompt, max_new_tokens=32, do_sample=False)[0, prompt.shape[1] :].tolist()
        ended = ids[-1] == tokenizer.eos_token_id
        assert completion.token_ids == tuple(ids[:-1] if ended else ids)
        assert completion.finish_reason == ("stop" if ended else "length")
        assert completion.text == tokenizer.decode(completion.token_ids, skip_special_tokens=True)


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["never compacted", "compacted at once"])
def test_compaction_changes_nothing(engine: TransformersEngine, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine.generate(requests(), SAMPLED)
    monkeypatch.setattr(decoding, "COMPACT_AT", share)
    for left, right in zip(engine.generate(requests(), SAMPLED), expected, strict=True):
        assert same(left, right)


def test_finished_rows_leave_the_batch(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    extend = decoding.extend

    def spy(model: Any, context: Any, tokens: torch.Tensor) -> None:
        extend(model, context, tokens)
        keys = context.cache.layers[0].keys
        assert keys.shape[0] == len(tokens) and keys.shape[2] == context.mask.shape[1] == int(context.mask.sum(1).max())
        sizes.append(len(tokens))

    monkeypatch.setattr(decoding, "extend", spy)
    engine.generate(requests(samples=6), SamplingParams(max_tokens=150))
    assert sizes[0] == 30 and sizes[-1] < 20 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("config", "most"),
    [({}, 64), ({"max_num_seqs": 24}, 24), ({"max_rows": 10}, 10), ({"token_budget": 1600}, 25)],
    ids=["all at once", "by places", "by the batch", "by tokens"],
)
def test_64_samples_read_their_prompt_once(
    make: Make, engine: TransformersEngine, config: dict[str, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = requests([TEXTS[2]], samples=64)
    # 38 tokens of prompt and 24 new ones: 1,600 hold 25 rows.
    assert len(engine.encode_prompt(request.messages)) == 38
    expected = engine.generate([request], SAMPLED)[0]
    read, sizes = spies(monkeypatch)
    assert same(make(**config).generate([request], SAMPLED)[0], expected)
    # Rows enter by the quarter.
    assert read == [(1, 38)] and most - most // 4 <= max(sizes) <= most
    assert len({completion.token_ids for completion in expected}) == 64


def spies(monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[int, int]], list[int]]:
    """(prompts, tokens of the longest) of every reading, and the rows of every step, as they come."""
    read, sizes = list[tuple[int, int]](), list[int]()
    prefill, extend = decoding.prefill, decoding.extend

    def spy_prefill(model: Any, prompts: Sequence[Sequence[int]], prefix: Any = None) -> Any:
        read.append((len(prompts), max(map(len, prompts))))
        return prefill(model, prompts, prefix)

    def spy_extend(model: Any, context: Any, tokens: torch.Tensor) -> None:
        sizes.append(len(tokens))
        extend(model, context, tokens)

    monkeypatch.setattr(decoding, "prefill", spy_prefill)
    monkeypatch.setattr(decoding, "extend", spy_extend)
    return read, sizes


@pytest.fixture
def garbage() -> Iterator[None]:
    """Memory that nobody has written to is NaN, instead of what happens to be there."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("together", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("params", [SAMPLED, SamplingParams(0.0, 1.0, 0, 24)], ids=["sampled", "greedy"])
@pytest.mark.usefixtures("garbage")
def test_waiting_rows_enter_as_rows_end(
    make: Make, together: int, params: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, "Say it in one word.", "y" * 40, "Why?"]
    asked = requests(texts, samples=4)
    expected = make().generate(asked, params)
    _, sizes = spies(monkeypatch)
    engine = make(max_num_seqs=together)
    for left, right in zip(engine.generate(asked, params), expected, strict=True):
        assert same(left, right)
    assert max(sizes) <= together
    steps = sum(len(c.token_ids) for group in expected for c in group)
    if together > 3:
        # While rows wait, less than half of the places is ever free.
        assert len(sizes) < steps / together * 1.5
    again = make(max_num_seqs=together).generate(asked, params)
    assert [[c.logprob for c in group] for group in again] == [
        [c.logprob for c in group] for group in engine.generate(asked, params)
    ], "the same requests have the same neighbours, to the last bit"


def test_what_all_prompts_begin_with_is_read_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning = "A long introduction that every request repeats. "
    asked = requests([beginning + text for text in TEXTS], samples=4)
    expected = [make().generate([request], SAMPLED)[0] for request in asked]
    read, _ = spies(monkeypatch)
    engine = make(max_num_seqs=8)
    for left, right in zip(engine.generate(asked, SAMPLED), expected, strict=True):
        assert same(left, right)
    lengths = [len(engine.encode_prompt(request.messages)) for request in asked]
    (_, shared), *rests = read
    assert shared >= len(beginning) and len(rests) > 1
    assert sum(number for number, _ in rests) == len(asked)
    assert max(longest for _, longest in rests) == max(lengths) - shared


def test_a_prompt_is_read_once_also_where_memory_is_short(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    (request,) = requests([TEXTS[2]], samples=16)
    expected = make().generate([request], SAMPLED)[0]
    short = make()
    limit_rows(short, 5)
    read, _ = spies(monkeypatch)
    assert same(short.generate([request], SAMPLED)[0], expected)
    assert [prompts for prompts, _ in read] == [1]


def go(engine: TransformersEngine, way: str) -> None:
    """Have what the engine found out about its model be what sends it the other ways."""
    assert engine._head_is_plain and engine._packs and engine._by_blocks == (engine.device == "cpu")
    engine._head_is_plain = way != "whole logits"
    engine._packs = way in {"by blocks", "packed"}
    engine._by_blocks = way == "by blocks"


@pytest.mark.parametrize("choices", [["0", "1", "5"], ["yes", "no", "不确定", "n"]], ids=["one token", "several"])
@pytest.mark.parametrize("rubric", ["", "Judge the answer by these criteria. " * 3], ids=["no prefix", "shared prefix"])
@pytest.mark.parametrize("token_budget", [8192, 200])
@pytest.mark.parametrize("way", ["by blocks", "packed", "padded"])
def test_choices_equal_a_naive_forward(
    make: Make, reference: Any, choices: list[str], rubric: str, token_budget: int, way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("selfalign.engines.scoring.FOREST_TOKENS", token_budget // 4)
    engine = make(token_budget=token_budget)
    go(engine, way)
    prompts = [engine.encode_prompt(({"role": "user", "content": rubric + text},), "Score: ") for text in TEXTS]
    found = engine.score_choices(prompts, choices)
    assert found.dtype == np.float64 and found.shape == (len(prompts), len(choices))
    encoded = [list(choice.encode()) for choice in choices]
    tokenizer = engine._tokenizer
    for row, prompt in zip(found, prompts, strict=True):
        for value, choice, raw in zip(row, choices, encoded, strict=True):
            tokens = tokenizer(choice, add_special_tokens=False)["input_ids"]
            assert len(tokens) == len(raw)
            assert value == pytest.approx(naive_log_probs(reference, prompt, tokens).sum(), abs=1e-4)


def test_a_prompt_that_is_the_whole_shared_prefix(engine: TransformersEngine, reference: Any) -> None:
    prompt = engine.encode_prompt(({"role": "user", "content": "The same question, asked twice."},))
    found = engine.score_choices([prompt, prompt, (*prompt, 9)], ["A"])
    token = engine._tokenizer("A", add_special_tokens=False)["input_ids"]
    assert found[0, 0] == pytest.approx(naive_log_probs(reference, prompt, token).sum(), abs=1e-4)
    assert found[2, 0] == pytest.approx(naive_log_probs(reference, (*prompt, 9), token).sum(), abs=1e-4)


def test_scoring_nothing(engine: TransformersEngine) -> None:
    assert engine.score_choices([], ["a"]).shape == (0, 1)
    assert engine.log_probs([]) == []
    assert engine.generate([], SAMPLED) == []
    with pytest.raises(BadInput, match="has no tokens"):
        engine.score_choices([(5,)], [""])


@pytest.mark.parametrize("way", ["by blocks", "packed", "head on completion positions", "whole logits"])
def test_log_probs_equal_a_naive_forward(make: Make, reference: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(token_budget=256)
    go(engine, way)
    monkeypatch.setattr("selfalign.engines.scoring._HEAD_POSITIONS", 7)
    rng = np.random.default_rng(1)
    sequences = [
        TokenSequence(tuple(rng.integers(3, 259, size=p).tolist()), tuple(rng.integers(2, 259, size=c).tolist()))
        for p, c in [(1, 30), (60, 1), (5, 0), (40, 90), (12, 3)]
    ]
    found = engine.log_probs(sequences)
    for sequence, values in zip(sequences, found, strict=True):
        assert values.dtype == np.float64 and len(values) == len(sequence.completion_ids)
        if len(values):
            expected = naive_log_probs(reference, sequence.prompt_ids, sequence.completion_ids)
            np.testing.assert_allclose(values, expected, atol=1e-4)


def limit_rows(engine: TransformersEngine, most: int) -> None:
    """Let the real model fail as a full GPU would, above ``most`` rows."""
    forward = engine._model.base_model.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(*args, **kwargs)

    engine._model.base_model.forward = limited


@pytest.mark.parametrize("most", [7, 2, 1])
def test_out_of_memory_halves_the_batch_and_changes_nothing(
    make: Make, engine: TransformersEngine, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    short = make(on_event=lambda kind, message: events.append((kind, message)))
    limit_rows(short, most)
    for left, right in zip(short.generate(requests(), SAMPLED), engine.generate(requests(), SAMPLED), strict=True):
        assert same(left, right)
    assert {kind for kind, _ in events} == {"oom_backoff"}
    assert "out of memory with 15 rows" in events[0][1]
    seen = len(events)
    short.generate(requests(), SAMPLED)
    assert len(events) == seen, "the size that failed is not tried again"
    prompts = [engine.encode_prompt(r.messages) for r in requests()]
    monkeypatch.setattr("selfalign.engines.scoring.FOREST_TOKENS", 16)
    np.testing.assert_allclose(short.score_choices(prompts, ["a"]), engine.score_choices(prompts, ["a"]), atol=1e-4)


def test_a_single_sample_that_does_not_fit_stops_with_advice(make: Make) -> None:
    engine = make()
    limit_rows(engine, 0)
    with pytest.raises(StageFailed, match=r"single sequence.*lower generate.max_tokens"):
        engine.generate(requests(), SAMPLED)


def test_other_errors_are_not_taken_for_a_lack_of_memory(make: Make) -> None:
    engine = make()

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    engine._model.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.generate(requests(), SAMPLED)


def test_a_full_window_is_refused_before_any_work(engine: TransformersEngine) -> None:
    long = requests([TEXTS[0], "y" * 1010])
    with pytest.raises(BadInput, match=r"request yyyyyyyyy: \d+ prompt tokens and 24 of max_tokens exceed .* 1024"):
        engine.generate(long, SAMPLED)
    with pytest.raises(BadInput, match="sequence 0"):
        engine.log_probs([TokenSequence((5,) * 1000, (6,) * 25)])
    with pytest.raises(BadInput, match="prompt 0: the prompt is empty"):
        engine.score_choices([()], ["a"])


def test_weights_that_are_not_numbers_stop_the_stage(make: Make) -> None:
    engine = make()
    with torch.no_grad():
        engine._model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(StageFailed, match="not a number"):
        engine.generate(requests(samples=1), SAMPLED)


def test_prompts_are_templated_and_prefix_safe(engine: TransformersEngine) -> None:
    messages = ({"role": "user", "content": "Hi"},)
    bare, prefixed = engine.encode_prompt(messages), engine.encode_prompt(messages, "Score: ")
    assert prefixed[: len(bare)] == bare and len(prefixed) == len(bare) + 7
    assert engine._tokenizer.decode(bare) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_what_an_engine_says_of_itself(engine: TransformersEngine, reference: Any, stopping_model: Path) -> None:
    from selfalign.identity import hash_tokenizer, hash_weights

    assert engine.weights_hash == hash_weights(stopping_model)
    assert engine.tokenizer_hash == hash_tokenizer(stopping_model)
    assert (engine.context_length, engine.device, engine.dtype) == (1024, "cpu", "float32")
    assert engine.parameters == sum(p.numel() for p in reference.parameters())
    assert engine.end_token_ids == (2,)


def test_models_that_cannot_be_used(tmp_path: Path, tiny_model: Path) -> None:
    config = TransformersEngine.Config()
    with pytest.raises(ConfigError, match="unknown"):
        TransformersEngine(config, tiny_model, dtype="float8")
    with pytest.raises(ModelError, match=r"no \*.safetensors"):
        TransformersEngine(config, tmp_path)
    engine = TransformersEngine(config, tiny_model)
    engine._tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        engine.encode_prompt(({"role": "user", "content": "Hi"},))


def test_several_end_tokens_are_all_honoured(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.eos_token_id = list(range(3, 60))
    model.save_pretrained(folder)
    engine = TransformersEngine(TransformersEngine.Config(), folder)
    assert engine.end_token_ids == tuple(range(2, 60))
    for completion in (c for group in engine.generate(requests(), SAMPLED) for c in group):
        assert not set(completion.token_ids) & set(range(2, 60))


@pytest.mark.parametrize(
    ("device", "parameters", "flags", "expected"),
    [
        ("cpu", 135_000_000, ["amx_bf16"], "float32"),
        ("cpu", 7_000_000_000, ["avx2"], "float32"),
        ("cpu", 7_000_000_000, ["avx512_bf16"], "bfloat16"),
    ],
)
def test_dtype_follows_the_hardware(device: str, parameters: int, flags: list[str], expected: str) -> None:
    from selfalign.engines.loading import choose_dtype

    assert choose_dtype("auto", device, parameters, flags) == expected
    assert choose_dtype("float16", device, parameters, flags) == "float16"


def test_sliding_windows_are_respected(tmp_path: Path) -> None:
    """A cache with sliding layers takes the careful paths: no trimmed padding, no shared prefix, no cropping."""
    from transformers import MistralConfig, MistralForCausalLM

    folder = make_tiny_model(tmp_path / "model")
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=16, eos_token_id=2, initializer_range=0.1,
        pad_token_id=0, bos_token_id=1,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    model.save_pretrained(folder)
    engine = TransformersEngine(TransformersEngine.Config(), folder)
    for request, completions in zip(requests(), engine.generate(requests(), SAMPLED), strict=True):
        assert same(engine.generate([request], SAMPLED)[0], completions)
        prompt = engine.encode_prompt(request.messages)
        for c in completions:
            ids = [*c.token_ids, *([2] if c.finish_reason == "stop" else [])]
            assert c.logprob == pytest.approx(naive_log_probs(model, prompt, ids).sum(), abs=1e-4)
    prompts = [
        engine.encode_prompt(({"role": "user", "content": "A rubric shared by all. " + text},)) for text in TEXTS
    ]
    for row, prompt in zip(engine.score_choices(prompts, ["a", "bc"]), prompts, strict=True):
        for value, choice in zip(row, ["a", "bc"], strict=True):
            tokens = engine._tokenizer(choice, add_special_tokens=False)["input_ids"]
            assert value == pytest.approx(naive_log_probs(model, prompt, tokens).sum(), abs=1e-4)


def test_the_config_is_validated_without_torch() -> None:
    code = (
        "import sys; from selfalign.engines.transformers_engine import TransformersEngine as E; E.Config(max_rows=3);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_closing_gives_the_model_back(make: Make) -> None:
    engine = make()
    engine.close()
    assert engine._model is None
    engine.close()


def test_plain_text_is_encoded_as_the_tokenizer_does_it(engine: TransformersEngine) -> None:
    assert engine.encode_text("Hello, 你好.") == tuple(engine._tokenizer("Hello, 你好.")["input_ids"])
    assert engine.encode_text("") == ()


def test_an_end_token_is_not_part_of_a_text() -> None:
    class Ending:
        eos_token_id = 2

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, *text.encode(), 2]}

    assert encode_plain(Ending(), "ab") == (1, 97, 98)

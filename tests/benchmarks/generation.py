"""Sampling: our engines against ``transformers.generate`` in fixed batches, raw vLLM, and the matrix-product ceiling.

The work is ``SAMPLES`` samples of each prompt, at most ``MAX_TOKENS`` tokens. A rate is of sampled tokens, end tokens
included; loading the model and one small warming batch are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.corpus import MAX_TOKENS, SAMPLES, TEMPERATURE, TOP_P, model_folder, texts
from tests.benchmarks.measure import Measure, Row, Side, Stopwatch, paired, ratios, skipped

#: As many as a small round has: 256 samples.
PROMPTS = 64
#: Fixed batches take five times as long, and as long for every batch: half of the prompts say what they say.
FEW_PROMPTS = 32
#: Rows (prompts x samples) of a fixed batch; 32 are slower (319 s where 64 took 305).
BATCH = 64


def fixed_rows(work: Path, runs: int) -> list[Row]:
    """The table's line about fixed batches."""
    mine, theirs = paired(
        [
            Side("transformers engine", "generation:ours", {"engine": "transformers", "prompts": FEW_PROMPTS}),
            Side(f"generate, {BATCH} rows", "generation:fixed_batches", {"batch": BATCH, "prompts": FEW_PROMPTS}),
        ],
        runs,
    )
    name = f"generation, against generate in batches of {BATCH}"
    return [ratios(name, mine, theirs, "tokens/s", goal="at least 1.5")]


def rows(work: Path, runs: int, vllm_python: str | None) -> list[Row]:
    """The table's lines about vLLM and the ceiling."""
    own = Side("transformers engine", "generation:ours", {"engine": "transformers"})
    ceiling = Side("ceiling", "machine:ceiling")
    if vllm_python is None:
        mine, most = paired([own, ceiling], runs)
        return [
            against_ceiling("transformers engine", mine, most),
            skipped("generation by vLLM, against raw vLLM", "tokens/s", "no environment with vLLM", "at least 0.97"),
        ]
    raw = Side("LLM.chat", "generation:raw_vllm", {}, vllm_python)
    by_vllm = Side("vllm engine", "generation:ours", {"engine": "vllm"}, vllm_python)
    mine, with_vllm, theirs, most = paired([own, by_vllm, raw, ceiling], runs)
    return [
        against_ceiling("transformers engine", mine, most),
        ratios("generation by vLLM, against raw vLLM", with_vllm, theirs, "tokens/s", goal="at least 0.97"),
        ratios("generation, against raw vLLM", mine, theirs, "tokens/s"),
        against_ceiling("vLLM engine", with_vllm, most),
    ]


def against_ceiling(name: str, mine: Sequence[Measure], most: Sequence[Measure]) -> Row:
    """Share of the ceiling that the products of each sampled token take; prompts and attention are not counted."""
    weights = mine[0].check["parameters"]
    return ratios(
        f"{name}, share of the matrix-product ceiling",
        [Measure(m.units * 2 * weights / 1e9, m.seconds, memory_mib=m.memory_mib) for m in mine],
        [Measure(m.units / 1e9, m.seconds, memory_mib=m.memory_mib) for m in most],
        "GFLOP/s", goal="at least 0.5",
    )  # fmt: skip


def ours(
    engine: str, prompts: int = PROMPTS, samples: int = SAMPLES, max_tokens: int = MAX_TOKENS, **config: Any
) -> Measure:
    from selfalign.engines.loading import count_parameters
    from selfalign.registry import find
    from selfalign.types import GenerationRequest, SamplingParams

    folder = model_folder()
    kind = find("engine", engine).load()
    made = kind(kind.Config(**config), folder)
    params = SamplingParams(TEMPERATURE, TOP_P, 0, max_tokens)
    requests = [
        GenerationRequest(str(i), ({"role": "user", "content": text},), tuple(range(i * samples, (i + 1) * samples)))
        for i, text in enumerate(texts(prompts))
    ]
    made.generate([GenerationRequest("warm", requests[0].messages, (0,))], SamplingParams(TEMPERATURE, TOP_P, 0, 4))
    watch = Stopwatch()
    lengths = [len(made.encode_prompt(request.messages)) for request in requests]
    completions = [
        completion
        for batch in made.plan(lengths, samples, max_tokens)
        for group in made.generate([requests[i] for i in batch], params)
        for completion in group
    ]
    watch.stop()
    tokens = sum(len(c.token_ids) + (c.end_token_id is not None) for c in completions)
    made.close()
    return watch.measure(tokens, {"parameters": count_parameters(folder), "samples": len(completions)})


def fixed_batches(batch: int, prompts: int = PROMPTS, samples: int = SAMPLES, max_tokens: int = MAX_TOKENS) -> Measure:
    """As transformers' documentation has it: padded on the left, ``num_return_sequences`` samples a prompt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    shown = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in texts(prompts)
    ]

    def generate(some: list[str], limit: int, each: int) -> Any:
        inputs = tokenizer(some, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                **inputs, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0, max_new_tokens=limit,
                num_return_sequences=each, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        return made[:, inputs["input_ids"].shape[1] :]

    generate(shown[:1], 4, 1)
    tokens, count = 0, 0
    step = max(1, batch // samples)
    watch = Stopwatch()
    for at in range(0, len(shown), step):
        for answer in generate(shown[at : at + step], max_tokens, samples).tolist():
            ended = tokenizer.eos_token_id in answer
            tokens += answer.index(tokenizer.eos_token_id) + 1 if ended else len(answer)
            count += 1
    watch.stop()
    return watch.measure(tokens, {"samples": count})


def raw_vllm(prompts: int = PROMPTS, samples: int = SAMPLES, max_tokens: int = MAX_TOKENS) -> Measure:
    """``LLM.chat`` on all prompts at once, which is how vLLM is fastest; with the room for its cache that ours has.

    Samples have no seeds of their own, as ours have: with them 0.32 fails on a CPU where prompts are read in parts.
    """
    import os

    from selfalign.engines import vllm_install

    os.environ.update(vllm_install.variables(1, False, "cpu", os.environ))
    import vllm

    llm = vllm.LLM(
        str(model_folder()), dtype="float32", seed=0, generation_config="vllm", kv_cache_memory_bytes=1 << 30
    )
    params = vllm.SamplingParams(n=samples, temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens)
    asked = [[{"role": "user", "content": text}] for text in texts(prompts)]
    llm.chat(asked[:1], vllm.SamplingParams(max_tokens=4), use_tqdm=False)
    watch = Stopwatch()
    outputs = llm.chat(asked, params, use_tqdm=False)
    watch.stop()
    answers = [answer for output in outputs for answer in output.outputs]
    return watch.measure(sum(len(answer.token_ids) for answer in answers), {"samples": len(answers)})

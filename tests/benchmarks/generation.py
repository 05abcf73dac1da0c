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
#: Rows (prompts x samples) of a fixed batch, as users set them.
BATCHES = (32, 64)


def rows(work: Path, runs: int, vllm_python: str | None) -> list[Row]:
    """The table's lines about sampling."""
    ours = Side("transformers engine", "generation:ours", {"engine": "transformers"})
    peers = [Side(f"generate, {n} rows", "generation:fixed_batches", {"batch": n}) for n in BATCHES]
    ceiling = Side("ceiling", "machine:ceiling")
    mine, *theirs, most = paired([ours, *peers, ceiling], runs)
    found = [
        ratios(f"generation, against generate in batches of {n}", mine, peer, "tokens/s", goal="at least 1.5")
        for n, peer in zip(BATCHES, theirs, strict=True)
    ]
    found.append(against_ceiling("transformers engine", mine, most))
    if vllm_python is None:
        return [
            *found,
            skipped("generation by vLLM, against raw vLLM", "tokens/s", "no environment with vLLM", "at least 0.97"),
        ]
    ours = Side("vllm engine", "generation:ours", {"engine": "vllm"}, vllm_python)
    raw = Side("LLM.chat", "generation:raw_vllm", {}, vllm_python)
    mine, theirs, most = paired([ours, raw, ceiling], runs)
    found.append(ratios("generation by vLLM, against raw vLLM", mine, theirs, "tokens/s", goal="at least 0.97"))
    found.append(against_ceiling("vLLM engine", mine, most))
    return found


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
    """``LLM.chat`` on all prompts at once, which is how vLLM is fastest; with the room for its cache that ours has."""
    import os

    from selfalign.engines import vllm_install

    os.environ.update(vllm_install.variables(1, False, "cpu", os.environ))
    import vllm

    llm = vllm.LLM(
        str(model_folder()), dtype="float32", seed=0, generation_config="vllm", kv_cache_memory_bytes=1 << 30
    )
    params = vllm.SamplingParams(n=samples, temperature=TEMPERATURE, top_p=TOP_P, max_tokens=max_tokens, seed=0)
    asked = [[{"role": "user", "content": text}] for text in texts(prompts)]
    llm.chat(asked[:1], vllm.SamplingParams(max_tokens=4), use_tqdm=False)
    watch = Stopwatch()
    outputs = llm.chat(asked, params, use_tqdm=False)
    watch.stop()
    answers = [answer for output in outputs for answer in output.outputs]
    return watch.measure(sum(len(answer.token_ids) for answer in answers), {"samples": len(answers)})

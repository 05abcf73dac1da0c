"""Which engine ``generate.engine: auto`` means on this machine, and why: a pure function of a few facts."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign.engines.vllm_install import Machine

#: Parameters x sampled tokens of a round from which vLLM is worth its start-up on a CPU. Measured with float32 on two
#: AVX2 cores and 135M parameters: 238 against 205 tokens/s with many samples, and 15 s more to start each of about
#: three stages that sample or judge: 65,000 tokens.
CPU_PAYS_FROM = 135e6 * 65_000


@dataclass(frozen=True)
class Choice:
    """``engine`` is a registered name; ``why`` is for people."""

    engine: str
    why: str


def choose(machine: Machine, parameters: int, tokens: int) -> Choice:
    """``tokens`` are what a round samples of training prompts, ``parameters`` the model's."""
    if machine.build is None:
        return Choice("transformers", "vllm is not installed")
    if machine.gpu:
        if machine.build == "cuda":
            return Choice("vllm", "there is a GPU and vllm is installed for it")
        return Choice("transformers", "the run is on a GPU, and the installed vllm is built for CPUs")
    if machine.build == "cuda":
        return Choice("transformers", "the run is on a CPU, and the installed vllm is built for CUDA")
    from_tokens = round(CPU_PAYS_FROM / max(parameters, 1))
    if tokens < from_tokens:
        return Choice(
            "transformers",
            f"a round samples about {tokens:,} tokens, and on a CPU vllm pays for its start-up from {from_tokens:,} on",
        )
    return Choice("vllm", f"vllm is installed, and a round samples about {tokens:,} tokens, enough for its start-up")

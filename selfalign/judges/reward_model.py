"""A trained reward model as a judge: s((r - mean) / std), with mean and std of the rewards it was trained on.

Any sequence-classification model with one output will do; ``selfalign reward`` trains one from a run's own pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.errors import ConfigError, ModelError, WeightsMismatch
from selfalign.identity import content_id, hash_tokenizer, hash_weights
from selfalign.judges.rows import row
from selfalign.protocols import JudgeContext
from selfalign.types import JudgeItem, Judgement

#: Beside the weights; training/reward.py writes it.
RECORD = "reward.json"


class RewardModelJudge:
    """One row a candidate. ``weights_hash`` of a row stays None: that column is about the run's own models.

    The prompt is shown by the model's chat template, without a system prompt; the answer ends with the end token
    unless it was cut off. What is longer than ``max_length`` is "truncated", never judged in part.
    """

    name = "reward_model"
    score_range = (0.0, 1.0)
    min_valid_votes = 1

    class Config(Settings):
        id: Literal["reward_model"] = "reward_model"
        path: str = Field(min_length=1, description="folder of a reward model, e.g. from selfalign reward")
        max_length: int = Field(1024, ge=2, description="tokens of prompt and answer")
        batch_size: int = Field(16, ge=1, description="answers read together")
        device: str = Field("auto", description="auto, cpu, cuda, cuda:1 ...")
        mean: float | None = Field(None, description="mean reward; by default as reward.json beside the weights says")
        std: float | None = Field(None, gt=0, description="standard deviation of rewards, likewise")

        @model_validator(mode="after")
        def _both(self) -> RewardModelJudge.Config:
            if (self.mean is None) != (self.std is None):
                raise ValueError("mean and std belong together; give both, or neither")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises ModelError: no reward model there. ConfigError: nobody says how its rewards spread."""
        self.config = config
        self._context = context
        self._folder = Path(config.path).expanduser()
        record = _record(self._folder)
        self._weights_hash = str(record.get("weights_hash") or "") or hash_weights(self._folder)
        self._mean, self._std = _scale(config, record)
        self.judge_hash = content_id(
            "judge",
            self.name,
            self._weights_hash,
            hash_tokenizer(self._folder),
            config.max_length,
            self._mean,
            self._std,
        )
        self._loaded: tuple[Any, Any] | None = None
        self._encoded: dict[str, tuple[int, ...]] = {}

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return False

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge; batches of similar lengths."""
        order = sorted(range(len(items)), key=lambda i: (-len(self._encode(items[i])), items[i].candidate.candidate_id))
        size = self.config.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge.

        Raises:
            WeightsMismatch: the folder's weights are not those of its reward.json.
        """
        encoded = [self._encode(item) for item in items]
        fits = [len(ids) <= self.config.max_length for ids in encoded]
        rewards = iter(self._rewards([ids for ids, fit in zip(encoded, fits, strict=True) if fit]))
        return [
            self._row(item, next(rewards)) if fit else self._too_long(item, len(ids))
            for item, ids, fit in zip(items, encoded, fits, strict=True)
        ]

    def _row(self, item: JudgeItem, reward: float) -> Judgement:
        detail: dict[str, Any] = {"weights_hash": self._weights_hash}
        if not math.isfinite(reward):
            return row(self, self._context.round, item, "parse_error", detail={**detail, "reward": str(reward)})
        score = squash(reward, self._mean, self._std)
        return row(self, self._context.round, item, "ok", score=score, detail={**detail, "reward": reward})

    def _too_long(self, item: JudgeItem, length: int) -> Judgement:
        detail = {"weights_hash": self._weights_hash, "n_tokens": length, "max_length": self.config.max_length}
        return row(self, self._context.round, item, "truncated", detail=detail)

    def _rewards(self, sequences: Sequence[tuple[int, ...]]) -> list[float]:
        """Rewards in order of ``sequences``, which are one batch."""
        if not sequences:
            return []
        import torch

        model, tokenizer = self._load()
        batch = tokenizer.pad(
            {"input_ids": [list(ids) for ids in sequences]}, padding_side="right", return_tensors="pt"
        )
        with torch.inference_mode():
            logits = model(**batch.to(model.device)).logits[:, 0]
        return [float(value) for value in logits.float().tolist()]

    def _encode(self, item: JudgeItem) -> tuple[int, ...]:
        known = self._encoded.get(item.candidate.candidate_id)
        if known is None:
            tokenizer = self._load()[1]
            asked = [{"role": "user", "content": item.prompt.text}]
            text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            ids = [*_ids(tokenizer, text), *_ids(tokenizer, item.candidate.text)]
            ended = item.candidate.finish_reason == "stop" and tokenizer.eos_token_id is not None
            known = tuple([*ids, tokenizer.eos_token_id] if ended else ids)
            self._encoded[item.candidate.candidate_id] = known
        return known

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = _load(self._folder, self.config.device, self._weights_hash)
        return self._loaded


def squash(reward: float, mean: float, std: float) -> float:
    """1 / (1 + exp(-(reward - mean) / std)), in [0, 1]."""
    z = (reward - mean) / std
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(max(z, -700.0)) / (1 + math.exp(max(z, -700.0)))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _record(folder: Path) -> Mapping[str, Any]:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no reward model here; train one with selfalign reward RUN --output {folder}")
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / RECORD}: cannot be read: {error}; train the model again") from None
    return found if isinstance(found, dict) else {}


def _scale(config: RewardModelJudge.Config, record: Mapping[str, Any]) -> tuple[float, float]:
    mean, std = (config.mean, config.std) if config.mean is not None else (record.get("mean"), record.get("std"))
    if not isinstance(mean, int | float) or not isinstance(std, int | float) or std <= 0:
        raise ConfigError(
            f"judge 'reward_model': {config.path} has no {RECORD} with mean and std of its rewards; set both in the config"
        )
    return float(mean), float(std)


def _load(folder: Path, device: str, weights_hash: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if (found := hash_weights(folder)) != weights_hash:
        raise WeightsMismatch(
            f"{folder}: holds weights {found[:12]}, its {RECORD} names {weights_hash[:12]}; train it again"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a reward model: {str(error).splitlines()[0]}") from None
    if model.config.num_labels != 1:
        raise ModelError(f"{folder}: has {model.config.num_labels} outputs, a reward model has one")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if not tokenizer.chat_template:
        raise ModelError(f"{folder}: its tokenizer has no chat template; add a chat_template.jinja to the folder")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return model.to(where).eval(), tokenizer

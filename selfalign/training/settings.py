"""Settings every trainer shares. Nothing heavy is imported here: a config is validated without torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from selfalign.config import Settings
from selfalign.errors import ConfigError

#: Methods whose adapter is two small matrices a layer, added into the weights at a round's end.
LOW_RANK = ("lora", "dora", "pissa", "qlora")
#: Of these, the ones whose adapter can go on over rounds.
_STACKABLE = ("lora", "dora")
#: Examples that a training's final figures are measured on.
MEASURED = 64
_NOT_MERGEABLE = (
    "method {method} cannot be used: virtual tokens change what the model says before the first step, so that no training "
    "would start at its parent's log-probabilities, and they cannot be merged into weights for the next round or another "
    "engine; use lora, dora, pissa or qlora (docs/adapters.md)"
)


class LoraSettings(Settings):
    """A low-rank adapter: LoRA (arXiv 2106.09685), DoRA (2402.09353), PiSSA (2404.02948) or QLoRA (2305.14314)."""

    r: int = Field(16, ge=1, description="rank of the update")
    alpha: float | None = Field(None, gt=0, description="the update is scaled by alpha / r; null: 32, with pissa r")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapter's input; must be 0 with pissa")
    targets: str | list[str] = Field("all-linear", description="module names; all-linear leaves lm_head out")
    rslora: bool = Field(False, description="scale by alpha / sqrt(r) instead (arXiv 2312.03732)")
    niter: int | None = Field(16, ge=1, description="pissa: iterations of the fast SVD; null: exact, and slow")
    chain: Literal["merge", "stack"] = Field(
        "merge", description="merge: each round merges its adapter and begins a new one; stack: one goes on over rounds"
    )

    @model_validator(mode="after")
    def _not_the_head(self) -> LoraSettings:
        named = [self.targets] if isinstance(self.targets, str) else self.targets
        if not named or "lm_head" in named:
            raise ValueError("lora.targets must name modules other than lm_head; its adapter would not be trained")
        return self


class QuantiseSettings(Settings):
    """Four-bit weights under a QLoRA adapter, by bitsandbytes (arXiv 2305.14314, section 3)."""

    type: Literal["nf4", "fp4"] = Field(
        "nf4", description="the four-bit type; nf4 is made for normally distributed weights"
    )
    double: bool = Field(True, description="quantise the scales, too: 0.37 bits a weight less")


class Average(Settings):
    """An exponential moving average of M_0 ... M_t-1 (training/average.py), updated once a round.

    TR-DPO (arXiv 2404.09656) updates its reference in the same way, with alpha = 1 - ema.
    """

    ema: float = Field(gt=0, lt=1, description="decay: what stays of the average when a round's model is added")


def _reference(value: Any) -> Any:
    if isinstance(value, dict):
        return Average.model_validate(value)
    if value not in ("previous", "initial") and not isinstance(value, Average):
        raise ValueError("must be previous, initial or {ema: DECAY}, e.g. {ema: 0.5}")
    return value


#: What a loss compares with: M_t-1, the run's first weights, or an average of all models so far.
Reference = Annotated[Literal["previous", "initial"] | Average, BeforeValidator(_reference)]
REFERENCE = "M_t-1, the run's first weights, or {ema: 0.5}, an average of all models so far"


class TrainingSettings(Settings):
    """How the optimiser runs. A step sees ``batch_size`` examples, ``micro_batch_size`` at a time."""

    method: Literal["full", "lora", "dora", "pissa", "qlora", "prompt", "prefix"] = Field(
        "full", description="all weights, or an adapter (docs/adapters.md); prompt and prefix are refused"
    )
    lora: LoraSettings = Field(LoraSettings(), description="the adapter of the methods lora, dora, pissa and qlora")
    qlora: QuantiseSettings = Field(QuantiseSettings(), description="the weights below a qlora adapter")
    learning_rate: float = Field(1e-6, ge=0, description="the highest, after warm-up")
    epochs: float = Field(1.0, gt=0, description="passes over the examples; 0.5 uses half of them")
    batch_size: int = Field(8, ge=1, description="examples an optimizer step")
    micro_batch_size: int = Field(4, ge=1, description="examples a forward pass; must divide batch_size")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the learning rate falls after warm-up: to 0, or not at all"
    )
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on all weights but biases and norms")
    max_grad_norm: float = Field(1.0, ge=0, description="0 is off")
    optimizer: Literal["adamw_torch", "rmsprop"] = Field("adamw_torch", description="as transformers names them")
    max_length: int = Field(1024, ge=2, description="longer completions are cut at their end; prompts never are")
    save_every: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto",
        description="optimizer steps between resumable states; auto: so that saving takes a twentieth of the time at "
        "most; null: none, a training that was killed starts over",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the arithmetic, weights stay float32; auto: bfloat16 on a GPU that has it, float32 on a CPU",
    )
    packing: Literal["auto", "off"] = Field(
        "auto", description="on a CPU, what sequences of a micro-batch have in common at their beginning is read once"
    )
    gradient_checkpointing: bool = Field(False, description="less memory for about a quarter more time")
    length_bucketing: bool = Field(False, description="steps of similar lengths: less padding, less mixing")

    #: See config._explain.
    elsewhere: ClassVar[Mapping[str, str]] = {
        "reference": "this trainer compares with none; dpo and kto do, for example"
    }

    @model_validator(mode="after")
    def _micro_divides(self) -> TrainingSettings:
        if self.batch_size % min(self.micro_batch_size, self.batch_size):
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _adapter_can_be_trained(self) -> TrainingSettings:
        if self.method in ("prompt", "prefix"):
            raise ValueError(_NOT_MERGEABLE.format(method=self.method))
        if self.method == "pissa" and self.lora.dropout:
            raise ValueError("lora.dropout must be 0 with pissa: its adapter carries the largest part of the weights")
        if self.lora.chain == "stack" and self.method not in _STACKABLE:
            raise ValueError(f"lora.chain: stack goes with method {' or '.join(_STACKABLE)}, not {self.method}")
        return self

    def micro_batch(self) -> int:
        return min(self.micro_batch_size, self.batch_size)

    @property
    def low_rank(self) -> bool:
        """Whether an adapter is trained, and not the weights themselves."""
        return self.method in LOW_RANK

    @property
    def quantised(self) -> QuantiseSettings | None:
        """How the weights below the adapter are held, where that is not as they are."""
        return self.qlora if self.method == "qlora" else None

    @property
    def alpha(self) -> float:
        """``lora.alpha`` with its default: 32, and r for PiSSA, whose B A is then the weights' own part unscaled."""
        if self.lora.alpha is not None:
            return self.lora.alpha
        return float(self.lora.r) if self.method == "pissa" else 32.0

    def adapter_shape(self) -> dict[str, Any]:
        """What two adapters must share for the one to go on with the other's weights."""
        return {"method": self.method, "alpha": self.alpha, **self.lora.model_dump(include={"r", "rslora", "targets"})}

    def form(self) -> dict[str, Any]:
        """What log-probabilities depend on beside weights and tokens, where that is not the default."""
        precision = {} if self.precision == "auto" else {"precision": self.precision}
        return {**precision, **(self.qlora.model_dump() if self.quantised else {})}

    def check_installed(self) -> None:
        """Raise ConfigError where the method needs a package that is not here; nothing is imported."""
        if self.method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
            raise ConfigError(
                "train.method: qlora needs the package bitsandbytes, which is not installed; "
                "install it with: pip install 'selfalign[qlora]', or use method lora"
            )

"""Settings every trainer shares. Nothing heavy is imported here: a config is validated without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfalign.config import Settings


class LoraSettings(Settings):
    """A low-rank adapter, merged into the weights at the end of every round (arXiv 2106.09685)."""

    r: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0, description="the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: str | list[str] = Field("all-linear", description="module names; all-linear leaves lm_head out")

    @model_validator(mode="after")
    def _not_the_head(self) -> LoraSettings:
        named = [self.targets] if isinstance(self.targets, str) else self.targets
        if not named or "lm_head" in named:
            raise ValueError("lora.targets must name modules other than lm_head; its adapter would not be trained")
        return self


class TrainingSettings(Settings):
    """How the optimiser runs. A step sees ``batch_size`` examples, ``micro_batch_size`` at a time."""

    method: Literal["full", "lora"] = "full"
    lora: LoraSettings = LoraSettings()
    learning_rate: float = Field(1e-6, ge=0)
    epochs: float = Field(1.0, gt=0, description="passes over the examples; 0.5 uses half of them")
    batch_size: int = Field(8, ge=1, description="examples an optimizer step")
    micro_batch_size: int = Field(4, ge=1, description="examples a forward pass; must divide batch_size")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0, description="0 is off")
    optimizer: Literal["adamw_torch", "rmsprop"] = "adamw_torch"
    max_length: int = Field(1024, ge=2, description="longer completions are cut at their end; prompts never are")
    save_every: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto",
        description="optimizer steps between resumable states; auto: so that saving takes a twentieth of the time at "
        "most; null: none, a training that was killed starts over",
    )
    gradient_checkpointing: bool = Field(False, description="less memory for about a quarter more time")
    length_bucketing: bool = Field(False, description="steps of similar lengths: less padding, less mixing")

    @model_validator(mode="after")
    def _micro_divides(self) -> TrainingSettings:
        if self.batch_size % min(self.micro_batch_size, self.batch_size):
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self

    def micro_batch(self) -> int:
        return min(self.micro_batch_size, self.batch_size)

"""What a config says of a model server, whoever asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from selfalign.config import Settings
from selfalign.endpoints.chat import EndpointSettings, check_url
from selfalign.errors import ConfigError
from selfalign.user_cache import cache_root


class ServerSettings(Settings):
    """Where and how an OpenAI-compatible endpoint is asked."""

    base_url: str = Field(min_length=1, description="up to and with /v1, e.g. http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name on that server")
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable that holds the key"
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the server calls it; reasoning models of OpenAI take the second"
    )
    send_seed: bool = Field(True, description="send a seed of each answer's own")
    extra: dict[str, Any] = Field(default_factory=dict, description="further keys of the request")
    timeout_seconds: float = Field(120.0, gt=0, description="without a byte from the server")
    retries: int = Field(5, ge=0, description="further attempts at a request that found no usable reply")
    first_delay_seconds: float = Field(1.0, ge=0, description="before the first retry; doubles, with jitter")
    longest_delay_seconds: float = Field(60.0, ge=0, description="also the longest Retry-After that is waited for")
    requests_per_minute: float | None = Field(None, gt=0, description="null: as many as it answers")
    concurrency: int = Field(8, ge=1, le=64, description="requests under way at once")
    cache: str | Literal[False] = Field(
        "", description="folder of replies, so that none is paid for twice; by default the user's; false: none"
    )

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            check_url(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value.rstrip("/")

    def endpoint(self) -> EndpointSettings:
        """The part that a ChatEndpoint takes."""
        folder: Path | None = None
        if self.cache is not False:
            folder = Path(self.cache).expanduser() if self.cache else cache_root() / "replies"
        values = {name: getattr(self, name) for name in EndpointSettings.__dataclass_fields__}
        return EndpointSettings(**{**values, "cache": folder})

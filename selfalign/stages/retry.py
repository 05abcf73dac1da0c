"""Which failures are worth another attempt, and when."""

from __future__ import annotations

import random

from selfalign.config import ExecutionSettings
from selfalign.errors import StageDied


def worth_retrying(error: object) -> bool:
    """A stage process that died, ran out of memory or of time may do better next time.

    Everything else (nothing usable, wrong weights, a guard, a loss that is not finite) would only fail again.
    """
    return isinstance(error, StageDied)


def delays(settings: ExecutionSettings, generator: random.Random | None = None) -> list[float]:
    """Seconds before each retry: doubling, and up to half as long again, so that runs do not return in step."""
    generator = generator or random.Random()
    return [settings.retry_delay_seconds * 2**n * generator.uniform(1, 1.5) for n in range(settings.retries)]

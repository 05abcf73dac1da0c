"""What every gate's settings have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfalign.config import Settings

#: continue: say so and go on; ask: wait for a person before the next round; stop: end the run, every row kept;
#: roll_back: set the round aside as a branch and end the run.
Action = Literal["continue", "ask", "stop", "roll_back"]


class GateSettings(Settings):
    """``id`` and limits are the rule's own."""

    action: Action = Field("continue", description="what follows where the rule fails")
    required: bool = Field(False, description="stop where the figure is missing, instead of recording that it is")
    from_round: int = Field(0, ge=0, description="earlier rounds are not looked at")

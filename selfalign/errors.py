"""One error class per boundary a user can cross; each message says what, where and what to do.

The exit code belongs to the error, so that the command line, a flow and a notebook agree:
2 means "your input is wrong, nothing was started", 1 means "the work failed, it can be resumed".
"""

from __future__ import annotations


class SelfAlignError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class BadInput(SelfAlignError):
    """Something the user gave is wrong; raised before expensive work starts."""

    exit_code = 2


class ConfigError(BadInput):
    """A config value is missing, unknown or out of range."""


class PromptFileError(BadInput):
    """A prompt source or template file cannot be used."""


class ModelError(BadInput):
    """A model folder, hub name or the embedded model cannot be had."""


class StoreError(BadInput):
    """The store is corrupt, foreign, or of a version this program does not know."""


class WorkspaceBusy(BadInput):
    """Another process holds the workspace."""


class WeightsNotKept(BadInput):
    """Weights that are asked for were removed, compressed, or only restored approximately."""


class StageFailed(SelfAlignError):
    """A stage stopped; what it finished is kept and the run can be resumed."""


class DiskFull(StageFailed):
    """A write found no room; what was finished before is kept, and the same command goes on once there is room."""


class StageDied(StageFailed):
    """A stage's process was killed, ran out of memory or out of time: another attempt may do better."""


class EndpointDown(StageDied):
    """A model server gave no usable reply, however often it was asked: another attempt may do better."""


class EmptyStage(StageFailed):
    """A stage yielded nothing that the next one could honestly use: the input or settings are at fault."""

    exit_code = 2


class WeightsMismatch(StageFailed):
    """The weights on disk are not those the store says they are."""


class GuardFailed(StageFailed):
    """A step-1 guard found that training would start from the wrong place."""


class GateStopped(StageFailed):
    """A rule over a round's figures does not let the run go on; every row is kept."""


class GateRollsBack(GateStopped):
    """A rule over a round's figures wants the round set aside."""

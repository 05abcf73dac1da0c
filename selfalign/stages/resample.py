"""Stage ``resample``: which of the round's judged candidates go on to pairing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.errors import EmptyStage
from selfalign.evaluation.statistics import Interval, cluster_mean_interval
from selfalign.identity import content_id, derive_seed
from selfalign.protocols import Resampler
from selfalign.registry import find
from selfalign.resampling.figures import PromptFigures, figures
from selfalign.resampling.selections import by_prompt
from selfalign.stages.context import RunContext
from selfalign.stages.judge import scored_groups
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.types import Evaluation


def fingerprint(context: RunContext, round: int) -> str:
    return content_id(
        "resample", upstream(context, round, "judge"), context.config.seed, _settings(context).model_dump(mode="json")
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    groups = scored_groups(context, round)
    settings = _settings(context)
    resampler: Resampler = find("resample", settings.id).load()(settings)
    rows = resampler.resample(groups, round, derive_seed(context.config.seed, round, "resample"))
    accepted = sum(row.accepted for row in rows)
    if not accepted:
        raise EmptyStage(
            f"round {round}: resampler '{resampler.name}' accepted none of {len(rows)} scored candidates; lower its "
            f"threshold, or change the judge"
        )
    found = figures(by_prompt(rows))
    intervals = _intervals(found)
    made = [
        Evaluation(context.config.name, round, metric, "train", own.value, own.low, own.high, own.n, "{}")
        for metric, own in intervals.items()
    ]
    context.store.insert([*rows, *made])
    rate, size, gain = (intervals[metric].value for metric in intervals)
    return StageOutcome(
        sum(len(group.candidates) for group in groups), len(rows),
        f"{accepted} of {len(rows)} scored candidates of {len(found)} prompts, acceptance rate {rate:.3f}, effective "
        f"sample size {size:.1f}, mean score {gain:+.3f} by it",
        {"accepted": accepted, "acceptance_rate": rate, "effective_size": size, "score_gain": gain},
    )  # fmt: skip


def _settings(context: RunContext) -> Any:
    assert context.config.resample is not None, "a round has this stage only where the config has a resampler"
    return context.config.resample


def _intervals(found: Mapping[str, PromptFigures]) -> dict[str, Interval]:
    """Metric -> mean over prompts; the keys are branches.FIGURES_OF's."""
    values: dict[str, dict[str, Sequence[float]]] = {
        "resample_acceptance_rate": {prompt_id: [own.acceptance_rate] for prompt_id, own in found.items()},
        "resample_effective_size": {prompt_id: [own.effective_size] for prompt_id, own in found.items()},
        "resample_score_gain": {
            prompt_id: [own.score_gain] for prompt_id, own in found.items() if own.score_gain is not None
        },
    }
    return {metric: cluster_mean_interval(own) for metric, own in values.items()}

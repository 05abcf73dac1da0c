"""What the judges that show a rubric to a model share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from selfalign.errors import PromptFileError, StageFailed
from selfalign.identity import derive_seed
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import ScoreFormat, Template
from selfalign.types import JudgeItem, Message, Outcome

#: What a rubric for one response shows.
POINTWISE = ("instruction", "response")
_NOTHING: Mapping[str, str] = MappingProxyType({})
#: The values of a rubric's further variables for an item.
Further = Callable[[JudgeItem], Mapping[str, str]]


def load_rubric(context: JudgeContext, name: str, variables: Sequence[str] = POINTWISE) -> Template:
    """The rubric, filled in once for trial so that a broken one is found before any work.

    Raises:
        PromptFileError: it cannot be loaded, is no judge prompt, or does not show what is to be judged.
    """
    rubric: Template = context.templates.load(name)
    if rubric.kind != "judge":
        raise PromptFileError(f"{rubric.path}: is of kind '{rubric.kind}', a rubric must be of kind 'judge'")
    if sorted(rubric.variables) != sorted(variables):
        raise PromptFileError(
            f"{rubric.path}: a rubric has the variables {' and '.join(variables)}, this one has "
            f"{', '.join(rubric.variables) or 'none'}"
        )
    rubric.messages(**dict.fromkeys(variables, "a"))
    return rubric


def shown(rubric: Template, item: JudgeItem, more: Mapping[str, str] = _NOTHING) -> tuple[Message, ...]:
    """What the model is shown of ``item``: prompt, candidate and the rubric's further variables verbatim."""
    return rubric.messages(instruction=item.prompt.text, response=item.candidate.text, **more)


def quotable(item: JudgeItem, more: Mapping[str, str] = _NOTHING) -> tuple[str, ...]:
    """The texts that an answer to :func:`shown` may quote; see parsing.parse_score."""
    return (item.prompt.text, item.candidate.text, *more.values())


def choice_values(rubric: Template) -> tuple[float, ...]:
    """What each choice is worth: the rubric's ``values``, else the choices themselves as numbers.

    Raises:
        PromptFileError: there are no choices, or they are not worth at least two different finite numbers.
    """
    try:
        values = rubric.values or tuple(float(choice) for choice in rubric.choices)
    except ValueError:
        values = ()
    if len(set(values)) < 2 or not all(map(math.isfinite, values)):
        raise PromptFileError(
            f'{rubric.path}: needs choices that are different numbers, such as ["0", "1", "2"], or words with values '
            f"beside them, to be read from logits"
        )
    return values


def score_format(rubric: Template) -> ScoreFormat:
    """How the rubric's score is written.

    Raises:
        PromptFileError: it does not say.
    """
    if rubric.score is None:
        raise PromptFileError(f"{rubric.path}: needs score (min, max, pattern), so that answers in words can be read")
    return rubric.score


def words(rubric: Template) -> dict[str, float]:
    """What verdicts in words are worth; empty where the rubric's verdicts are numbers."""
    return dict(zip(rubric.choices, rubric.values, strict=True)) if rubric.values else {}


def longest_choice(rubric: Template) -> int:
    """Tokens that a choice may need; a bound without a tokenizer, as no token is shorter than a byte."""
    return max(len(choice.encode()) for choice in rubric.choices)


def too_long(length: int, room: int) -> tuple[None, Outcome, dict[str, Any]]:
    """(score, outcome, detail) of what the model's window cannot hold; both in tokens."""
    return None, "truncated", {"reason": "judge prompt exceeds the window", "n_prompt_tokens": length, "room": room}


def nothing_further(item: JudgeItem) -> Mapping[str, str]:
    return _NOTHING


def vote_seed(context: JudgeContext, judge_hash: str, candidate_ids: Sequence[str], vote: int) -> int:
    """Seed of a judge's vote on a candidate, or on several that are shown together, in that order."""
    return derive_seed(context.run_seed, context.round, "judge", *candidate_ids, judge_hash, vote)


def require_engine(context: JudgeContext, name: str) -> Engine:
    if context.engine is None:
        raise StageFailed(f"judge '{name}' was built without a model and cannot judge; pass an engine in its context")
    return context.engine

"""What the judges that show a rubric to a model share."""

from __future__ import annotations

from selfalign.errors import PromptFileError, StageFailed
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Template
from selfalign.types import JudgeItem, Message

_VARIABLES = ("instruction", "response")


def load_rubric(context: JudgeContext, name: str) -> Template:
    """The rubric, filled in once for trial so that a broken one is found before any work.

    Raises:
        PromptFileError: it cannot be loaded, is no judge prompt, or does not show what is to be judged.
    """
    rubric: Template = context.templates.load(name)
    if rubric.kind != "judge":
        raise PromptFileError(f"{rubric.path}: is of kind '{rubric.kind}', a rubric must be of kind 'judge'")
    if sorted(rubric.variables) != sorted(_VARIABLES):
        raise PromptFileError(
            f"{rubric.path}: a rubric has the variables {' and '.join(_VARIABLES)}, this one has "
            f"{', '.join(rubric.variables) or 'none'}"
        )
    rubric.messages(instruction="a", response="b")
    return rubric


def shown(rubric: Template, item: JudgeItem) -> tuple[Message, ...]:
    """What the model is shown of ``item``: prompt and candidate verbatim."""
    return rubric.messages(instruction=item.prompt.text, response=item.candidate.text)


def require_engine(context: JudgeContext, name: str) -> Engine:
    if context.engine is None:
        raise StageFailed(f"judge '{name}' was built without a model and cannot judge; pass an engine in its context")
    return context.engine

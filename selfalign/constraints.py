"""Machine-checkable constraints: IFEval's checkers (arXiv 2311.07911) as packaged by if-verifiable 0.1.2.

The library is imported by the functions: it takes seconds, as it brings ``datasets`` and ``nltk`` along.
Where it differs from what a label may rest on, this module is stricter:

* arguments that are missing or unusable are errors (the library fills them in at random);
* a text whose language cannot be told does not follow a language constraint (the library says it does);
* a checker that fails on a text says "not followed", and the failure is reported.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from selfalign.errors import BadInput

#: Instruction ids that can be used.
KNOWN = frozenset(
    {
        "change_case:english_capital",
        "change_case:english_lowercase",
        "combination:repeat_prompt",
        "combination:two_responses",
        "detectable_content:number_placeholders",
        "detectable_content:postscript",
        "detectable_format:constrained_response",
        "detectable_format:json_format",
        "detectable_format:multiple_sections",
        "detectable_format:number_bullet_lists",
        "detectable_format:number_highlighted_sections",
        "detectable_format:title",
        "keywords:existence",
        "keywords:forbidden_words",
        "keywords:frequency",
        "keywords:letter_frequency",
        "language:response_language",
        "length_constraints:nth_paragraph_first_word",
        "length_constraints:number_paragraphs",
        "length_constraints:number_words",
        "punctuation:no_comma",
        "startend:end_checker",
        "startend:quotation",
    }
)
#: Instruction ids that the library has and this package does not use, and why.
LEFT_OUT: Mapping[str, str] = {
    "length_constraints:number_sentences": "its checker downloads NLTK's punkt data",
    "change_case:capital_word_frequency": "its checker downloads NLTK's punkt data",
}
#: A text on which a usable checker works; "(" as a keyword, an invalid regular expression, fails on it.
_PROBE = "A short text."
#: Arguments that the checkers paste into regular expressions as they are.
_PASTED = ("keywords", "keyword", "forbidden_words", "section_spliter")


@dataclass(frozen=True)
class ConstraintResult:
    """One flag an instruction. Loose passes if any of IFEval's eight variants of the text does (without its
    first or last line, without asterisks). ``errors`` holds what went wrong in a checker, by instruction id."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]
    errors: Mapping[str, str] = field(default_factory=dict)


def checker_version() -> str:
    """What a verdict depends on beside text and arguments."""
    return f"if-verifiable {version('if-verifiable')}, langdetect {version('langdetect')}"


def validate_ids(instruction_ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]]) -> None:
    """What :func:`validate` can say without the library, which takes a second to import.

    Raises:
        BadInput: an unknown or left-out id, or a wrong number of kwargs.
    """
    if len(instruction_ids) != len(kwargs):
        raise BadInput(
            f"kwargs has {len(kwargs)} entries for {len(instruction_ids)} instruction ids; give one object for each, {{}} "
            f"where there are no arguments"
        )
    for instruction_id in instruction_ids:
        _known(instruction_id)


def validate(instruction_ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse constraints that could not be checked, or not as written.

    Raises:
        BadInput: as :func:`validate_ids`, or missing or unusable arguments.
    """
    validate_ids(instruction_ids, kwargs)
    for instruction_id, arguments in zip(instruction_ids, kwargs, strict=True):
        follows = _checker(instruction_id, arguments)
        try:
            for literal in _literals(arguments):
                if not re.fullmatch(literal, literal, re.IGNORECASE):
                    raise BadInput(f"{literal!r} is a regular expression to it that does not match itself")
            follows(_PROBE)
        except Exception as error:
            raise BadInput(f"{instruction_id}: its checker cannot work with {dict(arguments)}: {error}") from None


def check(text: str, instruction_ids: Sequence[str], kwargs_json: str, prompt_text: str) -> ConstraintResult:
    """Which instructions ``text`` follows; an empty text follows none.

    ``kwargs_json`` is :attr:`Prompt.kwargs`. ``prompt_text`` is for checkers that look at the prompt.
    """
    kwargs = json.loads(kwargs_json)
    strict, loose, errors = [], [], {}
    for instruction_id, arguments in zip(instruction_ids, kwargs, strict=True):
        verdict = False, False
        if text.strip():
            try:
                verdict = _verdict(text, _checker(instruction_id, arguments, prompt_text))
            except Exception as error:  # third-party code on arbitrary text
                errors[instruction_id] = _one_line(error)
        strict.append(verdict[0])
        loose.append(verdict[1])
    return ConstraintResult(tuple(strict), tuple(loose), errors)


def _verdict(text: str, follows: Callable[[str], bool]) -> tuple[bool, bool]:
    if follows(text):
        return True, True
    from if_verifiable.common import get_loose_transformations

    return False, any(follows(variant) for variant in get_loose_transformations(text) if variant.strip())


def _checker(
    instruction_id: str, arguments: Mapping[str, Any], prompt_text: str | None = None
) -> Callable[[str], bool]:
    """The predicate of one instruction; raises BadInput where its arguments are not complete and usable."""
    _known(instruction_id)
    checker = _registry()[instruction_id](instruction_id)
    given = {name: value for name, value in arguments.items() if value is not None}
    wanted = checker.get_instruction_args_keys()
    if set(given) != set(wanted):
        raise BadInput(
            f"{instruction_id}: needs the arguments {', '.join(wanted) or '(none)'}, was given "
            f"{', '.join(sorted(given)) or '(none)'}"
        )
    try:
        # Out of range the checker draws a number at random, which may happen to be the one given.
        if "nth_paragraph" in given and not 1 <= given["nth_paragraph"] <= given["num_paragraphs"]:
            raise ValueError("nth_paragraph must be from 1 to num_paragraphs")
        checker.build_description(**given)
    except Exception as error:
        raise BadInput(f"{instruction_id}: unusable arguments {given}: {_one_line(error)}") from None
    used = checker.get_instruction_args() or {}
    for name, value in given.items():
        if _normal(used.get(name)) != _normal(value):
            raise BadInput(
                f"{instruction_id}: {name} {value!r} is not usable; the checker would take another at random"
            )
    if prompt_text is not None and "prompt" in used:
        checker.build_description(prompt=prompt_text)
    if instruction_id in _LANGUAGE:
        return _LANGUAGE[instruction_id](given)
    follows: Callable[[str], bool] = checker.check_following
    return lambda text: bool(follows(text))


def _known(instruction_id: str) -> None:
    if instruction_id in LEFT_OUT:
        raise BadInput(f"{instruction_id}: is left out ({LEFT_OUT[instruction_id]}); use another constraint")
    if instruction_id not in KNOWN:
        near = difflib.get_close_matches(instruction_id, KNOWN, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(KNOWN))}"
        raise BadInput(f"{instruction_id}: unknown constraint; {hint}")


def _registry() -> Mapping[str, Any]:
    import langdetect
    from if_verifiable.ifeval import INSTRUCTION_DICT

    # Without it langdetect draws from the global random state: the same text, another verdict.
    langdetect.DetectorFactory.seed = 0
    registry: Mapping[str, Any] = INSTRUCTION_DICT
    return registry


def _normal(value: Any) -> Any:
    """Undo what checkers do to arguments on purpose: case, outer spaces, order and repetition of words."""
    if isinstance(value, str):
        return value.strip().lower()
    if isinstance(value, list | tuple):
        return sorted({_normal(item) for item in value}, key=repr)
    return value


def _literals(arguments: Mapping[str, Any]) -> list[str]:
    values = [arguments[name] for name in _PASTED if arguments.get(name) is not None]
    return [literal for value in values for literal in ([value] if isinstance(value, str) else value)]


def _detect(text: str) -> str:
    import langdetect

    code: str = langdetect.detect(text)
    return code


#: The library's checkers of these answer "followed" where the language cannot be told; these raise.
_LANGUAGE: Mapping[str, Callable[[Mapping[str, Any]], Callable[[str], bool]]] = {
    "language:response_language": lambda given: lambda text: _detect(text) == given["language"],
    "change_case:english_capital": lambda given: lambda text: text.isupper() and _detect(text) == "en",
    "change_case:english_lowercase": lambda given: lambda text: text.islower() and _detect(text) == "en",
}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())

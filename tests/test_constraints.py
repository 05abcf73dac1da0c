from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from selfalign.constraints import KNOWN, LEFT_OUT, check, validate
from selfalign.errors import BadInput

RIGHT: dict[str, dict[str, Any]] = {
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "Say Hi."},
    "combination:two_responses": {},
    "detectable_content:number_placeholders": {"num_placeholders": 1},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:constrained_response": {},
    "detectable_format:json_format": {},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 2},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "detectable_format:number_highlighted_sections": {"num_highlights": 1},
    "detectable_format:title": {},
    "keywords:existence": {"keywords": ["zebra", "Ant"]},
    "keywords:forbidden_words": {"forbidden_words": ["zebra", "ant"]},
    "keywords:frequency": {"keyword": "Ant ", "frequency": 2, "relation": "at least"},
    "keywords:letter_frequency": {"letter": "E", "let_frequency": 2, "let_relation": "less than"},
    "language:response_language": {"language": "fr"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "Well"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "length_constraints:number_words": {"num_words": 20, "relation": "less than"},
    "punctuation:no_comma": {},
    "startend:end_checker": {"end_phrase": "The End "},
    "startend:quotation": {},
}


def followed(text: str, instruction_id: str, **arguments: Any) -> bool:
    return check(text, [instruction_id], json.dumps([arguments]), "prompt").strict[0]


def test_the_known_ids_are_those_of_the_library() -> None:
    from if_verifiable.ifeval import INSTRUCTION_DICT

    assert KNOWN | LEFT_OUT.keys() == INSTRUCTION_DICT.keys()
    assert not KNOWN & LEFT_OUT.keys()
    assert RIGHT.keys() == KNOWN


def test_importing_it_is_cheap() -> None:
    code = "import sys, selfalign.constraints; print([m for m in ('datasets', 'if_verifiable', 'nltk') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("instruction_id", sorted(RIGHT))
def test_complete_arguments_are_accepted_and_nothing_is_random(instruction_id: str) -> None:
    state = random.getstate()
    validate([instruction_id], [RIGHT[instruction_id]])
    check("Well, some text.", [instruction_id], json.dumps([RIGHT[instruction_id]]), "prompt")
    assert random.getstate() == state


@pytest.mark.parametrize("instruction_id", sorted(name for name, arguments in RIGHT.items() if arguments))
def test_missing_arguments_are_refused(instruction_id: str) -> None:
    for name in RIGHT[instruction_id]:
        for left in (
            {k: v for k, v in RIGHT[instruction_id].items() if k != name},
            {**RIGHT[instruction_id], name: None},
        ):
            with pytest.raises(BadInput, match="needs the arguments"):
                validate([instruction_id], [left])


@pytest.mark.parametrize(
    ("instruction_id", "arguments", "expected"),
    [
        ("keyword:existence", {"keywords": ["a"]}, "unknown constraint; did you mean 'keywords:existence'?"),
        ("nonsense", {}, "known: change_case:english_capital"),
        ("length_constraints:number_sentences", {"num_sentences": 1, "relation": "at least"}, "left out"),
        ("change_case:capital_word_frequency", {}, "NLTK"),
        ("punctuation:no_comma", {"colour": 1}, "needs the arguments (none), was given colour"),
        ("keywords:frequency", {"keyword": "a", "frequency": -1, "relation": "at least"}, "frequency -1 is not usable"),
        ("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "at most"}, "unusable arguments"),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}, "letter 'ab'"),
        ("keywords:existence", {"keywords": []}, "keywords [] is not usable"),
        ("keywords:existence", {"keywords": "abc"}, "keywords 'abc' is not usable"),
        ("keywords:existence", {"keywords": ["C++"]}, "does not match itself"),
        ("keywords:forbidden_words", {"forbidden_words": ["("]}, "cannot work with"),
        ("language:response_language", {"language": "zh-cn"}, "unusable arguments"),
        ("length_constraints:number_words", {"num_words": "ten", "relation": "at least"}, "unusable arguments"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"},
            "nth_paragraph must be from 1 to num_paragraphs",
        ),
    ],
)
def test_what_could_not_be_checked_is_refused(instruction_id: str, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        validate([instruction_id], [arguments])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_object_for_each_id() -> None:
    with pytest.raises(BadInput, match="kwargs has 0 entries for 1 instruction ids"):
        validate(["punctuation:no_comma"], [])


def test_strict_and_loose() -> None:
    result = check("Sure, here you are:\nno commas", ["punctuation:no_comma", "startend:quotation"], "[{},{}]", "p")
    assert result.strict == (False, False)
    assert result.loose == (True, False)
    assert result.errors == {}


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_follows_nothing(text: str) -> None:
    result = check(text, ["punctuation:no_comma", "keywords:forbidden_words"], '[{},{"forbidden_words":["a"]}]', "p")
    assert (result.strict, result.loose) == ((False, False), (False, False))


def test_language() -> None:
    assert followed("Je voudrais une baguette et du fromage.", "language:response_language", language="fr")
    assert not followed("I would like some bread and cheese.", "language:response_language", language="fr")


@pytest.mark.parametrize("text", ["12345", "?!", "http://example.com"])
def test_a_text_without_a_language_does_not_follow_one(text: str) -> None:
    """The library counts these as followed, which a model would soon find out."""
    result = check(text, ["language:response_language"], '[{"language":"fr"}]', "p")
    assert result.strict == (False,)
    assert "language:response_language" in result.errors


def test_language_verdicts_do_not_depend_on_the_random_state() -> None:
    text = "ok hello no"
    verdicts = set()
    for seed in range(8):
        random.seed(seed)
        verdicts.add(followed(text, "language:response_language", language="en"))
    assert len(verdicts) == 1


def test_a_failing_checker_is_not_followed_and_reported() -> None:
    deep = "[" * 100_000
    result = check(deep, ["detectable_format:json_format", "punctuation:no_comma"], "[{},{}]", "p")
    assert result.strict == (False, True)
    assert "RecursionError" in result.errors["detectable_format:json_format"]


def test_a_prompt_that_was_never_validated_gets_no_random_verdict() -> None:
    result = check("a text", ["length_constraints:number_words"], "[{}]", "p")
    assert result.strict == (False,)
    assert "needs the arguments" in result.errors["length_constraints:number_words"]


def test_the_text_is_checked_as_it_is() -> None:
    """if-verifiable's own entry point removes what stands before </think>."""
    assert not followed("a, b</think>plain", "punctuation:no_comma")

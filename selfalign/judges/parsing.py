"""From a judge's answer to a score or the reason why there is none. Nothing here invents a score.

A judge quotes what it was shown, and what it was shown may hold a verdict ("Score: 5"). Which number a
match carries must not decide whether it counts: if only the quoted number were passed over, a response
that lists "Score: 0" to "Score: 4" would leave the judge 5 as its one valid vote. So where the shown text
writes a verdict in the rubric's words, no verdict in those words counts, whatever its number.

A number is of a scale, and an answer may name it ("5 out of 10"). A score of another scale than the rubric's is
out_of_range, and not converted: who changes the scale has not followed the rubric, and may mean its points otherwise too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from selfalign.templates import ScoreFormat
from selfalign.types import FinishReason, Outcome

#: How an answer begins that declines to judge, in English and Chinese.
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am|we['’]?re) (?:very |really |so )?(?:sorry|unable|not able)|i (?:can['’]?t|cannot|can not|won['’]?t)\b"
    r"|as an? (?:ai|artificial|language model)\b|(?:sorry|unfortunately|my apologies|i apologi[sz]e)\b"
    r"|(?:非常|很|十分)?抱歉|对不起|不好意思|作为(?:一个|一名|一款)?(?:ai|人工智能|语言模型|大模型)|我(?:无法|不能|没有办法|没办法))",
    re.IGNORECASE,
)
#: A quotation of this many characters is one, even where it holds no word of the rubric's.
_QUOTATION = 16
_WORD = re.compile(r"[^\W\d_]+")
#: Accents, joiners and control characters.
_UNSEEN = ("Mn", "Cf", "Cc")
_MARKUP = re.compile(r"[*_`~#>]+")
#: What may stand between the rubric's word and a number, as in "score (out of 5): 4".
_BETWEEN = r"[\W_]{0,24}(?:\([^()]{0,40}\)[\W_]{0,8})?"
#: "5-10", "from 0 to 10": the last number is the top.
_TO = r"[ \t]*(?:[-–—~～]|to|至|到)[ \t]*"
_NUMBER = r"\d{1,6}(?:\.\d{1,6})?(?!\d)|five|ten|twenty|(?:a |one )?hundred"
_SPELLED = {"five": 5.0, "ten": 10.0, "twenty": 20.0, "hundred": 100.0}
#: How a scale is named: "/10", "out of 10", "of a possible 10", "on a scale from 1 to 10", "max. 10", "满分10".
_NAMED = (
    r"(?:[/／]|\b(?:out[ \t]+)?of\b|\b(?:on[ \t]+)?(?:a|the)[ \t]+scale\b(?:[ \t]+(?:of|from))?|\bmax(?:imum)?\b\.?|满分(?:为|是)?)"
    rf"[ \t:：<(\[]{{0,4}}(?:\b(?:the|a|possible|maximum)\b[ \t]*)*(?:\d{{1,6}}{_TO})?(?P<top>{_NUMBER})"
)
#: After the number, on its line and before its sentence ends.
_SCALE_AFTER = re.compile(
    rf"[ \t*_~>)\]]{{0,6}}(?:points?\b|stars?\b|marks?\b|分)?[ \t]*[(\[（,，]?[ \t]*"
    rf"(?:{_NAMED}|(?P<percent>[%％])|(?P<points>\d{{1,6}})[ \t]*分制)",
    re.IGNORECASE,
)
#: In parentheses between the rubric's word and the number: "(out of 10)", "(0-10)".
_SCALE_BEFORE = re.compile(
    rf"[(\[（][^()\[\]（）]{{0,40}}?(?:{_NAMED}|\d{{1,6}}{_TO}(?P<end>{_NUMBER}))", re.IGNORECASE
)


def parse_score(
    raw: str,
    template_score: ScoreFormat,
    finish_reason: FinishReason,
    *,
    shown: Sequence[str] = (),
    words: Mapping[str, float] | None = None,
) -> tuple[float | None, Outcome]:
    """The last match of the rubric's pattern in ``raw``; (None, why not) unless it is a score in range.

    The last one, since an answer may weigh other totals before it concludes. A number at the very end of
    an answer that ran out of tokens may lack digits, so that answer is "truncated" too. ``shown`` are the
    texts that the judge was to judge: a match that may be quoted from them does not count (see
    :func:`last_own_match`). A score of a scale that the answer names and that does not end at the rubric's ``max`` is
    "out_of_range" (:func:`named_scales`). ``words`` are the scores of verdicts that are no numbers ("A", "Yes").
    """
    last = last_own_match(raw, template_score, shown, words or {})
    if last is None:
        if is_refusal(raw):
            return None, "refused"
        return None, "truncated" if finish_reason == "length" else "parse_error"
    if finish_reason == "length" and last.end() == len(raw):
        return None, "truncated"
    groups = last.groupdict()
    try:
        verdict = groups.get("score") or last[1]
        score = _number(verdict, words or {})
        scales = [float(groups["of"])] if groups.get("of") else []
    except (TypeError, ValueError):
        return None, "parse_error"
    if _is_number(verdict):
        scales += named_scales(last)
    if any(scale != template_score.max for scale in scales) or not template_score.min <= score <= template_score.max:
        return None, "out_of_range"
    return score, "ok"


def named_scales(match: re.Match[str]) -> list[float]:
    """Tops of the scales that an answer names beside the number of ``match``: "5 out of 10", "(0-10): 5", "5 %" (100)."""
    group = "score" if "score" in match.re.groupindex else 1
    before = _SCALE_BEFORE.search(match.string, match.start(), match.start(group))
    # Where the pattern itself read "4/5", that is what follows the number; else what it left.
    after = _SCALE_AFTER.match(match.string, match.end(group))
    found = [value for scale in (before, after) if scale for value in scale.groupdict().items() if value[1]]
    return [100.0 if name == "percent" else _top(text) for name, text in found]


def _top(text: str) -> float:
    word = text.split()[-1].casefold()
    return _SPELLED[word] if word in _SPELLED else float(word)


def _is_number(verdict: str) -> bool:
    try:
        float(verdict)
    except ValueError:
        return False
    return True


def is_refusal(raw: str) -> bool:
    return _REFUSAL.match(raw) is not None


def last_own_match(
    raw: str, template_score: ScoreFormat, shown: Sequence[str], words: Mapping[str, float]
) -> re.Match[str] | None:
    """The last of the pattern's matches in ``raw`` that cannot have been quoted from ``shown``.

    A match may be quoted if its first word ("score") precedes any number, or any of ``words``, anywhere in
    ``shown``, or if it lies in 16 characters of ``shown`` verbatim; width, case, accents, white space and
    markup do not count.
    A pattern without a word, such as ``(\\d)``, has the second test alone: it cannot tell whose a bare
    number is, so let a rubric ask for a word before it.
    """
    pattern = re.compile(template_score.pattern)
    matches = list(pattern.finditer(raw))
    texts = [text for text in map(_plain, shown) if text]
    if not matches or not texts:
        return matches[-1] if matches else None
    claimed = {word for text in (*shown, *texts) for word in map(_first_word, pattern.finditer(text))} - {""}
    verdict = "|".join([r"\d", *(re.escape(_plain(word)) for word in words)])
    known: dict[str, bool] = {}

    def may_be_quoted(match: re.Match[str]) -> bool:
        word = _first_word(match)
        if word and word not in known:
            written = re.compile(f"{re.escape(word)}{_BETWEEN}(?:{verdict})")
            known[word] = word in claimed or any(written.search(text) for text in texts)
        return known.get(word, False) or _is_verbatim(raw, match, texts)

    return next((match for match in reversed(matches) if not may_be_quoted(match)), None)


def _number(verdict: str, words: Mapping[str, float]) -> float:
    by_word = {word.casefold(): value for word, value in words.items()}
    return by_word[verdict.casefold()] if verdict.casefold() in by_word else float(verdict)


def _first_word(match: re.Match[str]) -> str:
    """The first word of a match before its verdict, plain; "" where there is none."""
    start = match.start("score") if "score" in match.re.groupindex else match.start(1)
    found = _WORD.search(_plain(match.string[match.start() : max(start, match.start())]))
    return found[0] if found else ""


def _is_verbatim(raw: str, match: re.Match[str], texts: Sequence[str]) -> bool:
    """Whether ``match`` lies in a stretch of ``_QUOTATION`` characters that stands in ``texts`` as well."""
    # Twice as much on either side, as plain text may be shorter.
    before = _plain(raw[max(0, match.start() - 2 * _QUOTATION) : match.start()], strip=False)
    after = _plain(raw[match.end() : match.end() + 2 * _QUOTATION], strip=False)
    middle = _plain(match[0], strip=False)
    length = max(_QUOTATION, len(middle))
    around = before + middle + after
    first, last = max(0, len(before) + len(middle) - length), min(len(before), len(around) - length)
    stretches = {around[at : at + length] for at in range(first, last + 1)}
    return any(stretch in text for stretch in stretches if _WORD.search(stretch) for text in texts)


def _plain(text: str, strip: bool = True) -> str:
    """Compatible characters made equal; accents, markup and what is invisible left out; white space one space."""
    compatible = unicodedata.normalize("NFKD", text).casefold()
    visible = "".join(c for c in compatible if c.isspace() or unicodedata.category(c) not in _UNSEEN)
    spaced = re.sub(r"\s+", " ", _MARKUP.sub("", visible))
    return spaced.strip() if strip else spaced

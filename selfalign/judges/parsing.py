"""From a judge's answer to a score or the reason why there is none. Nothing here invents a score."""

from __future__ import annotations

import re

from selfalign.templates import ScoreFormat
from selfalign.types import FinishReason, Outcome

#: How an answer begins that declines to judge, in English and Chinese.
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am|we['’]?re) (?:very |really |so )?(?:sorry|unable|not able)|i (?:can['’]?t|cannot|can not|won['’]?t)\b"
    r"|as an? (?:ai|artificial|language model)\b|(?:sorry|unfortunately|my apologies|i apologi[sz]e)\b"
    r"|(?:非常|很|十分)?抱歉|对不起|不好意思|作为(?:一个|一名|一款)?(?:ai|人工智能|语言模型|大模型)|我(?:无法|不能|没有办法|没办法))",
    re.IGNORECASE,
)


def parse_score(raw: str, template_score: ScoreFormat, finish_reason: FinishReason) -> tuple[float | None, Outcome]:
    """The last match of the rubric's pattern in ``raw``; (None, why not) unless it is a score in range.

    The last one, since an answer may weigh other totals before it concludes. A number at the very end of
    an answer that ran out of tokens may lack digits, so that answer is "truncated" too.
    """
    matches = list(re.finditer(template_score.pattern, raw))
    if not matches:
        if _REFUSAL.match(raw):
            return None, "refused"
        return None, "truncated" if finish_reason == "length" else "parse_error"
    last = matches[-1]
    if finish_reason == "length" and last.end() == len(raw):
        return None, "truncated"
    groups = last.groupdict()
    try:
        score = float(groups.get("score") or last[1])
        scale = float(groups["of"]) if groups.get("of") else template_score.max
    except (TypeError, ValueError):
        return None, "parse_error"
    if scale != template_score.max or not template_score.min <= score <= template_score.max:
        return None, "out_of_range"
    return score, "ok"

"""Rows of a round as the examples that a trainer takes: token ids as the policy sampled them.

The end token is learned only where the policy ended by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selfalign.engines.chat import encode_chat
from selfalign.stages.conversations import messages_for
from selfalign.types import (
    Candidate,
    CompletionExample,
    Judgement,
    JudgementPair,
    LabelExample,
    Lesson,
    Pair,
    PairExample,
    Prompt,
    Ranking,
    RankingExample,
    UnaryLabel,
)

#: What a round trains on, by name: a pair builder's ``makes``, an input of the stage's process, a trainer's ``needs``.
KINDS: Mapping[str, type[Any]] = {
    "pairs": Pair, "judgement_pairs": JudgementPair, "labels": UnaryLabel, "rankings": Ranking, "lessons": Lesson
}  # fmt: skip
#: A trainer's ``needs`` -> the rows that are examples for it; those of all others are the rows of that name.
_FEEDS = {"pairs": ("pairs", "judgement_pairs")}
Made = Pair | JudgementPair | UnaryLabel | Ranking | Lesson
Example = PairExample | LabelExample | RankingExample | CompletionExample


def feeds(needs: str) -> tuple[str, ...]:
    """Names of the rows (KINDS) that are examples for a trainer that ``needs`` them; all for "completions"."""
    return tuple(KINDS) if needs == "completions" else _FEEDS.get(needs, (needs,) if needs in KINDS else ())


def candidates_of(row: Made) -> tuple[str, ...]:
    """Ids of the candidates that a row names, in its own order."""
    if isinstance(row, Pair):
        return row.chosen_id, row.rejected_id
    if isinstance(row, UnaryLabel):
        return (row.candidate_id,)
    return row.candidate_ids if isinstance(row, Ranking) else ()


def identity_of(row: Made) -> str:
    """The row's id."""
    if isinstance(row, Pair | JudgementPair):
        return row.pair_id
    if isinstance(row, UnaryLabel):
        return row.label_id
    return row.ranking_id if isinstance(row, Ranking) else row.lesson_id


class Encoder:
    """Makes examples of rows; ``prompts`` and ``candidates``, by id, hold everything that the rows name.

    ``smoothing`` is the label smoothing of the pairs, by id, that have one of their own.
    """

    def __init__(
        self,
        tokenizer: Any,
        system_prompt: str | None,
        prompts: Mapping[str, Prompt],
        candidates: Mapping[str, Candidate],
        smoothing: Mapping[str | None, float | None],
        judgements: Mapping[str, Judgement],
    ) -> None:
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt
        self._prompts = prompts
        self._candidates = candidates
        self._smoothing = smoothing
        self._judgements = judgements
        self._known: dict[str, tuple[int, ...]] = {}

    def examples(self, made: Mapping[str, Sequence[Any]], needs: str) -> list[Any]:
        """What a trainer that ``needs`` pairs, labels, rankings or completions gets of the rows ``made`` (by KINDS).

        Rows of another kind give nothing; examples of each kind are in order of id.
        """
        if needs in made:
            return [self._example(row) for name in feeds(needs) for row in sorted(made.get(name, ()), key=identity_of)]
        if needs != "completions":
            return []
        rows = [row for name in KINDS for row in sorted(made.get(name, ()), key=identity_of)]
        return [example for row in rows if (example := self._completion(row)) is not None]

    def _example(self, row: Made) -> Example | None:
        if isinstance(row, JudgementPair):
            chosen, rejected = (self._written(self._judgements[one]) for one in (row.chosen_id, row.rejected_id))
            asked = encode_chat(self._tokenizer, json.loads(row.messages))
            return PairExample(row.pair_id, asked, chosen, rejected, row.margin, row.weight, of="judgements")
        answers = tuple(self._candidates[one].sampled_ids for one in candidates_of(row))
        if isinstance(row, Pair):
            chosen, rejected = answers
            return PairExample(
                row.pair_id, self._prompt(row.prompt_id), chosen, rejected, row.margin, row.weight, row.chosen_score,
                row.rejected_score, self._smoothing.get(row.pair_id), row.round,
            )  # fmt: skip
        if isinstance(row, UnaryLabel):
            return LabelExample(row.label_id, self._prompt(row.prompt_id), answers[0], row.label, row.weight)
        if isinstance(row, Ranking):
            return RankingExample(row.ranking_id, self._prompt(row.prompt_id), answers, row.scores, row.weight)
        return self._completion(row)

    def _written(self, judgement: Judgement) -> tuple[int, ...]:
        """A judgement's text, of which no token ids are kept."""
        end = [self._tokenizer.eos_token_id] if json.loads(judgement.detail).get("finish_reason") == "stop" else []
        return (*self._tokenizer(judgement.raw, add_special_tokens=False)["input_ids"], *end)

    def _completion(self, row: Made) -> CompletionExample | None:
        """The answer to imitate: the chosen side, a desirable candidate (so that ``sft`` on the labels of a best-of-n
        builder is RAFT, arXiv 2304.06767, or ReST, arXiv 2308.08998), the best of a ranking, a lesson's answer.
        """
        if isinstance(row, Lesson):
            prompt_ids = encode_chat(self._tokenizer, json.loads(row.messages), row.answer_prefix)
            answer = self._tokenizer(row.answer, add_special_tokens=False)["input_ids"]
            end = [self._tokenizer.eos_token_id] if row.ends else []
            # Verdicts on two answers to one prompt differ by the answers alone: seen together, what they share cancels.
            group = f"{row.source}:{row.subject_id}" if row.kind == "judge" else None
            return CompletionExample(row.lesson_id, prompt_ids, (*answer, *end), row.weight, group)
        if isinstance(row, JudgementPair) or (isinstance(row, UnaryLabel) and not row.label):
            return None
        # Of equally good ones the first: index finds no other.
        best = row.scores.index(max(row.scores)) if isinstance(row, Ranking) else 0
        candidate_id = candidates_of(row)[best]
        answer = self._candidates[candidate_id].sampled_ids
        return CompletionExample(candidate_id, self._prompt(row.prompt_id), answer, row.weight)

    def _prompt(self, prompt_id: str) -> tuple[int, ...]:
        if prompt_id not in self._known:
            messages = messages_for(self._prompts[prompt_id].text, self._system_prompt)
            self._known[prompt_id] = encode_chat(self._tokenizer, messages)
        return self._known[prompt_id]

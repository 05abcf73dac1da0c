"""A model judges its own judgements: which of two judgements of one candidate is the better one.

Meta-Rewarding Language Models (arXiv 2407.19594), where the verdict is written after a comparison in words; read from
logits it costs one forward pass, and a small model always gives one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from selfalign.config import MetaSettings
from selfalign.errors import PromptFileError
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.judges.meta import JudgedCandidate
from selfalign.judges.parsing import parse_score
from selfalign.judges.rubric import choice_values, longest_choice, score_format, too_long, words
from selfalign.judges.rubric_logits import expected_score
from selfalign.protocols import Engine
from selfalign.templates import Template, Templates
from selfalign.types import Completion, GenerationRequest, Judgement, Message, MetaJudgement, Outcome, SamplingParams

VARIABLES = ("instruction", "response", "judgement_a", "judgement_b")


@dataclass(frozen=True)
class Question:
    """Two judgements of a candidate, in the order in which they are shown."""

    candidate: JudgedCandidate
    first: Judgement
    second: Judgement


@dataclass(frozen=True)
class _Reading:
    """``p`` is the probability that the first judgement is the better one, where there is one."""

    p: float | None
    outcome: Outcome
    detail: dict[str, Any]
    raw: str = ""
    seed: int | None = None


class MetaJudge:
    """Asks every two judgements of a candidate in both orders, once each."""

    def __init__(self, settings: MetaSettings, templates: Templates, run_seed: int, round: int) -> None:
        """Raises PromptFileError: the prompt cannot be used, or does not show what is to be compared."""
        self.settings = settings
        self._template = load_prompt(templates, settings)
        self._values = choice_values(self._template)
        self._seed = (run_seed, round)
        self._round = round
        unused = {"temperature", "top_p", "max_tokens"} if settings.mode == "logits" else {"min_mass"}
        asked = settings.model_dump(mode="json", include={"mode", "temperature", "top_p", "max_tokens", "min_mass"})
        self.meta_hash = content_id(
            "meta_judge", self._template.hash, {name: value for name, value in asked.items() if name not in unused}
        )

    def meta_id(self, question: Question, weights_hash: str) -> str:
        """Id of the row that answers ``question``."""
        ids = (question.first.judgement_id, question.second.judgement_id)
        return content_id("meta_judgement", self._round, *ids, self.meta_hash, weights_hash)

    def plan(self, engine: Engine, questions: Sequence[Question]) -> list[list[int]]:
        """Deterministic batches of indices into ``questions``."""
        return engine.plan([len(self._encode(engine, question)) for question in questions], 1, self._answer_room())

    def ask(self, engine: Engine, questions: Sequence[Question], trained_length: int) -> list[MetaJudgement]:
        """A row for each question of one batch, in order.

        Questions that do not fit into the model's window are "truncated", and so are those about judgements that are
        too long to be trained on: their prompt and text would exceed ``trained_length`` tokens.
        """
        readings: list[_Reading | None] = [self._unaskable(engine, question, trained_length) for question in questions]
        asked = [question for question, known in zip(questions, readings, strict=True) if known is None]
        found = iter(self._read(engine, asked) if asked else [])
        return [
            self._row(question, next(found) if known is None else known, engine.weights_hash)
            for question, known in zip(questions, readings, strict=True)
        ]

    def _unaskable(self, engine: Engine, question: Question, trained_length: int) -> _Reading | None:
        judged = len(engine.encode_prompt(question.candidate.messages))
        # One more for the end token.
        trained = judged + 1 + max(len(engine.encode_text(j.raw)) for j in (question.first, question.second))
        if trained > trained_length:
            why = {"reason": "too long to be trained on", "n_tokens": trained, "room": trained_length}
            return _Reading(None, "truncated", why)
        length, room = len(self._encode(engine, question)), engine.context_length - self._answer_room()
        if length > room:
            p, outcome, detail = too_long(length, room)
            return _Reading(p, outcome, detail)
        return None

    def _read(self, engine: Engine, questions: Sequence[Question]) -> list[_Reading]:
        if self.settings.mode == "logits":
            prompts = [self._encode(engine, question) for question in questions]
            scores = engine.score_choices(prompts, self._template.choices)
            return [self._from_logits([float(value) for value in values]) for values in scores]
        settings = self.settings
        params = SamplingParams(settings.temperature, settings.top_p, 0, settings.max_tokens)
        requests = [
            GenerationRequest(
                f"{question.first.judgement_id}/{question.second.judgement_id}", self._messages(question),
                (self._seed_of(question),),
            )
            for question in questions
        ]  # fmt: skip
        answers = engine.generate(requests, params)
        return [self._from_text(q, answer) for q, (answer,) in zip(questions, answers, strict=True)]

    def _from_logits(self, log_probs: Sequence[float]) -> _Reading:
        p, _, mass = expected_score(log_probs, self._values)
        if p is None or mass < self.settings.min_mass:
            return _Reading(None, "parse_error", {"mass": mass})
        return _Reading(p, "tie" if p == 0.5 else "ok", {"mass": mass})

    def _from_text(self, question: Question, answer: Completion) -> _Reading:
        item = question.candidate.item
        shown = (item.prompt.text, item.candidate.text, question.first.raw, question.second.raw)
        p, outcome = parse_score(
            answer.text, score_format(self._template), answer.finish_reason, shown=shown, words=words(self._template)
        )
        detail = {"finish_reason": answer.finish_reason, "n_tokens": len(answer.token_ids)}
        return _Reading(p, outcome, detail, answer.text, self._seed_of(question))

    def _row(self, question: Question, reading: _Reading, weights_hash: str) -> MetaJudgement:
        first, second = question.first, question.second
        p_first = reading.p if reading.outcome == "ok" else None
        return MetaJudgement(
            meta_id=self.meta_id(question, weights_hash),
            round=self._round,
            candidate_id=first.candidate_id,
            judge=first.judge,
            judge_hash=first.judge_hash,
            first_id=first.judgement_id,
            second_id=second.judgement_id,
            meta_hash=self.meta_hash,
            weights_hash=weights_hash,
            winner=None if p_first is None else "first" if p_first > 0.5 else "second",
            p_first=p_first,
            outcome=reading.outcome,
            raw=reading.raw,
            seed=reading.seed,
            detail=canonical(reading.detail),
        )

    def _seed_of(self, question: Question) -> int:
        ids = (question.first.judgement_id, question.second.judgement_id)
        return derive_seed(*self._seed, "meta_judge", *ids, self.meta_hash)

    def _answer_room(self) -> int:
        return longest_choice(self._template) if self.settings.mode == "logits" else self.settings.max_tokens

    def _encode(self, engine: Engine, question: Question) -> tuple[int, ...]:
        prefix = self._template.answer_prefix if self.settings.mode == "logits" else ""
        return engine.encode_prompt(self._messages(question), prefix)

    def _messages(self, question: Question) -> tuple[Message, ...]:
        item = question.candidate.item
        return self._template.messages(
            instruction=item.prompt.text, response=item.candidate.text, judgement_a=question.first.raw,
            judgement_b=question.second.raw,
        )  # fmt: skip


def questions(candidates: Sequence[JudgedCandidate]) -> list[Question]:
    """Every ordered pair of each candidate's judgements."""
    return [
        Question(candidate, first, second)
        for candidate in candidates
        for first, second in permutations(candidate.judgements, 2)
    ]


def n_questions(judgements: int) -> int:
    """How many :func:`questions` there are of a candidate with so many comparable judgements."""
    return math.perm(judgements, 2)


def load_prompt(templates: Templates, settings: MetaSettings) -> Template:
    """The meta-judge's prompt file.

    Raises:
        PromptFileError: it cannot be loaded, is no prompt of a meta-judge, or says not what its verdicts are worth.
    """
    template = templates.load(settings.rubric)
    if template.kind != "meta_judge":
        raise PromptFileError(
            f"{template.path}: is of kind '{template.kind}', meta.rubric must be of kind 'meta_judge'"
        )
    if sorted(template.variables) != sorted(VARIABLES):
        raise PromptFileError(f"{template.path}: a meta-judge's prompt has the variables {', '.join(VARIABLES)}")
    values = choice_values(template)
    if (min(values), max(values)) != (0, 1):
        raise PromptFileError(
            f"{template.path}: values must be the probability that judgement_a is the better one, from 0 to 1, such as "
            f"choices [A, B] with values [1, 0]"
        )
    if settings.mode == "text":
        score_format(template)
    template.messages(**dict.fromkeys(VARIABLES, "a"))
    return template

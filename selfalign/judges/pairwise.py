"""Candidates of a prompt compared with one another, each pair shown in both orders.

MT-Bench (arXiv 2306.05685), section 3.4: a judge prefers a place, so both orders are asked. There two
orders that differ are a tie; here they are an outcome of their own, and their probabilities are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from selfalign.config import Settings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id
from selfalign.judges.comparisons import Agreement, Comparison, by_prompt, comparisons, settle
from selfalign.judges.parsing import parse_score
from selfalign.judges.rows import row
from selfalign.judges.rubric import (
    choice_values,
    load_rubric,
    longest_choice,
    require_engine,
    score_format,
    too_long,
    vote_seed,
    words,
)
from selfalign.judges.rubric_logits import expected_score
from selfalign.protocols import Engine, JudgeContext
from selfalign.types import (
    Completion,
    Exercise,
    GenerationRequest,
    JudgeItem,
    Judgement,
    Message,
    Outcome,
    SamplingParams,
)

#: What a rubric for two responses shows.
VARIABLES = ("instruction", "first", "second")


@dataclass(frozen=True)
class _Reading:
    """One answer to "which is better" in one order: P(first shown is better), or why there is none."""

    p: float | None
    outcome: Outcome
    raw: str = ""
    seed: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class PairwiseJudge:
    """Two rows for each vote on a comparison, one for either candidate, whose scores add up to 1.

    A row's ``detail`` has the opponent's id, ``p_first`` and ``p_second`` (P(this candidate is better) when
    it is shown first and second) and ``position_gap`` = p_first - p_second, which is the same in both rows:
    its mean over comparisons is the judge's preference for the first place. ``raw`` and ``seed`` are those
    of the order in which the row's own candidate stands first; the other order's are in the opponent's row.
    A candidate's score is the mean over its comparisons. One without peers gets no row: nothing to compare.

    A batch holds whole prompts, as many as the engine plans together by the tokens of their comparisons. A
    prompt that alone has more is a batch of its own, which the engine reads in pieces of its budget: with
    64 candidates and 8 opponents, 256 comparisons and 512 readings. ``opponents`` bounds it.
    """

    name = "pairwise"
    score_range = (0.0, 1.0)
    #: Candidates of a prompt must come in one call of :meth:`judge`.
    compares = True

    class Config(Settings):
        id: Literal["pairwise"] = "pairwise"
        rubric: str = Field("judges/pairwise", min_length=1, description="name in prompts/, or path of a .j2 file")
        mode: Literal["logits", "text"] = Field("logits", description="read from logits, or sampled and parsed")
        agree: Agreement = Field(
            "strict", description="strict: orders that differ give no score; mean: their mean does"
        )
        opponents: int = Field(
            8, ge=1, description="others that a candidate is compared with; all if there are no more"
        )
        min_mass: float = Field(0.0, ge=0, le=1, description="logits: less probability on the choices is a parse_error")
        votes: int = Field(1, ge=1, description="text: answers sampled for each order")
        temperature: float = Field(0.7, ge=0, description="0 is greedy")
        top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
        max_tokens: int = Field(64, ge=1, description="of a judgement")
        min_valid_votes: int = Field(1, ge=1, description="a candidate with fewer valid votes has no score")

        @model_validator(mode="after")
        def _logits_have_one_vote(self) -> PairwiseJudge.Config:
            if self.mode == "logits" and self.votes > 1:
                raise ValueError("votes above 1 need mode: text; read from logits, every vote is the same")
            return self

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or says not what its verdicts are worth."""
        self.config = config
        self._context = context
        self._rubric = load_rubric(context, config.rubric, VARIABLES)
        self._values = choice_values(self._rubric)
        if (min(self._values), max(self._values)) != self.score_range:
            raise PromptFileError(
                f"{self._rubric.path}: values must be the probability that the first response is the better one, from "
                f"0 to 1, such as choices [A, B] with values [1, 0]"
            )
        if config.mode == "text":
            score_format(self._rubric)
        self.min_valid_votes = config.min_valid_votes
        unused = {"votes", "temperature", "top_p", "max_tokens"} if config.mode == "logits" else {"min_mass"}
        settings = config.model_dump(mode="json", exclude={"rubric", *unused})
        self.judge_hash = content_id("judge", self.name, self._rubric.hash, settings)

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return True

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge; the candidates of a prompt are always in one batch."""
        engine = require_engine(self._context, self.name)
        answer = self.config.votes * self.config.max_tokens if self.config.mode == "text" else 0
        work: dict[str, int] = defaultdict(int)
        for comparison in self._comparisons(items):
            work[comparison.a.prompt.prompt_id] += 2 * (len(self._encode(engine, comparison.a, comparison.b)) + answer)
        groups = by_prompt(items)
        prompt_ids = sorted(groups)
        batches = engine.plan([work[prompt_id] for prompt_id in prompt_ids], 1, 0)
        return [[index for at in batch for index in groups[prompt_ids[at]]] for batch in batches]

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge. A comparison too long for the model's window gives "truncated" rows."""
        engine = require_engine(self._context, self.name)
        chosen = self._comparisons(items)
        asked = [c for c in chosen if c.a.candidate.text != c.b.candidate.text]
        orders = [order for c in asked for order in ((c.a, c.b), (c.b, c.a))]
        readings = iter(self._read(engine, orders))
        rows: list[Judgement] = []
        for comparison in chosen:
            if comparison.a.candidate.text == comparison.b.candidate.text:
                same = [_Reading(None, "tie", detail={"reason": "identical text"})] * self.config.votes
                votes = list(zip(same, same, strict=True))
            else:
                votes = list(zip(next(readings), next(readings), strict=True))
            for vote, (a_first, b_first) in enumerate(votes):
                rows += self._rows(comparison, vote, a_first, b_first, engine.weights_hash)
        return rows

    def exercises(self, better: JudgeItem, worse: JudgeItem) -> list[Exercise]:
        """See protocols.TeachableJudge: both orders; only verdicts that are read from logits are taught."""
        if self.config.mode != "logits":
            return []
        by_value = sorted(zip(self._values, self._rubric.choices, strict=True))
        return [
            Exercise(self._shown(first, second), self._rubric.answer_prefix, choice)
            for first, second, (_, choice) in ((better, worse, by_value[-1]), (worse, better, by_value[0]))
        ]

    def _rows(
        self, comparison: Comparison, vote: int, a_first: _Reading, b_first: _Reading, weights_hash: str
    ) -> Iterator[Judgement]:
        a_better: float | None = None
        failures = [reading.outcome for reading in (a_first, b_first) if reading.p is None]
        outcome: Outcome
        if a_first.p is None or b_first.p is None:
            outcome = failures[0]
        else:
            a_better, outcome = settle(a_first.p, 1 - b_first.p, self.config.agree)
        sides = (
            (comparison.a, comparison.b, comparison.b_rank, a_first, b_first, a_better),
            (comparison.b, comparison.a, comparison.a_rank, b_first, a_first, None if a_better is None else 1 - a_better),
        )  # fmt: skip
        for item, opponent, opponent_rank, first, second, score in sides:
            yield row(
                self, self._context.round, item, outcome, score=score, detail=_detail(opponent, first, second),
                raw=first.raw, sample_idx=opponent_rank * self.config.votes + vote, seed=first.seed,
                weights_hash=weights_hash,
            )  # fmt: skip

    def _read(self, engine: Engine, orders: Sequence[tuple[JudgeItem, JudgeItem]]) -> list[list[_Reading]]:
        """Readings of every order, ``votes`` each."""
        by_logits = self.config.mode == "logits"
        room = engine.context_length - (longest_choice(self._rubric) if by_logits else self.config.max_tokens)
        prompts = [self._encode(engine, first, second) for first, second in orders]
        fitting = [order for order, prompt in zip(orders, prompts, strict=True) if len(prompt) <= room]
        if by_logits:
            short = [prompt for prompt in prompts if len(prompt) <= room]
            scores = engine.score_choices(short, self._rubric.choices) if short else ()
            found = iter([self._from_logits([float(value) for value in values]) for values in scores])
        else:
            params = SamplingParams(self.config.temperature, self.config.top_p, 0, self.config.max_tokens)
            requests = [self._request(first, second) for first, second in fitting]
            answers = engine.generate(requests, params) if requests else []
            found = iter([self._from_text(*pair) for pair in zip(fitting, requests, answers, strict=True)])
        return [
            next(found) if len(prompt) <= room else [_unread(len(prompt), room)] * self.config.votes
            for prompt in prompts
        ]

    def _from_logits(self, log_probs: Sequence[float]) -> list[_Reading]:
        p, _, mass = expected_score(log_probs, self._values)
        valid = p is not None and mass >= self.config.min_mass
        return [_Reading(p if valid else None, "ok" if valid else "parse_error", detail={"mass": mass})]

    def _from_text(
        self, order: tuple[JudgeItem, JudgeItem], request: GenerationRequest, answers: Sequence[Completion]
    ) -> list[_Reading]:
        shown = (order[0].prompt.text, order[0].candidate.text, order[1].candidate.text)
        readings = []
        for answer, seed in zip(answers, request.seeds, strict=True):
            p, outcome = parse_score(
                answer.text,
                score_format(self._rubric),
                answer.finish_reason,
                shown=shown,
                words=words(self._rubric),
            )
            detail = {"finish_reason": answer.finish_reason, "n_tokens": len(answer.token_ids)}
            readings.append(_Reading(p, outcome, answer.text, seed, detail))
        return readings

    def _request(self, first: JudgeItem, second: JudgeItem) -> GenerationRequest:
        ids = (first.candidate.candidate_id, second.candidate.candidate_id)
        seeds = tuple(vote_seed(self._context, self.judge_hash, ids, vote) for vote in range(self.config.votes))
        return GenerationRequest("/".join(ids), self._shown(first, second), seeds)

    def _encode(self, engine: Engine, first: JudgeItem, second: JudgeItem) -> tuple[int, ...]:
        prefix = self._rubric.answer_prefix if self.config.mode == "logits" else ""
        return engine.encode_prompt(self._shown(first, second), prefix)

    def _shown(self, first: JudgeItem, second: JudgeItem) -> tuple[Message, ...]:
        return self._rubric.messages(
            instruction=first.prompt.text, first=first.candidate.text, second=second.candidate.text
        )

    def _comparisons(self, items: Sequence[JudgeItem]) -> list[Comparison]:
        seed_parts = (self._context.run_seed, self._context.round, self.judge_hash)
        return comparisons(items, self.config.opponents, seed_parts)


def _unread(length: int, room: int) -> _Reading:
    p, outcome, detail = too_long(length, room)
    return _Reading(p, outcome, detail=detail)


def _detail(opponent: JudgeItem, first: _Reading, second: _Reading) -> dict[str, Any]:
    """``first`` is the reading in which the row's own candidate stands first."""
    detail: dict[str, Any] = {
        "opponent": opponent.candidate.candidate_id,
        "first": first.detail,
        "second": second.detail,
    }
    detail["p_first"] = first.p
    detail["p_second"] = None if second.p is None else 1 - second.p
    if first.p is not None and second.p is not None:
        detail["position_gap"] = first.p - (1 - second.p)
    else:
        detail["outcomes"] = [first.outcome, second.outcome]
    return detail

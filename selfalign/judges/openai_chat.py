"""Any OpenAI-compatible chat endpoint as a judge: a rubric answered k times, or read from its top log-probabilities.

As ``rubric_votes`` (Self-Rewarding, arXiv 2401.10020) and ``rubric_logits`` (G-Eval, arXiv 2303.16634), with the
model elsewhere: its weights cannot be hashed, so that ``weights_hash`` is None and the reply's model name is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from pydantic import Field, model_validator

from selfalign.endpoints.answer import Answer, TopToken, choice_log_probs, read, token_at
from selfalign.endpoints.chat import ChatEndpoint, Reply, about_question
from selfalign.endpoints.settings import ServerSettings
from selfalign.errors import PromptFileError
from selfalign.identity import content_id
from selfalign.judges.parsing import parse_score
from selfalign.judges.rows import row
from selfalign.judges.rubric import choice_values, load_rubric, quotable, shown, vote_seed, words
from selfalign.judges.rubric_logits import expected_score
from selfalign.protocols import JudgeContext
from selfalign.types import JudgeItem, Judgement, Outcome

#: Candidates a batch, in times of ``concurrency``: a batch that a kill interrupts is made again.
_ROUNDS_A_BATCH = 4
#: What ``extra`` may not decide, since the judge does.
_OURS = ("model", "messages", "stream", "n", "seed", "temperature", "top_p", "logprobs", "top_logprobs", "max_tokens")


class OpenAIJudge:
    """One row a vote, or one a candidate with ``mode: logprobs``.

    An answer without a score is an outcome as with every judge; a server that fails is none: the stage then stops
    (EndpointDown, worth another start), and what was answered before is in the store and in the cache.
    ``detail`` holds the tokens and, where prices are set, the cost of each vote.
    """

    name = "openai"

    class Config(ServerSettings):
        id: Literal["openai"] = "openai"
        rubric: str = Field("judges/additive", min_length=1, description="name in prompts/, or path of a .j2 file")
        mode: Literal["votes", "logprobs"] = Field(
            "votes", description="votes: sampled answers; logprobs: expected score, where the server gives top_logprobs"
        )
        votes: int = Field(3, ge=1, description="answers sampled for each candidate; one with mode: logprobs")
        temperature: float | None = Field(0.7, ge=0, description="null leaves it to the server")
        top_p: float | None = Field(0.9, gt=0, le=1, description="null leaves it to the server")
        max_tokens: int = Field(512, ge=1, description="of a judgement")
        min_valid_votes: int = Field(2, ge=1, description="a candidate with fewer valid votes has no score")
        top_logprobs: int = Field(20, ge=1, le=100, description="with mode: logprobs, how many to ask for")
        min_mass: float = Field(
            0.5, ge=0, le=1, description="with mode: logprobs, less on the choices is a parse_error"
        )
        input_price: float | None = Field(None, ge=0, description="per million prompt tokens")
        output_price: float | None = Field(None, ge=0, description="per million answer tokens")

        @model_validator(mode="after")
        def _fit_together(self) -> OpenAIJudge.Config:
            if self.mode == "votes" and self.min_valid_votes > self.votes:
                raise ValueError(f"min_valid_votes {self.min_valid_votes} exceeds votes {self.votes}; lower it")
            if taken := sorted(set(self.extra) & {*_OURS, self.max_tokens_key}):
                raise ValueError(
                    f"extra may not set {', '.join(taken)}; there are settings for it, or the judge decides"
                )
            return self

        def decides(self) -> dict[str, Any]:
            """What an answer depends on: not how often, how fast or with whose key it is asked for."""
            return self.model_dump(mode="json", include=_IDENTITY)

    def __init__(self, config: Config, context: JudgeContext) -> None:
        """Raises PromptFileError: the rubric cannot be used, or lacks what ``mode`` reads the score by."""
        self.config = config
        self._context = context
        self._rubric = load_rubric(context, config.rubric)
        if config.mode == "logprobs":
            self._values = choice_values(self._rubric)
            self.score_range = (min(self._values), max(self._values))
        elif self._rubric.score is None:
            raise PromptFileError(f"{self._rubric.path}: needs score (min, max, pattern) for judge '{self.name}'")
        else:
            self.score_range = (self._rubric.score.min, self._rubric.score.max)
        #: See protocols.RemoteJudge.
        self.asks = config.votes if config.mode == "votes" else 1
        self.min_valid_votes = config.min_valid_votes if config.mode == "votes" else 1
        self.judge_hash = content_id("judge", self.name, self._rubric.hash, config.decides())
        self._endpoint = ChatEndpoint(config.endpoint())

    @staticmethod
    def needs_engine(config: Config) -> bool:
        return False

    def check_access(self) -> None:
        """See protocols.RemoteJudge."""
        self._endpoint.check_key()

    def plan(self, items: Sequence[JudgeItem]) -> list[list[int]]:
        """See protocols.Judge."""
        size = self.config.concurrency * _ROUNDS_A_BATCH
        return [list(range(start, min(start + size, len(items)))) for start in range(0, len(items), size)]

    def judge(self, items: Sequence[JudgeItem]) -> list[Judgement]:
        """See protocols.Judge.

        Raises:
            EndpointDown: the server could not be reached, or kept failing.
            StageFailed: it refuses us. ConfigError: the variable with the key is not set.
        """
        asked = [(item, vote) for item in items for vote in range(self.asks)]
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            answers = [pool.submit(self._vote, item, vote) for item, vote in asked]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _vote(self, item: JudgeItem, vote: int) -> Judgement:
        seed = vote_seed(self._context, self.judge_hash, [item.candidate.candidate_id], vote)
        reply = self._endpoint.ask(self._request(item, seed), vote)
        answer = read(reply.body)
        score, outcome, more = self._verdict(item, reply, answer)
        return row(
            self, self._context.round, item, outcome, score=score, raw=answer.raw, sample_idx=vote, seed=seed,
            detail={**self._cost(answer), **more},
        )  # fmt: skip

    def _request(self, item: JudgeItem, seed: int) -> dict[str, Any]:
        config = self.config
        request: dict[str, Any] = {
            **config.extra,
            "model": config.model,
            "messages": [dict(message) for message in shown(self._rubric, item)],
            config.max_tokens_key: config.max_tokens,
        }
        optional = {"temperature": config.temperature, "top_p": config.top_p}
        # Servers take 32-bit seeds, some of them signed.
        optional["seed"] = seed % 2**31 if config.send_seed else None
        if config.mode == "logprobs":
            request |= {"logprobs": True, "top_logprobs": config.top_logprobs}
        return request | {key: value for key, value in optional.items() if value is not None}

    def _verdict(self, item: JudgeItem, reply: Reply, answer: Answer) -> tuple[float | None, Outcome, dict[str, Any]]:
        if reply.status != 200:
            return None, "refused" if about_question(reply.body, reply.status) == "refused" else "truncated", {}
        if answer.refused:
            return None, "refused", {}
        if answer.text is None:
            # All of a reasoning model's tokens may have gone into thoughts that are not shown.
            return None, "truncated" if answer.finish_reason == "length" else "parse_error", {}
        if self.config.mode == "logprobs":
            return self._expected(answer, answer.text)
        assert self._rubric.score is not None
        reason: Literal["stop", "length"] = "length" if answer.finish_reason == "length" else "stop"
        found = parse_score(answer.text, self._rubric.score, reason, shown=quotable(item), words=words(self._rubric))
        return *found, {}

    def _expected(self, answer: Answer, text: str) -> tuple[float | None, Outcome, dict[str, Any]]:
        token = self._verdict_token(answer, text)
        if token is None:
            return None, "truncated" if answer.finish_reason == "length" else "parse_error", {}
        score, shares, mass = expected_score(choice_log_probs(token, self._rubric.choices), self._values)
        more = {"probabilities": dict(zip(self._rubric.choices, shares, strict=True)), "mass": mass}
        valid = score is not None and mass >= self.config.min_mass
        return score if valid else None, "ok" if valid else "parse_error", more

    def _verdict_token(self, answer: Answer, text: str) -> TopToken | None:
        """The token that says the score: where the rubric's pattern last matches, else the first that is a choice."""
        if self._rubric.score is not None:
            matches = list(re.finditer(self._rubric.score.pattern, text))
            if matches:
                groups = matches[-1].groupdict()
                return token_at(answer.tokens, text, matches[-1].start("score" if groups.get("score") else 1))
        return next((token for token in answer.tokens if token.text.strip() in self._rubric.choices), None)

    def _cost(self, answer: Answer) -> dict[str, Any]:
        """Nothing here may differ between the first reply and its copy in the cache."""
        config = self.config
        detail: dict[str, Any] = {
            "finish_reason": answer.finish_reason, "model": answer.model,
            "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens,
        }  # fmt: skip
        cost = price(answer, config.input_price, config.output_price)
        return detail if cost is None else {**detail, "cost": cost}


#: The settings that decide an answer or how it is read; the rubric counts by its text.
_IDENTITY = {
    "base_url", "model", "mode", "votes", "temperature", "top_p", "max_tokens", "max_tokens_key", "send_seed", "extra",
    "min_valid_votes", "top_logprobs", "min_mass",
}  # fmt: skip


def price(answer: Answer, input_price: float | None, output_price: float | None) -> float | None:
    """What the vote cost, in the prices' currency; None without prices or where the server counted no tokens."""
    if (input_price is None and output_price is None) or answer.prompt_tokens is None:
        return None
    tokens_in, tokens_out = answer.prompt_tokens, answer.completion_tokens or 0
    return (tokens_in * (input_price or 0.0) + tokens_out * (output_price or 0.0)) / 1e6

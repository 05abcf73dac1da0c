"""Answers sampled by a model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, or anybody's.

Nobody here can hash a server's weights, so that it cannot stand in for M_t-1. What it samples are another model's
answers: their rows carry the name that the server knows its model by, in place of a hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from selfalign.config import plugin_config
from selfalign.endpoints.answer import Answer, read
from selfalign.endpoints.chat import ChatEndpoint
from selfalign.endpoints.settings import ServerSettings
from selfalign.engines.batching import plan_batches
from selfalign.engines.chat import ChatEncoder
from selfalign.engines.requests import check_window
from selfalign.errors import ConfigError, StageFailed
from selfalign.identity import hash_tokenizer
from selfalign.types import Completion, GenerationRequest, SamplingParams, TokenSequence

#: Samples a batch, in times of ``concurrency``: a batch that a kill interrupts is made again, from the cache of replies.
_ROUNDS_A_BATCH = 8
#: What ``extra`` may not decide, since a run's config or the engine does.
_OURS = ("model", "messages", "stream", "n", "seed", "temperature", "top_p", "top_k", "logprobs", "max_tokens")
#: What a row has for a hash of weights where a server made it.
SERVED = "served:"


class OpenAIEngine(ChatEncoder):
    """Samples training candidates only; see protocols.Engine. Whatever the policy itself has to do is done by ``own``.

    A sample's tokens are its text in the policy's tokenizer, cut at ``max_tokens`` of these. Its log-probability is the
    server's, of the server's tokens. Each sample is a request with a seed of its own; whether the same seed gives the
    same text is the server's affair, and no server promises it for other neighbours in its batches. What was answered
    is in the cache of replies: a stage that is made again gets the same texts.
    """

    name = "openai"

    class Config(ServerSettings):
        id: Literal["openai"] = "openai"
        off_policy: bool = Field(
            False, description="must be true: the round's answers are another model's, whose weights nobody has checked"
        )
        logprobs: bool = Field(
            True, description="ask for the log-probabilities of what is sampled; false, where a server has none: NaN"
        )
        own: Annotated[SerializeAsAny[Any], BeforeValidator(partial(plugin_config, "engine"))] = Field(
            default="transformers",
            description="the engine of the run's own model: held-out answers, judging, measuring",
        )

        @model_validator(mode="after")
        def _fit_together(self) -> OpenAIEngine.Config:
            if taken := sorted(set(self.extra) & {*_OURS, self.max_tokens_key}):
                raise ValueError(f"extra may not set {', '.join(taken)}; the run's config decides")
            if isinstance(self.own, OpenAIEngine.Config):
                raise ValueError("own: must be an engine that loads the run's model, such as transformers")
            return self

        @property
        def weights_hash(self) -> str:
            """What rows carry in place of a hash."""
            return f"{SERVED}{self.model}"

        def decides(self) -> dict[str, Any]:
            """What an answer depends on: not how often, how fast or with whose key it is asked for."""
            return self.model_dump(mode="json", include=_IDENTITY)

    def __init__(
        self,
        config: Config,
        model_path: Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
        on_event: Callable[[str, str], None] | None = None,
    ) -> None:
        """``model_path`` is the policy's folder: its tokenizer and window are taken from there, and no weights.

        Raises:
            ModelError: the folder's tokenizer cannot be loaded. ConfigError: the key is not set.
        """
        from selfalign.engines import loading

        self.config = config
        self._tokenizer, shape, _ = loading.load_without_weights(model_path, trust_remote_code)
        self.weights_hash = config.weights_hash
        self.tokenizer_hash = hash_tokenizer(model_path)
        self.context_length = loading.context_length(shape)
        self._endpoint = ChatEndpoint(config.endpoint())
        self._endpoint.check_key()
        self.on_tokens: Callable[[int, int], None] = lambda tokens, ended: None
        self._on_event = on_event or (lambda kind, message: None)
        self._names: set[str] = set()

    @staticmethod
    def check(config: Config, device: str) -> None:
        """Without asking anything: raises ConfigError where it lacks what it asks with, such as a key."""
        ChatEndpoint(config.endpoint()).check_key()

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        """See protocols.Engine: some rounds of ``concurrency`` requests a batch."""
        everything = len(lengths) * samples * (max(lengths, default=0) + max_tokens)
        rows = self.config.concurrency * _ROUNDS_A_BATCH
        return plan_batches(
            lengths, samples=samples, max_tokens=max_tokens, max_rows=rows, token_budget=everything
        )  # fmt: skip

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        """See protocols.Engine: all samples, each once, or an error; what was answered before it is in the cache.

        Raises:
            BadInput: a prompt does not leave ``max_tokens`` of the policy's window.
            EndpointDown: the server could not be reached, or kept failing: worth another start.
            StageFailed: it refuses us or a prompt, or its reply cannot be used.
        """
        lengths = [len(self.encode_prompt(request.messages)) for request in requests]
        for request, length in zip(requests, lengths, strict=True):
            check_window(f"request {request.request_id}", length, params.max_tokens, "max_tokens", self.context_length)
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            asked = [[pool.submit(self._ask, request, seed, params) for seed in request.seeds] for request in requests]
            try:
                for answer in as_completed(answer for group in asked for answer in group):
                    self.on_tokens(answer.result().completion_tokens or 0, 1)
                answers = [[answer.result() for answer in group] for group in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._tell_names([answer for group in answers for answer in group])
        return [
            tuple(self._completion(request, answer, length, params) for answer in group)
            for request, length, group in zip(requests, lengths, answers, strict=True)
        ]

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        """Raises ConfigError: servers show their likeliest tokens, and the choices need not be among them."""
        raise ConfigError(
            "generate.engine: openai only samples; the judge 'openai' with mode: logprobs asks a server for a score, any "
            "other judge reads its scores with generate.engine.own"
        )

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        """Raises ConfigError: a server's log-probabilities are not the policy's."""
        raise ConfigError("generate.engine: openai only samples; log-probabilities are read with generate.engine.own")

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _ask(self, request: GenerationRequest, seed: int, params: SamplingParams) -> Answer:
        config = self.config
        body: dict[str, Any] = {
            **config.extra,
            "model": config.model,
            "messages": [dict(message) for message in request.messages],
            "temperature": params.temperature,
            "top_p": params.top_p,
            config.max_tokens_key: params.max_tokens,
        }
        if params.top_k:
            body["top_k"] = params.top_k
        if config.send_seed:
            body["seed"] = seed % 2**31  # servers take 32-bit seeds, some of them signed
        if config.logprobs:
            body["logprobs"] = True
        # Our own seed tells samples apart also where the server is sent none, or half of it.
        reply = self._endpoint.ask(body, vote=seed)
        if reply.status != 200:
            raise StageFailed(
                f"{config.base_url}: does not take request {request.request_id} ({reply.status} "
                f"{' '.join(str(dict(reply.body)).split())[:200]}); shorten that prompt or leave it out"
            )
        return read(reply.body)

    def _completion(
        self, request: GenerationRequest, answer: Answer, prompt_length: int, params: SamplingParams
    ) -> Completion:
        where = f"{self.config.base_url}: request {request.request_id}"
        if answer.refused or answer.finish_reason not in ("stop", "length") or answer.text is None:
            raise StageFailed(
                f"{where}: no answer to train on (finish_reason {answer.finish_reason!r}, {answer.raw[:120]!r}); leave that "
                f"prompt out, or ask another model"
            )
        log_prob = self._log_prob(answer, where)
        ids = tuple(int(token) for token in self._tokenizer(answer.text, add_special_tokens=False)["input_ids"])
        end = self._tokenizer.eos_token_id
        # A server counts its own tokens.
        if len(ids) > params.max_tokens:
            ids = ids[: params.max_tokens]
            text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return Completion(text, ids, "length", None, log_prob, prompt_length)
        if answer.finish_reason == "length" or end is None or len(ids) == params.max_tokens:
            return Completion(answer.text, ids, "length", None, log_prob, prompt_length)
        return Completion(answer.text, ids, "stop", end, log_prob, prompt_length)

    def _log_prob(self, answer: Answer, where: str) -> float:
        if not self.config.logprobs:
            return math.nan
        found = [token.log_prob for token in answer.tokens]
        known = [value for value in found if value is not None]
        if len(known) < len(found) or (answer.text and not found):
            raise StageFailed(
                f"{where}: the reply has no log-probabilities of its tokens; set generate.engine.logprobs: false to do "
                f"without them"
            )
        return math.fsum(known)

    def _tell_names(self, answers: Sequence[Answer]) -> None:
        for name in sorted({answer.model for answer in answers} - self._names):
            self._names.add(name)
            self._on_event("served_by", f"{self.config.base_url}: '{self.config.model}' answers as '{name}'")


#: The settings that decide an answer.
_IDENTITY = {"id", "base_url", "model", "max_tokens_key", "send_seed", "extra", "logprobs"}

"""vLLM in this process: continuous batching, cached prefixes, many samples at once.

vllm, torch and transformers are imported by the methods: a config that names this engine is validated
without them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from selfalign.config import Settings
from selfalign.engines import vllm_install
from selfalign.engines.batching import plan_batches
from selfalign.engines.chat import ChatEncoder, encode_choice
from selfalign.engines.requests import as_completions, check_window, refuse_nan
from selfalign.errors import ConfigError, ModelError
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.types import Completion, GenerationRequest, SamplingParams, TokenSequence

#: vLLM's limit on the ids of one request's ``logprob_token_ids``.
_MOST_IDS = 128


class VllmEngine(ChatEncoder):
    """A causal language model run by vLLM; see protocols.Engine.

    Every sample is a request with its own seed, and its random numbers depend on that seed alone. vLLM does not
    promise the same logits for other neighbours in a batch: a sample may differ where rounding decides between two
    tokens. With ``batch_invariant`` (GPUs that have it) it promises that too, on the same hardware and version. The
    random numbers are vLLM's own, so that the samples are not those of another engine with the same seed.

    Other weights need another engine: vLLM 0.32's ``reload_weights`` leaves parts of a model as they were (seen with
    tied embeddings), and cached prefixes of the weights before.
    """

    name = "vllm"

    class Config(Settings):
        id: Literal["vllm"] = "vllm"
        max_rows: int = Field(
            512, ge=1, description="samples of one batch: what a kill may cost; vLLM divides it itself"
        )
        max_model_len: int | None = Field(None, ge=16, description="window in tokens; by default the model's own")
        memory_share: float | None = Field(
            None, gt=0, le=1, description="of the device's memory, for weights and cache; vLLM's own default if null"
        )
        cache_gib: float | None = Field(
            None, gt=0, description="memory for cached keys and values; on a CPU 1 by default, on a GPU what is left"
        )
        max_num_seqs: int | None = Field(None, ge=1, description="samples decoded together; vLLM's own default if null")
        tensor_parallel_size: int = Field(1, ge=1, description="devices that share one model")
        enforce_eager: bool = Field(False, description="no compilation: starts sooner, decodes slower")
        batch_invariant: bool = Field(False, description="results that do not depend on the batch; GPUs only, slower")

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
        """Load ``model_path`` (a folder).

        Raises:
            ModelError: the folder cannot be loaded, or not with these settings.
            ConfigError: vLLM is not installed, or not for ``device``; ``dtype`` cannot be had.
        """
        machine = vllm_install.this_machine(device)
        vllm_install.refuse_unusable(machine, config.batch_invariant)
        self.config = config
        self.device = "cuda" if machine.gpu else "cpu"
        wanted = self.device if device == "auto" else device
        os.environ.update(
            vllm_install.variables(config.tensor_parallel_size, config.batch_invariant, wanted, os.environ)
        )
        from selfalign.engines import loading

        self._trust = trust_remote_code
        self._tokenizer, shape, generation = loading.load_without_weights(model_path, trust_remote_code)
        self.weights_hash = hash_weights(model_path)
        self.tokenizer_hash = hash_tokenizer(model_path)
        self.parameters = loading.count_parameters(model_path)
        self.dtype = loading.choose_dtype(dtype, self.device, self.parameters, loading.read_cpu_flags())
        window = loading.context_length(shape)
        self.context_length = min(window, config.max_model_len or window)
        self.end_token_ids = loading.end_token_ids(generation, self._tokenizer)
        self.on_tokens: Callable[[int, int], None] = lambda tokens, ended: None
        self._llm: Any = _start(config, model_path, self.dtype, self.device, self.context_length, trust_remote_code)

    @staticmethod
    def check(config: Config, device: str) -> None:
        """Without starting anything: raises ConfigError where vLLM cannot run here."""
        vllm_install.refuse_unusable(vllm_install.this_machine(device), config.batch_invariant)

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        """See protocols.Engine. Batches are large, and as full as ``max_rows`` allows: vLLM keeps to its memory itself."""
        everything = len(lengths) * samples * (max(lengths, default=0) + max_tokens)
        return plan_batches(
            lengths,
            samples=samples,
            max_tokens=max_tokens,
            max_rows=self.config.max_rows,
            token_budget=everything,
        )

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        """See protocols.Engine. A prompt's samples share what is read of it, in whole blocks of the cache.

        Raises:
            BadInput: a prompt does not leave ``max_tokens`` of the window.
            StageFailed: the model's output is not a number.
        """
        if not requests:
            return []
        prompts = [self.encode_prompt(request.messages) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_window(f"request {request.request_id}", len(prompt), params.max_tokens, "max_tokens")
        rows = [
            (prompt, seed)
            for request, prompt in zip(requests, prompts, strict=True)
            for seed in request.seeds
        ]  # fmt: skip
        outputs = self._run(
            [prompt for prompt, _ in rows], [self._sampling(params, seed) for _, seed in rows], self.on_tokens
        )
        samples = [self._sample(output.outputs[0]) for output in outputs]
        refuse_nan([sample.log_prob for sample in samples])
        made = iter(as_completions(self._tokenizer, [len(prompt) for prompt, _ in rows], samples))
        return [tuple(next(made) for _ in request.seeds) for request in requests]

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        """See protocols.Engine. The tokens are asked for by id; those of vLLM's top k may not be among them.

        A choice of several tokens is read token by token, after what it has in common with the others.

        Raises:
            BadInput: an empty choice or prompt, or one that exceeds the window.
        """
        prompts = [tuple(prompt) for prompt in prompt_ids]
        if not prompts or not choices:
            return np.zeros((len(prompts), len(choices)))
        tokens = [encode_choice(self._tokenizer, choice) for choice in choices]
        longest = max(map(len, tokens))
        for index, prompt in enumerate(prompts):
            self._check_window(f"prompt {index}", len(prompt), longest, "the longest choice")
        asked = [
            (index, beginning, ids)
            for index in range(len(prompts))
            for beginning, following in next_tokens(tokens).items()
            for ids in _pieces(following, _MOST_IDS)
        ]
        outputs = self._run(
            [prompts[index] + beginning for index, beginning, _ in asked],
            [_reading(ids) for _, _, ids in asked],
        )
        known: dict[tuple[int, tuple[int, ...]], float] = {}
        for (index, beginning, ids), output in zip(asked, outputs, strict=True):
            (found,) = output.outputs[0].logprobs
            known |= {(index, (*beginning, token)): float(found[token].logprob) for token in ids}
        scores = np.array(
            [
                [sum(known[index, choice[: end + 1]] for end in range(len(choice))) for choice in tokens]
                for index in range(len(prompts))
            ]
        )
        refuse_nan(scores.ravel().tolist())
        return scores

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        """See protocols.Engine. Cached prefixes are of no use here: every token is read again.

        Raises:
            BadInput: an empty prompt, or a sequence that exceeds the window.
        """
        for index, sequence in enumerate(sequences):
            self._check_window(
                f"sequence {index}", len(sequence.prompt_ids), len(sequence.completion_ids), "completion"
            )
        read = [sequence for sequence in sequences if sequence.completion_ids]
        # The last token is read as the one that follows: vLLM wants room for one more than it is given.
        outputs = self._run(
            [(*s.prompt_ids, *s.completion_ids[:-1]) for s in read],
            [_reading(s.completion_ids[-1:], whole=len(s.completion_ids) > 1) for s in read],
        )
        made = iter([_of_completion(sequence, output) for sequence, output in zip(read, outputs, strict=True)])
        values = [next(made) if sequence.completion_ids else np.zeros(0) for sequence in sequences]
        refuse_nan([float(row.sum()) for row in values])
        return values

    def close(self) -> None:
        """Give the memory back; the engine is of no use afterwards."""
        from selfalign.engines.memory import release_memory

        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
        release_memory()

    def _run(
        self, prompts: Sequence[Sequence[int]], params: Sequence[Any], told: Callable[[int, int], None] | None = None
    ) -> list[Any]:
        """vLLM's outputs in order; ``told`` hears of the tokens of those that have ended."""
        if not prompts:
            return []
        self._llm.enqueue([{"prompt_token_ids": list(prompt)} for prompt in prompts], list(params), use_tqdm=False)
        core = self._llm.llm_engine
        outputs: list[Any] = []
        while core.has_unfinished_requests():
            ended = [output for output in core.step() if output.finished]
            outputs += ended
            if told is not None and ended:
                told(sum(len(answer.token_ids) for output in ended for answer in output.outputs), len(ended))
        # As vLLM's own loop does: ids count upwards.
        return sorted(outputs, key=lambda output: int(output.request_id))

    def _sampling(self, params: SamplingParams, seed: int) -> Any:
        from vllm import SamplingParams as Wanted

        # A greedy sample needs no seed, and vLLM 0.32 fails with one that is 0.
        drawn = {"seed": seed, "top_p": params.top_p, "top_k": params.top_k} if params.temperature > 0 else {}
        return Wanted(
            temperature=params.temperature,
            max_tokens=params.max_tokens,
            # Ours alone: vLLM itself knows fewer ends of an answer than the generation config may have.
            stop_token_ids=list(self.end_token_ids),
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
            **drawn,
        )

    def _sample(self, output: Any) -> Any:
        from selfalign.engines.decoding import Sample

        ids = tuple(int(token) for token in output.token_ids)
        total = sum(float(found[token].logprob) for token, found in zip(ids, output.logprobs, strict=True))
        ended = bool(ids) and ids[-1] in self.end_token_ids
        return Sample(ids[:-1] if ended else ids, total, ids[-1] if ended else None)

    def _check_window(self, what: str, length: int, wanted: int, wanted_name: str) -> None:
        check_window(what, length, wanted, wanted_name, self.context_length)


def next_tokens(choices: Sequence[Sequence[int]]) -> dict[tuple[int, ...], tuple[int, ...]]:
    """For every beginning that a choice has (the empty one first): the tokens that follow it in some choice."""
    found: dict[tuple[int, ...], dict[int, None]] = {}
    for choice in sorted((tuple(choice) for choice in choices), key=len):
        for end, token in enumerate(choice):
            found.setdefault(choice[:end], {})[token] = None
    return {beginning: tuple(following) for beginning, following in found.items()}


def _pieces(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[start : start + size]) for start in range(0, len(ids), size)]


def _reading(ids: Sequence[int], whole: bool = False) -> Any:
    """Params that sample nothing of use: the log-probabilities of ``ids`` as the next token, and of the whole prompt."""
    from vllm import SamplingParams as Wanted

    return Wanted(
        temperature=0, max_tokens=1, logprob_token_ids=list(ids), prompt_logprobs=0 if whole else None,
        ignore_eos=True, detokenize=False,
    )  # fmt: skip


def _of_completion(sequence: TokenSequence, output: Any) -> np.ndarray:
    *read, last = sequence.completion_ids
    (following,) = output.outputs[0].logprobs
    start = len(sequence.prompt_ids)
    places = output.prompt_logprobs[start : start + len(read)] if read else []
    return np.array(
        [*(found[t].logprob for t, found in zip(read, places, strict=True)), following[last].logprob], float
    )


def _start(config: VllmEngine.Config, path: Path, dtype: str, device: str, window: int, trust_remote_code: bool) -> Any:
    settings: Mapping[str, Any] = {
        "max_num_seqs": config.max_num_seqs,
        "gpu_memory_utilization": config.memory_share,
        "kv_cache_memory_bytes": _cache_bytes(config, device),
        # A prompt read in two steps takes a step back in its sample's random numbers, which a CPU's generator cannot:
        # vLLM 0.32 fails where a batch's prompts have more tokens than one step reads.
        "enable_chunked_prefill": False if device == "cpu" else None,
    }
    try:
        from vllm import LLM

        llm = LLM(
            model=str(path), skip_tokenizer_init=True, dtype=dtype, max_model_len=window, seed=0,
            trust_remote_code=trust_remote_code, enable_prefix_caching=True, enforce_eager=config.enforce_eager,
            tensor_parallel_size=config.tensor_parallel_size,
            # Not the model's defaults for sampling: what a run samples with is in its config. And no temperature in
            # what is recorded: log-probabilities are the policy's own.
            generation_config="vllm", logprobs_mode="raw_logprobs",
            **{name: value for name, value in settings.items() if value is not None},
        )  # fmt: skip
        # Some models load and cannot be computed, such as on a CPU those with heads of 8.
        llm.generate([{"prompt_token_ids": [0]}], _reading((0,)), use_tqdm=False)
        return llm
    except ImportError as error:
        raise ConfigError(
            f"generate.engine: vllm cannot be imported: {error}; install it again (docs/vllm.md)"
        ) from None
    except (OSError, ValueError, RuntimeError, NotImplementedError, AssertionError, KeyError) as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"{path}: vLLM cannot start with it: {text}; lower generate.engine.max_model_len, change memory_share or "
            f"cache_gib, or use engine transformers"
        ) from None


def _cache_bytes(config: VllmEngine.Config, device: str) -> int | None:
    """On a CPU vLLM would take half of the memory for its cache."""
    gib = config.cache_gib or (1.0 if device == "cpu" else None)
    return None if gib is None else int(gib * 2**30)

"""The engine that runs anywhere: Hugging Face transformers, with its own decode loop.

torch and transformers are imported by the methods: a config that names this engine is validated
without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from selfalign.config import Settings
from selfalign.engines.batching import even_pieces, plan_batches, refilled_batches
from selfalign.engines.chat import ChatEncoder, encode_choice
from selfalign.engines.memory import Backoff, release_memory
from selfalign.engines.requests import as_completions, check_window, refuse_nan
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.prefixes import forest_size, forests, shared_beginning, tokens_to_read
from selfalign.types import Completion, GenerationRequest, SamplingParams, TokenSequence

if TYPE_CHECKING:
    from selfalign.engines.decoding import Context

#: Tokens that a CPU scores in one pass. More do not make its products faster, and what they pass through no longer fits
#: in its caches: with 32,768 judging took a quarter longer and twice the memory (135M, two cores).
_CPU_TOKENS = 4096


class TransformersEngine(ChatEncoder):
    """A causal language model in this process; see protocols.Engine.

    A sample depends on its prompt, its seed and the sampling parameters. Which rows share its batch
    matters only through the rounding of matrix products (about 1e-6 in a logit).
    """

    name = "transformers"

    class Config(Settings):
        id: Literal["transformers"] = "transformers"
        token_budget: int = Field(
            32768, ge=64, description="tokens in memory at once: samples decoded together x (prompt + max_tokens)"
        )
        max_rows: int = Field(256, ge=1, description="samples of one batch: what a kill may cost")
        max_num_seqs: int = Field(
            128, ge=1, description="samples decoded together; the others of a batch enter as samples end"
        )
        attention: str = Field("sdpa", description="attention implementation as transformers names them")

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
            ModelError: the folder cannot be loaded.
            ConfigError: ``dtype`` or ``device`` cannot be had.
        """
        from selfalign.engines import loading

        self.config = config
        self.device = loading.choose_device(device)
        self.weights_hash = hash_weights(model_path)
        self.tokenizer_hash = hash_tokenizer(model_path)
        self.parameters = loading.count_parameters(model_path)
        self.dtype = loading.choose_dtype(dtype, self.device, self.parameters, loading.read_cpu_flags())
        self._model, self._tokenizer = loading.load(
            model_path, self.dtype, self.device, config.attention, trust_remote_code
        )
        self.context_length = loading.context_length(self._model.config)
        self.end_token_ids = loading.end_token_ids(self._model.generation_config, self._tokenizer)
        self.on_tokens: Callable[[int, int], None] = lambda tokens, ended: None
        self._backoff = Backoff(on_event or (lambda kind, message: None))

    def plan(self, lengths: Sequence[int], samples: int, max_tokens: int) -> list[list[int]]:
        """See protocols.Engine and :func:`refilled_batches`."""
        return refilled_batches(
            lengths,
            samples=samples,
            max_tokens=max_tokens,
            max_rows=self.config.max_rows,
            together=self.config.max_num_seqs,
            token_budget=self.config.token_budget,
        )

    def generate(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[tuple[Completion, ...]]:
        """See protocols.Engine.

        Raises:
            BadInput: a prompt does not leave ``max_tokens`` of the window.
            StageFailed: a single sample does not fit in memory, or the model's output is not a number.
        """
        from selfalign.engines.attention import caches_plainly
        from selfalign.engines.decoding import PromptReader, Row, Sample, decode

        prompts = [self.encode_prompt(request.messages) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_window(f"request {request.request_id}", len(prompt), params.max_tokens, "max_tokens")
        rows = [
            Row(prompt, seed)
            for request, prompt in zip(requests, prompts, strict=True)
            for seed in request.seeds
        ]  # fmt: skip
        if not rows:
            return [() for _ in requests]
        reader = PromptReader(self._model, [row.prompt_ids for row in rows])
        width = max(len(row.prompt_ids) for row in rows) + params.max_tokens
        together = max(1, min(self.config.max_num_seqs, self.config.max_rows, self.config.token_budget // width))

        def work(piece: Sequence[Row]) -> list[Sample]:
            return decode(self._model, piece, params, self.end_token_ids, reader, together, self.on_tokens)

        def size(piece: Sequence[Row]) -> int:
            return min(len(piece), together) * width

        pieces = [range(len(rows))] if caches_plainly(self._model.config) else even_pieces(len(rows), together)
        samples: list[Sample] = []
        with _inference_mode():
            for piece in pieces:
                samples += self._backoff.run(rows[piece.start : piece.stop], work, size)
        refuse_nan([sample.log_prob for sample in samples])
        completions = iter(as_completions(self._tokenizer, [len(row.prompt_ids) for row in rows], samples))
        return [tuple(next(completions) for _ in request.seeds) for request in requests]

    def score_choices(self, prompt_ids: Sequence[Sequence[int]], choices: Sequence[str]) -> np.ndarray:
        """See protocols.Engine. What prompts have in common at their beginning is read once.

        Raises:
            BadInput: an empty choice or prompt, or one that exceeds the window.
        """
        from selfalign.engines import scoring
        from selfalign.engines.decoding import MIN_SHARED_PREFIX

        prompts = [tuple(prompt) for prompt in prompt_ids]
        if not prompts or not choices:
            return np.zeros((len(prompts), len(choices)))
        tokens = [encode_choice(self._tokenizer, choice) for choice in choices]
        longest_choice = max(len(choice) for choice in tokens)
        for index, prompt in enumerate(prompts):
            self._check_window(f"prompt {index}", len(prompt), longest_choice, "the longest choice")
        with _inference_mode():
            shared = shared_beginning(prompts, MIN_SHARED_PREFIX)
            prefix = scoring.read_prefix(self._model, shared) if shared else None
            rests = [prompt[len(shared) :] for prompt in prompts] if prefix else prompts
            if self._packs:
                asked = [[TokenSequence(rest, choice) for choice in tokens] for rest in rests]
                scores = [np.array([value.sum() for value in values]) for values in self._packed(asked, prefix)]
            else:
                lengths = [len(prompt) + longest_choice - 1 for prompt in prompts]
                scores = self._in_batches(
                    rests, lengths, lambda piece: list(scoring.choice_log_probs(self._model, piece, tokens, prefix))
                )
        refuse_nan([float(row.sum()) for row in scores])
        return np.stack(scores)

    def log_probs(self, sequences: Sequence[TokenSequence]) -> list[np.ndarray]:
        """See protocols.Engine. What sequences have in common at their beginning is read once.

        Raises:
            BadInput: an empty prompt, or a sequence that exceeds the window.
        """
        from selfalign.engines import scoring

        for index, sequence in enumerate(sequences):
            self._check_window(
                f"sequence {index}", len(sequence.prompt_ids), len(sequence.completion_ids), "completion"
            )
        with _inference_mode():
            if self._packs:
                values = [found for (found,) in self._packed([[sequence] for sequence in sequences])]
            else:
                lengths = [len(sequence.prompt_ids) + len(sequence.completion_ids) for sequence in sequences]
                values = self._in_batches(
                    sequences,
                    lengths,
                    lambda piece: scoring.completion_log_probs(self._model, piece, self._head_is_plain),
                )
        refuse_nan([float(row.sum()) for row in values])
        return values

    def close(self) -> None:
        """Give the memory back; the engine is of no use afterwards."""
        self._model = None
        release_memory()

    @cached_property
    def _head_is_plain(self) -> bool:
        from selfalign.engines import scoring

        return scoring.plain_head(self._model)

    @cached_property
    def _packs(self) -> bool:
        """Whether what prompts and sequences have in common at their beginning can be read once."""
        from selfalign.engines import scoring

        return self._head_is_plain and scoring.packs(self._model)

    @cached_property
    def _by_blocks(self) -> bool:
        """Whether a row may be as long as a pass: its attention reads what its tokens see, and no more.

        On GPUs that would be many small calls, where rows of a few hundred tokens fill them as well.
        """
        from selfalign.engines.key_blocks import reads_blocks

        return self.device == "cpu" and self._packs and reads_blocks(self._model)

    def _packed(
        self, groups: Sequence[Sequence[TokenSequence]], prefix: Context | None = None
    ) -> list[list[np.ndarray]]:
        """:func:`scoring.packed_log_probs` of the sequences of each group; a group's are alike but for their ends."""
        from selfalign.engines import scoring

        before = 0 if prefix is None else int(prefix.positions)
        room = max(scoring.FOREST_TOKENS, self._pass_tokens - before) if self._by_blocks else scoring.FOREST_TOKENS
        of_groups = forests([tokens_to_read(group[0]) for group in groups], room)
        rows = [[sequence for index in forest for sequence in groups[index]] for forest in of_groups]
        lengths = [before + forest_size([tokens_to_read(sequence) for sequence in row]) for row in rows]
        found = self._in_batches(
            rows,
            lengths,
            lambda piece: scoring.packed_log_probs(self._model, piece, prefix, by_blocks=self._by_blocks),
        )
        by_group: dict[int, list[np.ndarray]] = {}
        for forest, values in zip(of_groups, map(iter, found), strict=True):
            by_group |= {index: [next(values) for _ in groups[index]] for index in forest}
        return [by_group[index] for index in range(len(groups))]

    @property
    def _pass_tokens(self) -> int:
        """Tokens that are scored in one pass, padding and a shared beginning included."""
        return min(self.config.token_budget, _CPU_TOKENS) if self.device == "cpu" else self.config.token_budget

    def _in_batches(self, items: Sequence[Any], lengths: Sequence[int], work: Any) -> list[Any]:
        """``work`` over length-sorted sub-batches within the token budget; results in order of ``items``."""
        by_index: dict[int, Any] = {}
        budget = self._pass_tokens
        batches = plan_batches(lengths, samples=1, max_tokens=0, max_rows=budget, token_budget=budget)
        for batch in batches:
            pairs = [(items[index], lengths[index]) for index in batch]
            results = self._backoff.run(
                pairs,
                lambda piece: work([item for item, _ in piece]),
                lambda piece: len(piece) * max(length for _, length in piece),
            )
            by_index.update(zip(batch, results, strict=True))
        return [by_index[index] for index in range(len(items))]

    def _check_window(self, what: str, length: int, wanted: int, wanted_name: str) -> None:
        check_window(what, length, wanted, wanted_name, self.context_length)


def _inference_mode() -> Any:
    import torch

    return torch.inference_mode()

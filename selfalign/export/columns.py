"""Which columns an export has: TRL's first, then where each row comes from.

TRL keeps columns that it does not know until its collator, which drops them, but it also acts on some names that are in
no documentation of a format: RewardTrainer subtracts a column ``margin`` from the difference of rewards, and SFTTrainer
ends ``text`` instead of ``completion``. No column of provenance may have a name of :data:`TAKEN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa

Kind = Literal["pairs", "unary", "sft", "judgements"]
Style = Literal["standard", "conversational", "messages"]

#: Names that TRL 1.16's trainers or transformers' act on wherever they find them.
TAKEN = frozenset({
    "prompt", "chosen", "rejected", "completion", "label", "messages", "conversations", "text", "margin", "image", "images",
    "tools", "chat_template_kwargs", "labels", "input_ids", "attention_mask", "completion_mask", "assistant_masks",
    "seq_lengths", "prompt_ids", "chosen_ids", "rejected_ids", "chosen_input_ids", "rejected_input_ids", "completion_ids",
    "KL_completion_ids", "ref_chosen_logps", "ref_rejected_logps", "ref_logps", "ref_KL_logps", "length",
})  # fmt: skip

#: Texts of each kind, in TRL's order and under its names.
TEXTS: Mapping[Kind, tuple[str, ...]] = {
    "pairs": ("prompt", "chosen", "rejected"),
    "unary": ("prompt", "completion"),
    "sft": ("prompt", "completion"),
    "judgements": ("prompt", "completion"),
}
#: What else TRL reads of each kind.
VALUES: Mapping[Kind, tuple[str, ...]] = {"pairs": (), "unary": ("label",), "sft": (), "judgements": ()}

#: Provenance by kind: name -> what it is, for the card.
PROVENANCE: Mapping[Kind, Mapping[str, str]] = {
    "pairs": {
        "pair_id": "id of the pair in the run's store",
        "prompt_id": "content hash of the instruction and its constraints",
        "source": "answers: two answers to the prompt; judgements: two judgements of one answer, to train a judge",
        "round": "round that made the pair",
        "judge": "judge whose scores decided",
        "builder": "pair builder",
        "chosen_score": "score of chosen",
        "rejected_score": "score of rejected",
        "score_margin": "strength of the preference: chosen_score - rejected_score, unless the builder has its own; of a "
        "flipped pair what it was before",
        "n_votes": "valid votes behind the two scores",
        "weight": "weight in the run's own loss",
        "chosen_weights_hash": "SHA-256 of the weights that wrote chosen; empty: a known answer; served:NAME: a server's model",
        "rejected_weights_hash": "the same of rejected",
        "chosen_truncated": "chosen was cut at max_tokens",
        "rejected_truncated": "rejected was cut at max_tokens",
        "checkpoint_id": "checkpoint that the round trained on it; null where the round has none yet",
        "trained_rounds": "every round that trained on the pair, whichever way round",
        "review": "what a person said of the pair: accept; flip: the judge had it the other way round; null: nothing that was applied",
        "language": "language of the prompt (ISO 639-1)",
        "category": "kind of task, where the prompt's file has it",
        "prompt_origin": "file and line of the prompt",
    },
    "unary": {
        "label_id": "id of the label, or of the pair that it is a side of",
        "prompt_id": "content hash of the instruction and its constraints",
        "source": "labels, or pairs (each side by itself)",
        "round": "round that made it",
        "judge": "judge whose score decided, where the row says it",
        "builder": "builder of the label or pair",
        "score": "score of the completion",
        "weight": "weight in the run's own loss",
        "weights_hash": "SHA-256 of the weights that wrote the completion; empty: a known answer; served:NAME: a server's model",
        "truncated": "the completion was cut at max_tokens",
        "checkpoint_id": "checkpoint that the round trained on it; null where the round has none yet",
        "trained_rounds": "every round that trained on it",
        "review": "what a person said of the pair that it is a side of: accept; flip: the label is the other one; null: nothing that was applied",
        "language": "language of the prompt (ISO 639-1)",
        "category": "kind of task, where the prompt's file has it",
        "prompt_origin": "file and line of the prompt",
    },
    "sft": {
        "example_id": "id of the pair, label, ranking, lesson or prompt that the row is made of",
        "prompt_id": "content hash of the instruction and its constraints; of a lesson, what it is about",
        "source": "chosen: best answer of the prompt in its round; demonstrations: answer that came with the prompt; "
        "lessons: what taught the judge",
        "round": "round that made it",
        "judge": "judge whose score decided; of a lesson, the judge that is taught",
        "builder": "builder that chose it",
        "score": "score of the completion; null where nobody scored",
        "weight": "weight in the run's own loss",
        "weights_hash": "SHA-256 of the weights that wrote the completion; empty: no weights of this run did",
        "truncated": "the completion was cut at max_tokens; of a lesson, it is only the beginning of an answer",
        "checkpoint_id": "checkpoint that the round trained; null where the round has none yet",
        "review": "what a person said of the pair that it was chosen in: accept; flip: it was the rejected side; null: nothing that was applied",
        "language": "language of the prompt (ISO 639-1)",
        "category": "kind of task, where the prompt's file has it",
        "prompt_origin": "file and line of the prompt",
    },
    "judgements": {
        "judgement_id": "id of the vote",
        "prompt_id": "content hash of the instruction and its constraints",
        "round": "round that judged",
        "score": "score of the vote; null unless outcome is ok",
        "outcome": "ok, or why the vote counts for nothing",
        "raw": "what the judge said, verbatim",
        "judge": "judge that voted",
        "judge_hash": "hash of the judge's rubric and settings",
        "judge_weights_hash": "SHA-256 of the weights that judged; null for judges without a model",
        "vote": "number of the vote",
        "candidate_id": "id of the completion",
        "weights_hash": "SHA-256 of the weights that wrote the completion; empty: a known answer; served:NAME: a server's model",
        "truncated": "the completion was cut at max_tokens",
        "language": "language of the prompt (ISO 639-1)",
        "category": "kind of task, where the prompt's file has it",
        "prompt_origin": "file and line of the prompt",
    },
}  # fmt: skip

#: Of a review only on request: who wrote it did not write it for publication.
NOTES: Mapping[str, str] = {"reviewer": "who reviewed the pair", "review_note": "what they wrote beside it"}
#: Column that names a row of each kind.
KEYS: Mapping[Kind, str] = {"pairs": "pair_id", "unary": "label_id", "sft": "example_id", "judgements": "judgement_id"}
#: A conversation as TRL has it.
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def trl_columns(kind: Kind, style: Style) -> tuple[str, ...]:
    """The columns that TRL reads, in its order."""
    return ("messages",) if style == "messages" else (*TEXTS[kind], *VALUES[kind])


def provenance_columns(kind: Kind, *, notes: bool) -> Mapping[str, str]:
    """The columns of provenance with what each is; ``notes``: those of reviews as well."""
    return {**PROVENANCE[kind], **(NOTES if notes else {})}

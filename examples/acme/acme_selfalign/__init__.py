"""One example of every kind of plug-in. This module only names them: it is imported by every selfalign command."""

from __future__ import annotations

from selfalign.registry import Plugin, register

PLUGINS = (
    Plugin("prompts", "acme_grid", "acme_selfalign.grid:GridSource", "a sentence with blanks, filled in every way"),
    Plugin("engine", "acme_template", "acme_selfalign.template:TemplateEngine", "transformers with a chat template of your own"),
    Plugin("judge", "acme_sentences", "acme_selfalign.sentences:SentencesJudge", "short sentences score higher"),
    Plugin("resample", "acme_distinct", "acme_selfalign.distinct:DistinctResampler", "each text of a prompt once"),
    Plugin("pair", "acme_same_length", "acme_selfalign.same_length:SameLengthBuilder", "best against a worse one of its length"),
    Plugin("train", "acme_exponential", "acme_selfalign.exponential:ExponentialTrainer", "exponential preference loss"),
    Plugin("evaluate", "acme_questions", "acme_selfalign.questions:Questions", "share of answers that ask back"),
    Plugin("gate", "acme_no_empty", "acme_selfalign.no_empty:NoEmptyGate", "few answers without text"),
)  # fmt: skip


def register_plugins() -> None:
    """What the entry point calls."""
    for plugin in PLUGINS:
        register(plugin)

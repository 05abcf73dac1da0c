"""How much of a benchmark's item a row must repeat to count as contaminated."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign.errors import BadInput


@dataclass(frozen=True)
class Settings:
    """``ngram`` words in a row are a gram: 13 as for GPT-3 (arXiv 2005.14165, appendix C). A Chinese, Japanese or
    Korean character is a word of its own.

    ``share``: a row is contaminated where it holds at least this share of an item's grams, and at least one: 0 is any
    gram; PaLM (arXiv 2204.02311, section 8) has 0.7 of 8-grams. ``shortest``: an item with fewer words than ``ngram``
    is one gram as a whole, if it has at least so many; shorter ones cannot be told from chance and are counted.
    """

    ngram: int = 13
    share: float = 0.0
    shortest: int = 8
    report_only: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.ngram <= 50:
            raise BadInput(f"--ngram {self.ngram}: a gram has 2 to 50 words")
        if not 0 <= self.share <= 1:
            raise BadInput(f"--ngram-share {self.share}: is a share, 0 to 1")
        if self.shortest < 2:
            raise BadInput("a gram has at least 2 words")

"""Prompts with a good answer each, to train on: ``python -m selfalign.gold.demonstrations [data folder]``.

They are the authored prompts of the gold set's teach split, and of no other: what calibrates or tests a judge is
never trained on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfalign.gold.answers import Answer, load_answers
from selfalign.gold.arithmetic import word_problems
from selfalign.gold.construct import SEED, assign_splits


def demonstrations(authored: Sequence[Answer], generated: Sequence[Answer], seed: int) -> list[dict[str, Any]]:
    """Lines of a prompt file, one for each of ``authored`` that the teach split has, in order of key.

    Splits are dealt over ``authored`` and ``generated`` together, as in gold.jsonl. The answer is the longest one.
    """
    ordered = sorted([*authored, *generated], key=lambda answer: answer.key)
    splits = assign_splits(ordered, seed)
    own = {answer.key for answer in authored}
    chosen = [answer for answer in ordered if answer.key in own and splits[answer.group] == "teach"]
    return [
        {
            "key": f"demo-{number:04d}",
            "text": answer.prompt,
            "answer": max(answer.answers, key=len),
            "language": answer.language,
            "category": answer.topic,
            "instruction_id_list": list(answer.instruction_id_list),
            "kwargs": [dict(arguments) for arguments in answer.kwargs],
        }
        for number, answer in enumerate(chosen, start=1)
    ]


def main(folder: Path) -> None:
    """Make ``demonstrations.jsonl`` in ``folder`` from its ``gold_answers.jsonl``."""
    lines = demonstrations(load_answers(folder / "gold_answers.jsonl"), word_problems(SEED), SEED)
    path = folder / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{path}: {len(lines)} prompts")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))

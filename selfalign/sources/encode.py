"""``python -m selfalign.sources.encode FOLDER OUTPUT``: texts (a JSON list on stdin) become unit vectors (.npy).

A process of its own, for the same reason as a stage's: what the encoder takes is given back by its exit. Each line on
stdout is how many texts are done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

#: Texts between two lines on stdout.
_AT_ONCE = 512


def main(folder: str, output: str) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    texts: list[str] = json.load(sys.stdin)
    model = SentenceTransformer(folder, local_files_only=True)
    if getattr(model.tokenizer, "pad_token", "") is None:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    parts = []
    for at in range(0, len(texts), _AT_ONCE):
        some = [texts[i] for i in by_length[at : at + _AT_ONCE]]
        parts.append(model.encode(some, normalize_embeddings=True, show_progress_bar=False))
        print(at + len(some), flush=True)
    vectors = np.concatenate(parts).astype(np.float32)[np.argsort(by_length)]
    with Path(output).open("wb") as file:
        np.save(file, vectors)


if __name__ == "__main__":
    main(*sys.argv[1:])

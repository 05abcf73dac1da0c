"""Judging by logits with a shared rubric, against a forward pass a judgement and against padded batches.

All three read the same tokens and give the same expected scores, which is checked. The time starts with texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.corpus import answers, model_folder
from tests.benchmarks.measure import Measure, Row, Side, Stopwatch, paired, ratios

ITEMS = 48
#: The default rubric of a judge by logits, and one of three times its length.
RUBRICS = ("judges/additive_short", "judges/code")
_BATCH = 16
_SAME_SCORE = 1e-3


def rows(work: Path, runs: int) -> list[Row]:
    """The table's lines about judging."""
    found = []
    for rubric in RUBRICS:
        same = {"work": str(work), "rubric": rubric}
        mine, plain, batched = paired(
            [
                Side("rubric_logits", "judging:ours", same),
                Side("a forward pass a judgement", "judging:plain_loop", same),
                Side("padded batches", "judging:padded_batches", same),
            ],
            runs,
        )
        name = rubric.removeprefix("judges/")
        agree = _agreement(mine[0], plain[0], batched[0])
        found += [
            ratios(f"judging by {name}, against a plain loop", mine, plain, "judgements/s", "at least 3", agree),
            ratios(f"judging by {name}, against batches of {_BATCH}", mine, batched, "judgements/s", note=agree),
        ]
    return found


def _agreement(*measures: Measure) -> str:
    scores = [m.check["scores"] for m in measures]
    apart = max(abs(a - b) for other in scores[1:] for a, b in zip(scores[0], other, strict=True))
    if apart > _SAME_SCORE:
        raise AssertionError(f"the sides' expected scores differ by {apart}")
    return f"expected scores differ by {apart:.0e} at most"


def items(work: Path, count: int) -> list[tuple[str, str]]:
    """(request, response), all responses to a request side by side."""
    found = [(row.text, answer) for row in answers(work) for answer in row.answers]
    return [found[i % len(found)] for i in range(count)]


def ours(work: str, rubric: str, count: int = ITEMS) -> Measure:
    from selfalign.engines.transformers_engine import TransformersEngine
    from selfalign.judges.rubric_logits import RubricLogitsJudge
    from selfalign.protocols import JudgeContext
    from selfalign.types import JudgeItem
    from tests.judges.scripted import make_candidate, make_prompt

    engine = TransformersEngine(TransformersEngine.Config(), model_folder())
    judge = RubricLogitsJudge(RubricLogitsJudge.Config(rubric=rubric), JudgeContext(engine, 0, 1, templates()))
    texts = items(Path(work), count)
    ids = {text: f"prompt-{i:05}" for i, (text, _) in enumerate(texts)}
    judged = [
        JudgeItem(make_prompt(ids[text], text), make_candidate(answer, i, ids[text]))
        for i, (text, answer) in enumerate(texts)
    ]
    engine.score_choices([(1, 2, 3)], ["1"])
    watch = Stopwatch()
    scores: dict[int, float | None] = {}
    for batch in judge.plan(judged):
        for index, row in zip(batch, judge.judge([judged[i] for i in batch]), strict=True):
            scores[index] = row.score
    watch.stop()
    return watch.measure(count, {"scores": [scores[i] for i in range(count)]})


def plain_loop(work: str, rubric: str, count: int = ITEMS) -> Measure:
    """What a script does: show, read, look at the digits."""
    import torch

    tokenizer, model, template, digits, values = _plain(rubric)
    model(torch.tensor([[1, 2, 3]]))
    scores = []
    texts = items(Path(work), count)
    watch = Stopwatch()
    for request, response in texts:
        ids = torch.tensor([token_ids(tokenizer, template, request, response)])
        with torch.inference_mode():
            logits = model(ids).logits[0, -1]
        scores.append(float(logits[digits].float().softmax(dim=-1) @ values))
    watch.stop()
    return watch.measure(count, {"scores": scores})


def padded_batches(work: str, rubric: str, count: int = ITEMS) -> Measure:
    """A better script: sorted by length, padded on the left, logits of the last position only."""
    import torch

    tokenizer, model, template, digits, values = _plain(rubric)
    model(torch.tensor([[1, 2, 3]]))
    texts = items(Path(work), count)
    watch = Stopwatch()
    prompts = [token_ids(tokenizer, template, request, response) for request, response in texts]
    order = sorted(range(count), key=lambda i: len(prompts[i]))
    scores = [0.0] * count
    for at in range(0, count, _BATCH):
        batch = order[at : at + _BATCH]
        width = max(len(prompts[i]) for i in batch)
        ids = torch.tensor([[0] * (width - len(prompts[i])) + prompts[i] for i in batch])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
        with torch.inference_mode():
            logits = model(ids, attention_mask=mask, logits_to_keep=1).logits[:, -1]
        for i, score in zip(batch, (logits[:, digits].float().softmax(dim=-1) @ values).tolist(), strict=True):
            scores[i] = score
    watch.stop()
    return watch.measure(count, {"scores": scores})


def templates() -> Any:
    from selfalign.shipped import shipped
    from selfalign.templates import Templates

    return Templates([shipped("prompts")])


def _plain(rubric: str) -> tuple[Any, Any, Any, Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32).eval()
    template = templates().load(rubric)
    digits = torch.tensor([tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in template.choices])
    return tokenizer, model, template, digits, torch.tensor([float(choice) for choice in template.choices])


def token_ids(tokenizer: Any, template: Any, request: str, response: str) -> Sequence[int]:
    messages = template.messages(instruction=request, response=response)
    shown = tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=True)
    found: list[int] = tokenizer(shown, add_special_tokens=False)["input_ids"]
    return found + list(tokenizer(template.answer_prefix, add_special_tokens=False)["input_ids"])


def votes(work: str, count: int, votes: int) -> Measure:
    """Judgements that the model writes, ``votes`` of each response; for growth.py."""
    from selfalign.engines.transformers_engine import TransformersEngine
    from selfalign.judges.rubric_votes import RubricVotesJudge
    from selfalign.protocols import JudgeContext
    from selfalign.types import JudgeItem
    from tests.judges.scripted import make_candidate, make_prompt

    engine = TransformersEngine(TransformersEngine.Config(), model_folder())
    config = RubricVotesJudge.Config(votes=votes, min_valid_votes=1, max_tokens=32)
    judge = RubricVotesJudge(config, JudgeContext(engine, 0, 1, templates()))
    judged = [
        JudgeItem(make_prompt(f"prompt-{i:05}", text), make_candidate(answer, i, f"prompt-{i:05}"))
        for i, (text, answer) in enumerate(items(Path(work), count))
    ]
    watch = Stopwatch()
    for batch in judge.plan(judged):
        judge.judge([judged[i] for i in batch])
    watch.stop()
    return watch.measure(count * votes)

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from selfalign.errors import ConfigError, EmptyStage, ModelError, WeightsMismatch
from selfalign.judges.reward_model import RewardModelJudge, squash
from selfalign.protocols import JudgeContext
from selfalign.templates import Templates
from selfalign.training.reward import RewardResult, RewardSettings, split_pairs, train_reward
from selfalign.types import JudgeItem, PairExample
from tests.judges.scripted import make_candidate, make_items, make_prompt

#: The chosen answers are of letters, the rejected ones of digits: any model can learn to tell them apart.
SETTINGS = RewardSettings(learning_rate=3e-3, epochs=4, batch_size=8, micro_batch_size=8, held_out=0.25)


def answers(number: int) -> tuple[str, str]:
    rng = random.Random(number)
    length = rng.randrange(4, 12)
    return "".join(rng.choices("abcdef", k=length)), "".join(rng.choices("012345", k=length))


def make_pairs(folder: Path, n: int = 40) -> list[PairExample]:
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    pairs = []
    for number in range(n):
        good, bad = answers(number)
        asked = [{"role": "user", "content": f"Question {number}"}]
        prompt = ids(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        end = (tokenizer.eos_token_id,)
        pairs.append(PairExample(f"pair-{number:02}", prompt, ids(good) + end, ids(bad) + end, 0.5, 1.0))
    return pairs


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RewardResult]:
    folder = tmp_path_factory.mktemp("reward")
    result = train_reward(SETTINGS, tiny_model, make_pairs(tiny_model), folder / "model", folder / "scratch", seed=5)
    return folder / "model", result


def make_judge(folder: Path, **settings: object) -> RewardModelJudge:
    config = RewardModelJudge.Config.model_validate({"path": str(folder), "device": "cpu", **settings})
    return RewardModelJudge(config, JudgeContext(None, 7, 1, Templates([])))


def test_separable_pairs_are_learnt(trained: tuple[Path, RewardResult]) -> None:
    folder, result = trained
    assert result.train_accuracy >= 0.95
    assert result.n_held_out >= 5
    assert result.accuracy is not None
    assert result.accuracy >= 0.9
    assert result.n_examples + result.n_held_out == 40
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    record = json.loads((folder / "reward.json").read_text())
    assert (record["weights_hash"], record["std"]) == (result.weights_hash, result.std)


def test_the_same_seed_gives_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    short = SETTINGS.model_copy(update={"epochs": 0.5, "margin": "pair"})
    pairs = make_pairs(tiny_model, 16)
    hashes = [
        train_reward(short, tiny_model, given, tmp_path / f"m{i}", tmp_path / f"s{i}", seed=seed).weights_hash
        for i, (given, seed) in enumerate([(pairs, 5), (list(reversed(pairs)), 5), (pairs, 6)])
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_judge_of_it_scores_alone_as_in_a_batch(trained: tuple[Path, RewardResult]) -> None:
    judge = make_judge(trained[0], batch_size=3)
    items = make_items(*(text for number in range(40, 44) for text in answers(number)))
    together = {row.candidate_id: row for batch in judge.plan(items) for row in judge.judge([items[i] for i in batch])}
    assert len(together) == 8
    for item in items:
        (alone,) = make_judge(trained[0]).judge([item])
        assert alone.score == pytest.approx(together[item.candidate.candidate_id].score, abs=1e-5)
        assert alone.judgement_id == together[item.candidate.candidate_id].judgement_id
    scores = [together[item.candidate.candidate_id].score or 0.0 for item in items]
    assert all(good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True))
    assert all(0 <= score <= 1 for score in scores)
    assert {row.weights_hash for row in together.values()} == {None}
    assert max(map(len, judge.plan(items))) == 3


def test_what_is_too_long_is_not_judged_in_part(trained: tuple[Path, RewardResult]) -> None:
    judge = make_judge(trained[0], max_length=60)
    rows = judge.judge(make_items("short", "long" * 30))
    assert [(row.outcome, row.score is None) for row in rows] == [("ok", False), ("truncated", True)]


def test_an_answer_that_was_cut_has_no_end_token(trained: tuple[Path, RewardResult]) -> None:
    judge = make_judge(trained[0])
    cut = JudgeItem(make_prompt(), make_candidate("abc", 1, finish_reason="length"))
    assert len(judge._encode(make_items("abc")[0])) == len(judge._encode(cut)) + 1


def test_identity_and_missing_figures(trained: tuple[Path, RewardResult], tiny_model: Path, tmp_path: Path) -> None:
    folder, _ = trained
    hashes = {make_judge(folder, **more).judge_hash for more in ({}, {"max_length": 9}, {"mean": 0.0, "std": 1.0})}
    assert len(hashes) == 3
    assert make_judge(folder, batch_size=2).judge_hash == make_judge(folder).judge_hash
    with pytest.raises(ModelError, match="no reward model here"):
        make_judge(tmp_path)
    with pytest.raises(ConfigError, match=r"no reward\.json"):
        make_judge(tiny_model)


def test_other_weights_than_recorded_are_refused(
    trained: tuple[Path, RewardResult], tiny_model: Path, tmp_path: Path
) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "reward.json").write_bytes((trained[0] / "reward.json").read_bytes())
    with pytest.raises(WeightsMismatch, match="train it again"):
        make_judge(tmp_path).judge(make_items("a"))


def test_a_prompt_is_on_one_side_of_the_split() -> None:
    pairs = [PairExample(f"p{n}-{k}", (n,), (1,), (2,), 0.0, 1.0) for n in range(60) for k in range(2)]
    training, held_out = split_pairs(pairs, 0.3, seed=1)
    assert len(training) + len(held_out) == 120
    assert 5 <= len(held_out) <= 70
    assert {p.prompt_ids for p in training}.isdisjoint(p.prompt_ids for p in held_out)
    assert split_pairs(pairs[:4], 0.3, seed=1)[1] == []
    with pytest.raises(EmptyStage):
        split_pairs([], 0.3, seed=1)


def test_rewards_are_put_on_a_scale() -> None:
    assert squash(2.0, 2.0, 3.0) == 0.5
    assert squash(5.0, 2.0, 3.0) == pytest.approx(0.7311, abs=1e-4)
    assert (squash(1e9, 0, 1), squash(-1e9, 0, 1)) == (1.0, pytest.approx(0.0, abs=1e-300))

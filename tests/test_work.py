"""What a plan says that stages will do, against the same functions and against judges that really judge."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign.config import RunConfig, validate_config
from selfalign.engines.counting import CountingEngine
from selfalign.gold.items import as_judge_items
from selfalign.judges.comparisons import ring_edges
from selfalign.models.resolve import describe_model
from selfalign.plan import spoken
from selfalign.preflight import Preflight
from selfalign.progress import Silent
from selfalign.protocols import JudgeContext
from selfalign.registry import find
from selfalign.rounds import STAGES, stages_of
from selfalign.sources.draw import draw
from selfalign.stages import calibrate
from selfalign.stages.context import RunContext
from selfalign.stages.lessons import teach_items, wanted
from selfalign.store.store import Store
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import GenerationRequest, SamplingParams
from selfalign.work import WORK, JudgeWork, StageWork, round_work, run_work
from selfalign.workspace import Workspace
from tests.judges.scripted import ScriptedEngine, make_items, make_prompt
from tests.stages.test_lessons import write_gold

ALL = {
    "teach": {"rounds": [1], "gold": "gold.jsonl", "instruction_share": 0.25},
    "calibrate": {"enabled": "always", "gold": "gold.jsonl", "items": None},
    "evaluate": {"win_rate": {"prompts": 3}, "drift": {"prompts": 4}, "capability": True, "samples": 2},
}
RULE = {"ids": ["punctuation:no_comma"], "kwargs": "[{}]"}


@pytest.fixture
def found(tiny_model: Path) -> Preflight:
    """10 training prompts, 6 of them with a constraint, and 5 held-out ones."""
    training = [make_prompt(f"t{i}", f"Tell of {i}.", **(RULE if i < 6 else {})) for i in range(10)]  # type: ignore[arg-type]
    held_out = [replace(make_prompt(f"h{i}", f"Ask for {i}.", **RULE), split="held_out") for i in range(5)]  # type: ignore[arg-type]
    model = replace(describe_model(tiny_model), context_length=8192)
    return Preflight(tiny_model, model, tuple(training), tuple(held_out), 40.0, 4.0, 10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_gold(tmp_path / "gold.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(**values: Any) -> RunConfig:
    sizes = {"prompts": {"per_round": 6}, "generate": {"candidates": 4, "max_tokens": 40}, "rounds": 4}
    return validate_config({"name": "x", "judge": "rubric_logits", **sizes, **values}, "test")


def context(folder: Path, config: RunConfig) -> RunContext:
    workspace = Workspace(folder / "run")
    return RunContext(config, workspace, Store(workspace.store_path), Silent())


def stages(folder: Path, found: Preflight, round: int, **values: Any) -> dict[str, StageWork]:
    return {work.stage: work for work in round_work(context(folder, settings(**values)), found, round)}


def test_every_stage_has_its_work() -> None:
    assert WORK.keys() == set(STAGES)


def test_every_stage_of_every_round_is_listed_once(folder: Path, found: Preflight) -> None:
    here = context(folder, settings(**ALL))
    work = run_work(here, found)
    # Round 2 is the first without a lesson; round 3 is like it, as both have two models to be compared with.
    assert [like.rounds for like in work] == [(0,), (1,), (2, 3, 4)]
    for like in work:
        for round in like.rounds:
            assert [stage.stage for stage in like.stages] == stages_of(round, here.config)


def test_rows_of_a_round(folder: Path, found: Preflight) -> None:
    work = stages(folder, found, 2, **ALL)
    rows = {name: stage.rows for name, stage in work.items()}
    assert rows == {
        "prompts": 6, "generate": 24, "judge": 24, "pair": 6, "train": 6, "answer": 10, "log_ratio": 1,
        # 3 prompts x 2 samples x 2 opponents, two answers each; 4 prompts x 2 samples of 2 models, by 2 judges.
        "compare": 24, "drift": 32, "capability": 2, "evaluate": 10, "calibrate": 8, "gate": 4,
    }  # fmt: skip
    assert stages(folder, found, 1, **ALL)["compare"].rows == 12, "the model before round 1's is M_0"
    assert work["generate"].sampled == 24 * 28
    # Two sides of 12 tokens of prompt (10 of them the chat template's) and 28 of answer.
    assert work["train"].trained == 6 * 2 * (12 + 28)
    assert work["train"].read == 3 * work["train"].trained, "by the reference, by the parent and by M_2"
    assert {name: stage.loads for name, stage in work.items() if stage.loads != 1} == {
        "prompts": 0, "pair": 0, "evaluate": 0, "gate": 0, "drift": 2,
    }  # fmt: skip


def test_rows_of_earlier_rounds_are_trained_on_as_well(folder: Path, found: Preflight) -> None:
    config = settings(policy={"data": {"replay": [0.5, 0.25]}}, teach={"rounds": [1], "gold": "gold.jsonl"}, rounds=5)
    work = run_work(context(folder, config), found)
    rows = {r: next(s for s in like.stages if s.stage == "train") for like in work for r in like.rounds if r}
    # 6 pairs of its own; half of the round before, a quarter of the one before that. Lessons are not taken again.
    assert [rows[round].rows for round in (2, 3, 4, 5)] == [6, 9, 11, 11]
    assert rows[4].trained == 11 * 2 * (12 + 28)
    assert [like.rounds for like in work] == [(0,), (1,), (2,), (3,), (4, 5)]


def test_rounds_that_train_otherwise_are_told_apart(folder: Path, found: Preflight) -> None:
    config = settings(train={"id": "dpo", "epochs": [3, 1, 3]})
    work = run_work(context(folder, config), found)
    assert [like.rounds for like in work] == [(0,), (1, 3, 4), (2,)]
    three, one = (next(s for s in like.stages if s.stage == "train") for like in work[1:])
    assert (three.trained, three.packed, three.read) == (3 * one.trained, 3 * one.packed, one.read)
    assert three.updates == math.ceil(18 / 8) * found.model.parameters == 3 * one.updates


@pytest.mark.parametrize(
    ("values", "rows", "answers", "read"),
    [
        # Of 4 candidates the best one, alone; figures are of all 6 rows, by the parent and by M_t.
        ({"pair": "best_of", "train": "sft"}, 6, 1, 2),
        ({"pair": {"id": "best_of", "strategy": "global", "share": 0.5}, "train": "sft"}, 12, 1, 2),
        ({"pair": "all_pairs"}, 36, 2, 3),
        ({"pair": {"id": "all_pairs", "per_prompt": 2}, "train": "simpo"}, 12, 2, 2),
        # Every candidate is wanted or not; each row has a completion for z0, read in every epoch and by the reference.
        ({"pair": "threshold_labels", "train": {"id": "kto", "epochs": 2}}, 24, 1, 2 + 2 + 2),
        ({"pair": "ranking", "train": "rrhf"}, 6, 4, 2),
        ({"pair": "first_round", "generate": {"candidates": 5, "max_tokens": 40}}, 12, 2, 3),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_builders_make_is_trained_on(
    folder: Path, found: Preflight, values: dict[str, Any], rows: int, answers: int, read: int
) -> None:
    work = stages(folder, found, 1, **values)
    train, alone = work["train"], rows * answers * (12 + 28)
    assert work["pair"].rows == train.rows == rows
    assert train.trained == alone * context(folder, settings(**values)).config.trainer(1).epochs
    assert train.read == pytest.approx(alone * read)
    assert train.packed <= train.trained
    off = {**settings(**values).trainer(1).model_dump(exclude={"packing"}, exclude_unset=True), "packing": "off"}
    assert stages(folder, found, 1, **{**values, "train": off})["train"].packed == train.trained


def test_pairs_of_judgements_are_trained_on_as_well(folder: Path, found: Preflight) -> None:
    votes = {"judge": {"id": "rubric_votes", "votes": 3}, "calibrate": {"enabled": "never"}}
    alone = stages(folder, found, 1, **votes)["train"]
    both = stages(folder, found, 1, **votes, meta={"enabled": True, "max_share": 0.4})["train"]
    assert both.rows == alone.rows + 4, "of 10 pairs, 4 are of judgements"
    assert both.trained > alone.trained + 4 * 2 * 150


def test_a_round_that_teaches(folder: Path, found: Preflight) -> None:
    config = settings(**ALL)
    here = context(folder, config)
    work = stages(folder, found, 1, **ALL)
    assert "pair" not in work
    assert [judge.judge for judge in work["judge"].judges] == ["verifier"]
    assert work["judge"].tokens == work["judge"].loads == 0
    assert work["judge"].rows == 24, "at most: those without a constraint give no judgement"
    gold = teach_items(here)
    with_rule = sum(bool(p.instruction_id_list) for p in draw(found.training, 6, 1, config.seed))
    verdicts = 2 * len(gold) + 2 * (4 // 2) * with_rule
    instructions = min(wanted(verdicts, 0.25), len({item.prompt for item in gold}))
    assert work["lessons"].rows == work["train"].rows == verdicts + instructions
    train = work["train"]
    assert 0 < train.packed < train.trained / 2, "verdicts share the rubric"
    assert train.read < 2 * train.trained and train.precision == "auto"


JUDGES: list[tuple[dict[str, Any], list[JudgeWork]]] = [
    ({"id": "verifier"}, [JudgeWork("verifier", 24)]),
    (
        {"id": "pairwise", "opponents": 2},
        [JudgeWork("pairwise", 2 * 6 * len(ring_edges(4, 2)), 6 * len(ring_edges(4, 2)))],
    ),
    (
        {"id": "pairwise", "mode": "text", "votes": 3, "max_tokens": 10},
        [JudgeWork("pairwise", 2 * 3 * 6 * 6, 6 * 6, sampled=2 * 3 * 6 * 6 * 7)],
    ),
    ({"id": "rubric_votes", "votes": 5, "max_tokens": 20}, [JudgeWork("rubric_votes", 120, sampled=120 * 14)]),
    ({"id": "critique", "critiques": 2, "max_tokens": 100}, [JudgeWork("critique", 48, sampled=48 * 70)]),
    (
        {"id": "jury", "members": ["verifier", {"id": "length", "judge": "rubric_logits", "penalty": 1}]},
        [JudgeWork("jury", 24), JudgeWork("verifier", 24), JudgeWork("length", 24), JudgeWork("rubric_logits", 24)],
    ),
    (
        {"id": "weighted", "members": [
            {"id": "openai", "weight": 1, "base_url": "http://127.0.0.1:9/v1", "model": "m", "votes": 4},
            {"id": "openai", "weight": 1, "base_url": "http://127.0.0.1:9/v1", "model": "n", "rubric": "judges/additive_short",
             "mode": "logprobs"},
        ]},
        [JudgeWork("weighted", 24), JudgeWork("openai", 96, requests=96), JudgeWork("openai", 24, requests=24)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("judge", "expected"), JUDGES, ids=lambda value: value.get("id") if isinstance(value, dict) else ""
)
def test_what_judges_do(folder: Path, found: Preflight, judge: dict[str, Any], expected: list[JudgeWork]) -> None:
    work = stages(folder, found, 1, judge=judge, calibrate={"enabled": "never"})["judge"]
    assert [replace(done, read=0) for done in work.judges] == expected
    assert work.rows == sum(done.rows for done in expected)
    assert work.read == sum(done.read for done in work.judges)
    assert (work.read > 0) == bool(work.loads) == any(done.read for done in work.judges)


def test_a_large_round_is_in_proportion_to_a_small_one(folder: Path, found: Preflight) -> None:
    many = replace(found, training=tuple(make_prompt(f"t{i}", f"Tell of {i:03}.") for i in range(300)))
    small, large = (
        stages(folder, many, 1, judge={"id": "pairwise"}, prompts={"per_round": size})["judge"].judges[0]
        for size in (12, 300)
    )
    assert (large.rows, large.comparisons) == (25 * small.rows, 25 * small.comparisons)
    assert large.read == pytest.approx(25 * small.read, rel=0.02)


def test_gold_items_are_judged_as_the_stage_judges_them(folder: Path, found: Preflight) -> None:
    here = context(folder, settings(**ALL))
    (counted,) = WORK["calibrate"](here, found, 0).judges
    items = [shown for item in calibrate.run_items(here) for shown in as_judge_items(item, 0)]
    engine = CountingEngine(8192, 4.0, 10, 0.7)
    plugin = find("judge", "rubric_logits").load()
    judge = plugin(plugin.Config(), JudgeContext(engine, 0, 1, Templates([shipped_prompts()])))
    rows = [row for batch in judge.plan(items) for row in judge.judge([items[i] for i in batch])]
    assert (counted.rows, counted.read) == (len(rows), engine.read)


def test_a_judge_that_cannot_be_tried_still_counts(
    folder: Path, found: Preflight, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = find("judge", "rubric_logits").load()
    monkeypatch.setattr(plugin, "judge", lambda self, items: self.engine.model.weights)
    assert stages(folder, found, 1)["judge"].judges == (JudgeWork("rubric_logits", 24),)


# -- the engine that counts -----------------------------------------------------------------------------------


def test_the_engine_counts_what_another_one_is_asked() -> None:
    """One token a character, and the same questions as a scripted engine of that kind is asked."""
    plugin = find("judge", "pairwise").load()
    config = plugin.Config(mode="text", opponents=2, votes=2, max_tokens=5)
    counting, scripted = CountingEngine(8192, 1.0), ScriptedEngine(answer=lambda shown, vote: "xxxxx")
    for engine in (counting, scripted):
        judge = plugin(config, JudgeContext(engine, 0, 1, Templates([shipped_prompts()])))
        judge.judge(make_items("one", "two", "three", "four", "five"))
    assert len(scripted.requests) == 2 * len(ring_edges(5, 2))
    assert counting.written == 5 * 2 * len(scripted.requests)
    assert counting.read == sum(len(counting.encode_prompt(request.messages)) for request in scripted.requests)


def test_a_shared_beginning_is_read_once() -> None:
    engine = CountingEngine(1000, 2.0)
    prompts = [engine.encode_text("the same beginning, " + end) for end in ("then this", "then that")]
    engine.score_choices(prompts, ["0", "1"])
    assert engine.read == len(prompts[0]) + len(prompts[1]) - 27 // 2


@given(st.text(max_size=300), st.floats(0.3, 8))
def test_a_text_has_a_token_for_so_many_characters(text: str, size: float) -> None:
    tokens = CountingEngine(1000, size).encode_text(text)
    assert len(tokens) == pytest.approx(len(text) / size, abs=0.5001)


@given(st.integers(1, 200), st.integers(0, 2**63), st.floats(0.5, 6))
def test_filler_is_as_long_as_it_should_be_and_its_own(tokens: int, seed: int, size: float) -> None:
    engine = CountingEngine(10_000, size)
    text = engine.filler(tokens, seed)
    assert abs(len(engine.encode_text(text)) - tokens) <= 1
    (answers,) = engine.generate(
        [GenerationRequest("r", ({"role": "user", "content": "hi"},), (seed, seed + 1))],
        SamplingParams(max_tokens=tokens),
    )
    assert [len(answer.token_ids) for answer in answers] == [tokens] * 2
    if len(text) > 20:
        assert answers[0].text != answers[1].text


@given(st.sets(st.integers(0, 30), min_size=1))
def test_rounds_in_words_name_every_round_once(rounds: set[int]) -> None:
    said: list[int] = []
    for part in spoken(sorted(rounds)).split(", "):
        first, _, last = part.partition("-")
        said += range(int(first), int(last or first) + 1)
    assert said == sorted(rounds)
    assert json.dumps(said)

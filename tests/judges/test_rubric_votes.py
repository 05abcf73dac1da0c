from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from selfalign.engines.transformers_engine import TransformersEngine
from selfalign.errors import PromptFileError, StageFailed
from selfalign.judges.rubric_votes import RubricVotesJudge
from selfalign.judges.scores import aggregate
from selfalign.protocols import Engine, JudgeContext
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import FinishReason, Judgement
from tests.judges.scripted import ScriptedEngine, make_items

TEMPLATES = Templates([shipped_prompts()])


def make_judge(engine: Engine | None, round: int = 1, run_seed: int = 7, **settings: object) -> RubricVotesJudge:
    config = RubricVotesJudge.Config.model_validate(settings)
    return RubricVotesJudge(config, JudgeContext(engine, run_seed, round, TEMPLATES))


def test_every_vote_is_a_row_and_only_valid_ones_have_a_score() -> None:
    answers: list[str | tuple[str, FinishReason]] = ["Score: 4", "no idea", ("Score: 2 because the", "length")]
    engine = ScriptedEngine(answer=lambda shown, vote: answers[vote])
    rows = make_judge(engine).judge(make_items("Hello."))
    assert [(r.sample_idx, r.score, r.outcome, r.raw) for r in rows] == [
        (0, 4.0, "ok", "Score: 4"),
        (1, None, "parse_error", "no idea"),
        (2, 2.0, "ok", "Score: 2 because the"),
    ]
    assert {r.weights_hash for r in rows} == {"weights"}
    assert json.loads(rows[2].detail)["finish_reason"] == "length"
    assert len({r.judgement_id for r in rows}) == 3
    assert engine.params[0].temperature == 0.7
    assert engine.params[0].top_p == 0.9


def test_a_prompt_is_asked_once_for_all_its_votes() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "Score: 1")
    make_judge(engine, votes=5).judge(make_items("a", "b"))
    assert engine.calls == 1
    assert [len(r.seeds) for r in engine.requests] == [5, 5]
    assert len({seed for r in engine.requests for seed in r.seeds}) == 10


def test_judging_again_gives_the_same_rows() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: f"Score: {vote}")
    items = make_items("a", "b", "c")
    assert make_judge(engine).judge(items) == make_judge(engine).judge(items)


def test_seeds_depend_on_run_seed_round_and_judge() -> None:
    def seeds(**changes: object) -> tuple[int, ...]:
        engine = ScriptedEngine(answer=lambda shown, vote: "Score: 1")
        make_judge(engine, **changes).judge(make_items("a"))  # type: ignore[arg-type]
        return engine.requests[0].seeds

    assert len({seeds(), seeds(run_seed=8), seeds(round=2), seeds(temperature=0.8)}) == 4


def test_the_hash_covers_rubric_and_parameters() -> None:
    hashes = [
        make_judge(None).judge_hash,
        make_judge(None, rubric="judges/additive_zh").judge_hash,
        make_judge(None, votes=4).judge_hash,
        make_judge(None, temperature=0.1).judge_hash,
        make_judge(None, max_tokens=10).judge_hash,
        make_judge(None, min_valid_votes=1).judge_hash,
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_follows_the_text_of_a_rubric_not_its_place(tmp_path: Path) -> None:
    text = (shipped_prompts() / "judges" / "additive.j2").read_text(encoding="utf-8")
    copy = tmp_path / "mine.j2"
    copy.write_text(text, encoding="utf-8")
    assert make_judge(None, rubric=str(copy)).judge_hash == make_judge(None).judge_hash
    copy.write_text(text.replace("80 words", "20 words"), encoding="utf-8")
    assert make_judge(None, rubric=str(copy)).judge_hash != make_judge(None).judge_hash


def test_a_candidate_is_shown_verbatim() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "Score: 1")
    text = "{{ 7*7 }} {% for x in range(3) %}x{% endfor %} {# gone #}\n=== system ===\n  trailing  \n"
    make_judge(engine).judge(make_items(text))
    messages = engine.requests[0].messages
    assert len(messages) == 1
    assert text in messages[0]["content"]
    assert "49" not in messages[0]["content"]


def test_a_score_inside_the_candidate_is_not_the_judges() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "I will not say.")
    assert {r.outcome for r in make_judge(engine).judge(make_items("Score: 5"))} == {"parse_error"}


def test_an_overlong_prompt_is_truncated_votes_and_the_rest_is_judged() -> None:
    engine = ScriptedEngine(answer=lambda shown, vote: "Score: 3", context_length=3000)
    rows = make_judge(engine).judge(make_items("short", "long " * 1000, "tiny"))
    assert [r.outcome for r in rows] == ["ok"] * 3 + ["truncated"] * 3 + ["ok"] * 3
    assert rows[3].raw == ""
    assert "window" in json.loads(rows[3].detail)["reason"]
    assert [r.candidate_id for r in rows[::3]] == ["p0-c0", "p0-c1", "p0-c2"]


def test_a_batch_of_only_overlong_prompts() -> None:
    engine = ScriptedEngine(context_length=300)
    assert {r.outcome for r in make_judge(engine).judge(make_items("x"))} == {"truncated"}


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_valid_votes 2 exceeds votes 1"):
        RubricVotesJudge.Config(votes=1)
    with pytest.raises(PromptFileError, match=r"no prompt file 'judges/aditive'.*did you mean 'judges/additive'"):
        make_judge(None, rubric="judges/aditive")
    with pytest.raises(StageFailed, match="without a model"):
        make_judge(None).plan(make_items("a"))


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Config(), tiny_model)


@pytest.fixture
def short_rubric(tmp_path: Path) -> str:
    path = tmp_path / "short.j2"
    path.write_text(
        "---\nkind: judge\nvariables: [instruction, response]\nscore: {min: 0, max: 5, pattern: '(\\d)'}\n---\n"
        "{{ instruction }}\n{{ response }}\n",
        encoding="utf-8",
    )
    return str(path)


def test_votes_do_not_depend_on_the_batch(engine: TransformersEngine, short_rubric: str) -> None:
    judge = make_judge(engine, rubric=short_rubric, max_tokens=12, temperature=1.0, top_p=1.0)
    items = make_items("a", "a much longer answer than the first one", "你好", "d")
    together = {r.judgement_id: r for r in judge.judge(items)}
    alone: dict[str, Judgement] = {}
    for item in reversed(items):
        alone |= {r.judgement_id: r for r in judge.judge([item])}
    assert together == alone
    assert len({r.raw for r in together.values()}) > len(items)


def test_planned_batches_cover_every_item_once(engine: TransformersEngine, short_rubric: str) -> None:
    judge = make_judge(engine, rubric=short_rubric, max_tokens=12)
    items = make_items(*["word " * n for n in range(30)])
    assert sorted(i for batch in judge.plan(items) for i in batch) == list(range(30))
    rows = judge.judge(items[:2])
    assert aggregate(rows, judge.name, 1).keys() == {"p0-c0", "p0-c1"}

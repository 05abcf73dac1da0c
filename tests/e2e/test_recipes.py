"""Every recipe of flows/ from end to end on the tiny model: its own pipeline, only sizes are cut."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign.config import RunConfig, load_config
from selfalign.pairing.sppo import win_rates
from selfalign.shipped import recipes
from selfalign.store.store import read_sql
from selfalign.verify import verify
from selfalign.workspace import Workspace
from tests.e2e.in_process import run_whole
from tests.e2e.project import HELD_OUT_PROMPTS

#: A random model's text of 24 bytes has so many words in a third of all cases.
_WORDS = 6
_SIZES = ("prompts.per_round=8", "generate.max_tokens=24")
_OWN_SIZES = {
    "rso": ("generate.candidates=8", "resample.accept=4"),
    # A random model needs large steps to be taught at all, and then passes the default gates; its verdicts are less sure.
    "self-rewarding": (
        "teach.train.learning_rate=5e-3", "teach.train.epochs=4", "teach.train.batch_size=8", "pair.min_margin=0",
    ),
}  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files in data/ that are called as those that ship, and are found before them."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "data").mkdir()
    prompts = [
        {
            "text": f"Say something short about number {i}, in {_WORDS} words or more.", "language": "en",
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"num_words": _WORDS, "relation": "at least"}],
            "answer": f"The number {i} is less than the next one.",
        }
        for i in range(16)
    ]  # fmt: skip
    for name in ("seed_prompts.jsonl", "demonstrations.jsonl"):
        _write(folder / "data" / name, prompts)
    _write(folder / "data" / "held_out_prompts.jsonl", [{**prompt, "language": "en"} for prompt in HELD_OUT_PROMPTS])
    _write(folder / "data" / "gold.jsonl", _gold())
    return folder


def _gold() -> list[dict[str, Any]]:
    """Answers whose first letters say which is better: what even a tiny model can be taught."""
    drawn = random.Random(1)

    def answer(letters: str) -> str:
        return "".join(drawn.choice(letters) for _ in range(12))

    return [
        {
            "key": f"g-{i}", "split": "teach" if i % 3 else "test", "kind": "corrupted", "language": "en",
            "prompt": f"Say {i}.", "better": answer("abcde"), "worse": answer("vwxyz"),
        }
        for i in range(48)
    ]  # fmt: skip


@dataclass(frozen=True)
class Run:
    config: RunConfig
    workspace: Workspace

    def sql(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_sql(self.workspace.store_path, query).to_pylist()
        return rows

    def rounds(self) -> list[int]:
        """Those that train on answers."""
        return [t for t in range(1, self.config.rounds + 1) if not self.config.teaches(t)]

    def pairs(self) -> list[dict[str, Any]]:
        """Every pair with where its sides come from; each round has some."""
        found = self.sql(
            "select p.*, w.origin as chosen_origin, w.weights_hash as chosen_by, l.weights_hash as rejected_by, "
            "l.origin as rejected_origin, r.parent_hash from pairs p join candidates w on w.candidate_id = p.chosen_id "
            "join candidates l on l.candidate_id = p.rejected_id join rounds r on r.round = p.round"
        )
        assert {pair["round"] for pair in found} == set(self.rounds())
        assert {pair["builder"] for pair in found} == {self.config.pair.id}
        return found

    def labels(self) -> list[dict[str, Any]]:
        found = self.sql("select k.*, c.finish_reason from unary_labels k join candidates c using (candidate_id)")
        assert {label["round"] for label in found} == set(self.rounds())
        assert {label["builder"] for label in found} == {self.config.pair.id}
        return found

    def scores(self) -> dict[tuple[int, str], dict[str, float]]:
        """(round, prompt) -> candidate -> score of the recipe's judge."""
        found: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
        for row in self.sql(
            "select j.round, c.prompt_id, c.candidate_id, j.score from judgements j join candidates c using "
            f"(candidate_id) where j.judge = '{self.config.judge.id}' order by c.sample_idx"
        ):
            found[row["round"], row["prompt_id"]][row["candidate_id"]] = row["score"]
        return found


def _best_against_worst(run: Run) -> None:
    scores = run.scores()
    assert {len(own) for own in scores.values()} == {run.config.generate.candidates}
    for pair in run.pairs():
        own = scores[pair["round"], pair["prompt_id"]]
        assert (pair["chosen_score"], pair["rejected_score"]) == (max(own.values()), min(own.values()))
        assert pair["margin"] >= run.config.pair.min_margin
        assert pair["chosen_by"] == pair["rejected_by"] == pair["parent_hash"]


def _iterative_dpo(run: Run) -> None:
    _best_against_worst(run)
    first, second = ({p for t, p in run.scores() if t == round} for round in run.rounds())
    assert not first & second, "every round has new prompts"


def _self_rewarding(run: Run) -> None:
    lessons = run.sql("select round, kind, count(*) as n from lessons group by all order by kind")
    assert [(row["round"], row["kind"]) for row in lessons] == [(1, "instruction"), (1, "judge")]
    judged = run.sql(
        "select j.round, j.judge, j.weights_hash, r.parent_hash from judgements j join rounds r using (round) "
        "join candidates c using (candidate_id) where c.split = 'train'"
    )
    assert {row["round"] for row in judged} == {2, 3}, "nothing is judged before the judge is taught"
    assert all(row["weights_hash"] == row["parent_hash"] and row["judge"] == "rubric_logits" for row in judged)
    gates = run.sql("select round, verdict from gate_decisions where rule = 'judge_accuracy' order by round")
    assert gates == [{"round": t, "verdict": "pass"} for t in (1, 2, 3)]
    (untaught,) = run.sql("select low from evaluations where metric = 'judge_pairwise_accuracy' and round = 0")
    assert untaught["low"] < 0.5, "untaught it would have been stopped"
    _best_against_worst(run)


def _rso(run: Run) -> None:
    rows = run.sql("select * from selections")
    accepted = {row["candidate_id"] for row in rows if row["accepted"]}
    assert {row["round"] for row in rows} == {1, 2} and {row["resampler"] for row in rows} == {"rso"}
    assert (len(rows), len(accepted)) == (2 * 8 * 8, 2 * 8 * 4)
    pairs = run.pairs()
    assert {pair[side] for pair in pairs for side in ("chosen_id", "rejected_id")} <= accepted
    assert max(sum(p["prompt_id"] == q["prompt_id"] for q in pairs) for p in pairs) > 1, "several matches a prompt"


def _kto(run: Run) -> None:
    labels, settings = run.labels(), run.config.pair
    assert {(label["round"], label["label"]) for label in labels} == set(itertools.product((1, 2), (True, False)))
    for label in labels:
        assert label["score"] >= settings.desirable if label["label"] else label["score"] <= settings.undesirable
    assert run.sql("select * from pairs") == []
    for row in run.sql("select metrics, n_examples from checkpoints"):
        figures = json.loads(row["metrics"])
        assert 1 <= figures["balance"] <= 4 / 3 + 1e-9
        assert figures["n_desirable"] + figures["n_undesirable"] == row["n_examples"]


def _spin(run: Run) -> None:
    for pair in run.pairs():
        assert (pair["chosen_origin"], pair["chosen_by"], pair["judge"]) == ("demonstration", "", "demonstration")
        assert pair["rejected_by"] == pair["parent_hash"], "the opponent is the model of the round before"
    assert run.sql("select * from stages where stage = 'judge'") == []
    for row in run.sql("select metrics from checkpoints"):
        assert json.loads(row["metrics"])["train_loss_first"] == pytest.approx(math.log(2), abs=1e-4)


def _sppo(run: Run) -> None:
    scores = run.scores()
    for pair in run.pairs():
        own = scores[pair["round"], pair["prompt_id"]]
        rates = dict(zip(own, win_rates(list(own.values()), run.config.pair.scale), strict=True))
        assert pair["chosen_score"] == pytest.approx(max(rates.values())) == pytest.approx(rates[pair["chosen_id"]])
        assert pair["rejected_score"] == pytest.approx(min(rates.values())) == pytest.approx(rates[pair["rejected_id"]])


def _raft(run: Run) -> None:
    labels, scores = run.labels(), run.scores()
    assert len({(label["round"], label["prompt_id"]) for label in labels}) == len(labels), "one of each prompt"
    assert all(label["label"] and label["finish_reason"] == "stop" for label in labels)
    whole = {row["candidate_id"] for row in run.sql("select * from candidates where finish_reason = 'stop'")}
    for label in labels:
        own = scores[label["round"], label["prompt_id"]]
        assert label["score"] == max(score for candidate, score in own.items() if candidate in whole)
    trained = run.sql("select round, n_examples from checkpoints order by round")
    assert trained == [{"round": t, "n_examples": sum(k["round"] == t for k in labels)} for t in (1, 2)]


def _dno(run: Run) -> None:
    settings, scores, pairs = run.config.pair, run.scores(), run.pairs()
    assert {len(own) for own in scores.values()} == {run.config.generate.candidates + 1}, "the teacher's is judged, too"
    for pair in pairs:
        own = pair["chosen_origin"] != "demonstration"
        assert pair["chosen_score"] >= settings.floor
        assert pair["margin"] >= (settings.own_min_margin if own else settings.min_margin)
        assert pair["rejected_by"] == pair["parent_hash"]
    assert {"demonstration"} < {pair["chosen_origin"] for pair in pairs}, "the student's are chosen as well"


#: Recipe -> what it alone makes.
_OWN: dict[str, Callable[[Run], None]] = {
    "quickstart": _best_against_worst, "self-rewarding": _self_rewarding, "rso": _rso, "kto": _kto,
    "simpo": _best_against_worst, "orpo": _best_against_worst, "spin": _spin, "sppo": _sppo, "raft": _raft,
    "iterative-dpo": _iterative_dpo, "dno": _dno,
}  # fmt: skip


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_finishes_its_rounds(name: str, data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    path = recipes()[name]
    config = load_config(path, [f"model={tiny_model}", *_SIZES, *_OWN_SIZES.get(name, ())])
    run = Run(config, run_whole(config))
    _trained_as_written(run, yaml.safe_load(path.read_text(encoding="utf-8"))["train"])
    _OWN[name](run)
    assert {row["status"] for row in run.sql("select status from stages")} == {"done"}
    assert verify(run.workspace).findings == ()


def _trained_as_written(run: Run, written: dict[str, Any]) -> None:
    rows = run.sql("select * from checkpoints order by round")
    assert len(rows) == run.config.rounds >= 2
    assert [row["trainer"] for row in rows] == [run.config.trainer(row["round"]).id for row in rows]
    for before, row in itertools.pairwise([None, *rows]):
        assert row["weights_hash"] != row["parent_id"], "the training changed the weights"
        assert before is None or row["parent_id"] == before["weights_hash"]
        trainer = run.config.trainer(row["round"])
        compares = trainer.id == "kto" or any(loss.needs_reference for loss in getattr(trainer, "losses", tuple)())
        assert row["reference_hash"] == (row["parent_id"] if compares else None)
        if not run.config.teaches(row["round"]):
            assert written.items() <= json.loads(row["config"]).items()
            assert row["trainer"] == written["id"]

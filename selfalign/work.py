"""What every stage of a run has to do: rows, tokens and judgements, before anything is started.

Nothing is described a second time here. Who answers what, who judges what and what is taught is asked of the stages'
own functions, and judges do judge: filler, with an engine that only counts. Figures are upper bounds where they depend
on what models will say (pairs, lessons from candidates, comparisons of answers that may turn out identical).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from selfalign import filler, training_work
from selfalign.evaluation.plain_text import load_paragraphs
from selfalign.filler import MEAN_ANSWER_SHARE
from selfalign.gold.items import as_judge_items
from selfalign.judges.meta_judge import n_questions
from selfalign.judges.nested import judges_in, parts
from selfalign.preflight import Preflight
from selfalign.protocols import JudgeContext, RemoteJudge
from selfalign.registry import find
from selfalign.rounds import stages_of
from selfalign.stages import (
    calibrate,
    capability,
    compare,
    generate,
    held_out_judge,
    meta_judge,
    preferences,
)
from selfalign.stages.context import RunContext
from selfalign.stages.judge import judge_settings, needs_model
from selfalign.types import JudgeItem

#: Candidates that a judge is tried on; the rest is in proportion.
_SAMPLE = 48


@dataclass(frozen=True)
class JudgeWork:
    """What one judge does in a stage of one round; the members of a composite judge have their own.

    ``rows`` are judgements, ``comparisons`` pairs of candidates that are compared with each other (in both orders),
    ``requests`` questions to a server. Tokens are those of the run's own model.
    """

    judge: str
    rows: int
    comparisons: int = 0
    read: int = 0
    sampled: int = 0
    requests: int = 0


@dataclass(frozen=True)
class StageWork:
    """What a stage does in one round. ``loads``: processes that load the model.

    ``trained``, ``packed`` and ``updates`` are those of training_work.Training; ``precision`` is the trainer's setting.
    """

    stage: str
    rows: int
    sampled: int = 0
    read: int = 0
    trained: int = 0
    packed: int = 0
    updates: int = 0
    precision: str | None = None
    loads: int = 0
    judges: tuple[JudgeWork, ...] = ()

    @property
    def tokens(self) -> int:
        return self.sampled + self.read + self.trained


@dataclass(frozen=True)
class RoundsWork:
    """What each of ``rounds``, which are alike, has to do."""

    rounds: tuple[int, ...]
    stages: tuple[StageWork, ...]


def run_work(context: RunContext, found: Preflight) -> list[RoundsWork]:
    """Every round from 0 on, alike ones together, in order of their first."""
    known: dict[Any, list[StageWork]] = {}
    alike: dict[tuple[StageWork, ...], list[int]] = defaultdict(list)
    for round in range(context.config.rounds + 1):
        duels = len(_opponents(context, round)) if round else 0  # in round 1 the model before is M_0
        builder = context.config.builder(round).model_dump_json()
        key = (context.config.teaches(round), duels, builder, *stages_of(round, context.config))
        if key not in known:
            known[key] = round_work(context, found, round)
        stages = known[key]
        if not context.config.teaches(round):  # what is trained on may differ from round to round, and is quickly said
            stages = [_train(context, found, round) if one.stage == "train" else one for one in stages]
        alike[tuple(stages)].append(round)
    return [RoundsWork(tuple(rounds), stages) for stages, rounds in alike.items()]


def round_work(context: RunContext, found: Preflight, round: int) -> list[StageWork]:
    """The stages of one round, in order."""
    return [WORK[name](context, found, round) for name in stages_of(round, context.config)]


# -- stages -----------------------------------------------------------------------------------------------


def _prompts(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("prompts", len(filler.drawn(context, found, round)))


def _preferences(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("preferences", len(preferences.load(context)[0]))


def _generate(context: RunContext, found: Preflight, round: int) -> StageWork:
    return _sampling(context, found, generate.training_candidates(context, round))


def _answer(context: RunContext, found: Preflight, round: int) -> StageWork:
    return _sampling(context, found, generate.held_out_answers(context, round))


def _sampling(context: RunContext, found: Preflight, sampling: generate.Sampling) -> StageWork:
    rows = len(filler.drawn(context, found, sampling.prompt_round)) * sampling.samples
    return StageWork(sampling.stage, rows, sampled=_int(rows * filler.mean_tokens(sampling)), loads=1)


def _judge(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = judge_settings(context, round)
    groups = filler.filled(context, found, generate.training_candidates(context, round))
    judges = judging(context, found, settings, groups)
    return _judged("judge", judges, loads=int(needs_model(settings)))


def _resample(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("resample", len(filler.drawn(context, found, round)) * context.config.generate.candidates)


def _pair(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork(
        "pair", _int(len(filler.drawn(context, found, round)) * training_work.rows_a_prompt(context, round))
    )


def _meta_judge(context: RunContext, found: Preflight, round: int) -> StageWork:
    """Every two judgements of a candidate in both orders; at most, as judgements without a score take no part."""
    settings, candidates = (
        context.config.meta,
        len(filler.drawn(context, found, round)) * context.config.generate.candidates,
    )
    written = [judge.written for judge in meta_judge.writing_judges(context, round)]
    comparisons = min(candidates, settings.candidates) * sum(map(n_questions, written))
    text = settings.max_tokens * MEAN_ANSWER_SHARE
    shown = found.mean_prompt_tokens + filler.mean_tokens(generate.training_candidates(context, round)) + 2 * text
    sampled = comparisons * text if settings.mode == "text" else 0
    return StageWork("meta_judge", comparisons, sampled=_int(sampled), read=_int(comparisons * shown), loads=1)


def _lessons(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("lessons", training_work.training(context, found, round).rows)


def _train(context: RunContext, found: Preflight, round: int) -> StageWork:
    done = training_work.training(context, found, round)
    return StageWork(
        "train", done.rows, read=done.read, trained=done.trained, packed=done.packed, updates=done.updates, loads=1,
        precision=getattr(context.config.trainer(round), "precision", None),
    )  # fmt: skip


def _log_ratio(context: RunContext, found: Preflight, round: int) -> StageWork:
    sampling = generate.held_out_answers(context, round)
    read = len(found.held_out) * sampling.samples * (found.mean_prompt_tokens + filler.mean_tokens(sampling))
    return StageWork("log_ratio", 1, read=_int(read), loads=1)


def _compare(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = context.config.evaluate.win_rate
    assert settings is not None, "rounds.py leaves this stage out without settings"
    prompts = held_out_judge.draw(found.held_out, settings.prompts, context.config.seed, "compare")
    sampling = generate.held_out_answers(context, round)
    engine = filler.engine(context, found)
    duels = [
        filler.candidates(engine, prompt, 2, filler.mean_tokens(sampling))
        for prompt in prompts
        for _ in range(sampling.samples * len(_opponents(context, round)))
    ]
    judges = judging(context, found, settings.judge, duels)
    return _judged("compare", judges, loads=int(needs_model(settings.judge)))


def _opponents(context: RunContext, round: int) -> set[int]:
    settings = context.config.evaluate.win_rate
    return set(compare.opponents(settings, round).values()) if settings else set()


def _drift(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = context.config.evaluate.drift
    assert settings is not None, "rounds.py leaves this stage out without settings"
    prompts = held_out_judge.draw(found.held_out, settings.prompts, context.config.seed, "drift")
    sampling = generate.held_out_answers(context, round)
    engine = filler.engine(context, found)
    # Answers of M_0 and of M_t, one by one.
    answers = [
        [answer]
        for prompt in prompts
        for answer in filler.candidates(engine, prompt, 2 * sampling.samples, filler.mean_tokens(sampling))
    ]
    # By M_0's judge and by M_t's, which are one where the judge has no model.
    times = 2 if needs_model(settings.judge) else 1
    judges = [_times(times, judge) for judge in judging(context, found, settings.judge, answers)]
    return _judged("drift", judges, loads=times if needs_model(settings.judge) else 0)


def _capability(context: RunContext, found: Preflight, round: int) -> StageWork:
    engine = filler.engine(context, found)
    texts = [engine.encode_text(p.text)[: engine.context_length] for p in load_paragraphs(capability.texts_path())]
    return StageWork("capability", 1 + (round > 0), read=sum(map(len, texts)), loads=1)


def _evaluate(context: RunContext, found: Preflight, round: int) -> StageWork:
    constrained = sum(bool(p.instruction_id_list) for p in found.held_out)
    return StageWork("evaluate", constrained * context.config.evaluate.samples)


def _calibrate(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = context.config.judge
    items = calibrate.run_items(context)
    judges = judging(context, found, settings, [list(as_judge_items(item, round)) for item in items])
    return _judged("calibrate", judges, loads=int(needs_model(settings)))


def _gate(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("gate", len(context.config.gates))


#: Stage -> what it has to do in a round.
WORK: Mapping[str, Callable[[RunContext, Preflight, int], StageWork]] = {
    "prompts": _prompts, "preferences": _preferences, "generate": _generate, "judge": _judge, "resample": _resample, "pair": _pair, "meta_judge": _meta_judge, "lessons": _lessons,
    "train": _train, "answer": _answer, "log_ratio": _log_ratio, "compare": _compare, "drift": _drift, "capability": _capability,
    "evaluate": _evaluate, "calibrate": _calibrate, "gate": _gate,
}  # fmt: skip


# -- judges -----------------------------------------------------------------------------------------------


def judging(
    context: RunContext, found: Preflight, settings: Any, groups: Sequence[Sequence[JudgeItem]]
) -> tuple[JudgeWork, ...]:
    """What the judge of ``settings`` and the judges inside it do with ``groups``, each a prompt's candidates."""
    total = sum(map(len, groups))
    sample = _sample(groups)
    if not sample:
        return ()
    scale = total / len(sample)
    return tuple(_one_judge(context, found, inner, sample, scale, total) for inner in judges_in(settings))


def _one_judge(
    context: RunContext, found: Preflight, settings: Any, sample: Sequence[JudgeItem], scale: float, total: int
) -> JudgeWork:
    engine = filler.engine(context, found)
    judge = find("judge", settings.id).load()(
        settings, JudgeContext(engine, context.config.seed, 1, context.templates())
    )
    if isinstance(judge, RemoteJudge):
        return JudgeWork(judge.name, judge.asks * total, requests=judge.asks * total)
    if parts(settings) or not needs_model(settings):
        return JudgeWork(judge.name, total)
    try:
        rows = [row for batch in judge.plan(sample) for row in judge.judge([sample[i] for i in batch])]
    except Exception:
        # A judge of another package may want more of its engine; an estimate must not stop a run.
        return JudgeWork(judge.name, total)
    against = {frozenset((row.candidate_id, json.loads(row.detail).get("opponent"))) for row in rows}
    compared = sum(None not in pair for pair in against)
    return JudgeWork(
        judge.name, _int(len(rows) * scale), _int(compared * scale), _int(engine.read * scale),
        _int(engine.written * scale),
    )  # fmt: skip


def _times(times: int, work: JudgeWork) -> JudgeWork:
    return replace(
        work, rows=times * work.rows, comparisons=times * work.comparisons, read=times * work.read,
        sampled=times * work.sampled, requests=times * work.requests,
    )  # fmt: skip


def _judged(stage: str, judges: Sequence[JudgeWork], loads: int) -> StageWork:
    return StageWork(
        stage, sum(judge.rows for judge in judges), sampled=sum(judge.sampled for judge in judges),
        read=sum(judge.read for judge in judges), loads=loads, judges=tuple(judges),
    )  # fmt: skip


def _sample(groups: Sequence[Sequence[JudgeItem]]) -> list[JudgeItem]:
    """Candidates of some groups, spread evenly over all; groups stay whole."""
    wanted = max(1, _SAMPLE * len(groups) // max(1, sum(map(len, groups))))
    step = max(1, len(groups) // wanted)
    return [item for group in islice(groups, 0, None, step) for item in group]


def _int(value: float) -> int:
    return round(value)

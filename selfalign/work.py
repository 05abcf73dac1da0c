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

from selfalign.engines.counting import CountingEngine
from selfalign.evaluation.plain_text import load_paragraphs
from selfalign.gold.items import as_judge_items
from selfalign.identity import derive_seed
from selfalign.judges.nested import judges_in, parts
from selfalign.preflight import Preflight
from selfalign.protocols import JudgeContext, RemoteJudge
from selfalign.registry import find
from selfalign.rounds import stages_of
from selfalign.sources.draw import draw
from selfalign.stages import (
    calibrate,
    capability,
    compare,
    generate,
    held_out_judge,
    lessons,
    meta_judge,
    preferences,
    replay,
)
from selfalign.stages.context import RunContext
from selfalign.stages.engine import concrete, own_engine
from selfalign.stages.judge import judge_settings, needs_model
from selfalign.types import Candidate, JudgeItem, Lesson, Prompt, ScoredCandidate, ScoredGroup

#: Answers are shorter than max_tokens; used where nothing is known yet.
MEAN_ANSWER_SHARE = 0.7
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
    """What a stage does in one round. ``loads``: processes that load the model. ``trained``: tokens times epochs."""

    stage: str
    rows: int
    sampled: int = 0
    read: int = 0
    trained: int = 0
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
    return StageWork("prompts", len(_drawn(context, found, round)))


def _preferences(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("preferences", len(preferences.load(context)[0]))


def _generate(context: RunContext, found: Preflight, round: int) -> StageWork:
    return _sampling(context, found, generate.training_candidates(context, round))


def _answer(context: RunContext, found: Preflight, round: int) -> StageWork:
    return _sampling(context, found, generate.held_out_answers(context, round))


def _sampling(context: RunContext, found: Preflight, sampling: generate.Sampling) -> StageWork:
    rows = len(_drawn(context, found, sampling.prompt_round)) * sampling.samples
    return StageWork(sampling.stage, rows, sampled=_int(rows * _mean_tokens(sampling)), loads=1)


def _judge(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = judge_settings(context, round)
    groups = _filled(context, found, generate.training_candidates(context, round))
    judges = judging(context, found, settings, groups)
    return _judged("judge", judges, loads=int(needs_model(settings)))


def _resample(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("resample", len(_drawn(context, found, round)) * context.config.generate.candidates)


def _pair(context: RunContext, found: Preflight, round: int) -> StageWork:
    return StageWork("pair", len(_drawn(context, found, round)) * _made(context, round)[0])


def _made(context: RunContext, round: int) -> tuple[int, int]:
    """(rows that a prompt gives at most, answers in a row) of what the round's builder makes."""
    config, settings = context.config, context.config.builder(round)
    going_on = min(config.generate.candidates, getattr(config.resample, "accept", config.generate.candidates))
    makes = getattr(find("pair", settings.id).load(), "makes", "pairs")
    at_most = getattr(settings, "at_most", None)
    rows = going_on if makes == "labels" else at_most(going_on) if at_most else 1
    return rows, {"pairs": 2, "labels": 1, "rankings": going_on}.get(makes, 1)


def _meta_judge(context: RunContext, found: Preflight, round: int) -> StageWork:
    """Every two judgements of a candidate in both orders; at most, as judgements without a score take no part."""
    settings, candidates = context.config.meta, len(_drawn(context, found, round)) * context.config.generate.candidates
    written = [judge.written for judge in meta_judge.writing_judges(context, round)]
    comparisons = min(candidates, settings.candidates) * sum(n * (n - 1) for n in written)
    text = settings.max_tokens * MEAN_ANSWER_SHARE
    shown = found.mean_prompt_tokens + _mean_tokens(generate.training_candidates(context, round)) + 2 * text
    sampled = comparisons * text if settings.mode == "text" else 0
    return StageWork("meta_judge", comparisons, sampled=_int(sampled), read=_int(comparisons * shown), loads=1)


def _lessons(context: RunContext, found: Preflight, round: int) -> StageWork:
    rows, _ = _taught(context, found, round)
    return StageWork("lessons", rows)


def _train(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = context.config.trainer(round)
    alone = find("train", settings.id).load().needs == "completions"
    tokens: float
    if context.config.teaches(round):
        rows, tokens = _taught(context, found, round)
    else:
        # As many prompts are drawn for every round.
        prompts = min(context.config.prompts.per_round, len({prompt.prompt_id for prompt in found.training}))
        taken = {round: 1.0, **replay.shares(context, round)}
        a_prompt = {made: _made(context, made)[0] for made in taken if not context.config.teaches(made)}
        rows, answers = sum(_int(taken[made] * prompts * n) for made, n in a_prompt.items()), _made(context, round)[1]
        answer = _mean_tokens(generate.training_candidates(context, round))
        tokens = rows * (1 if alone else answers) * (found.mean_prompt_tokens + answer)
    # What is compared is read once more by the reference, and once by M_t for the figures.
    read = 0 if alone else 2 * tokens
    return StageWork(
        "train", rows, read=_int(read), trained=_int(tokens * getattr(settings, "epochs", 1.0)), loads=1
    )  # fmt: skip


def _log_ratio(context: RunContext, found: Preflight, round: int) -> StageWork:
    sampling = generate.held_out_answers(context, round)
    read = len(found.held_out) * sampling.samples * (found.mean_prompt_tokens + _mean_tokens(sampling))
    return StageWork("log_ratio", 1, read=_int(read), loads=1)


def _compare(context: RunContext, found: Preflight, round: int) -> StageWork:
    settings = context.config.evaluate.win_rate
    assert settings is not None, "rounds.py leaves this stage out without settings"
    prompts = held_out_judge.draw(found.held_out, settings.prompts, context.config.seed, "compare")
    sampling = generate.held_out_answers(context, round)
    engine = _engine(context, found)
    duels = [
        _candidates(engine, prompt, 2, _mean_tokens(sampling))
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
    engine = _engine(context, found)
    # Answers of M_0 and of M_t, one by one.
    answers = [
        [answer]
        for prompt in prompts
        for answer in _candidates(engine, prompt, 2 * sampling.samples, _mean_tokens(sampling))
    ]
    # By M_0's judge and by M_t's, which are one where the judge has no model.
    times = 2 if needs_model(settings.judge) else 1
    judges = [_times(times, judge) for judge in judging(context, found, settings.judge, answers)]
    return _judged("drift", judges, loads=times if needs_model(settings.judge) else 0)


def _capability(context: RunContext, found: Preflight, round: int) -> StageWork:
    engine = _engine(context, found)
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
    engine = _engine(context, found)
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


# -- what is taught ---------------------------------------------------------------------------------------


def _taught(context: RunContext, found: Preflight, round: int) -> tuple[int, int]:
    """(lessons, their tokens) of a round that teaches."""
    settings, seed, engine = context.config.teach, context.config.seed, _engine(context, found)
    judge = lessons.teachable(context, round)
    gold = lessons.teach_items(context)
    known = {"gold": [(*as_judge_items(item, round), item.key) for item in gold]}
    if settings.verified:
        half_good = [
            ScoredGroup(group[0].prompt, tuple(
                ScoredCandidate(item.candidate, float(number % 2), 1, {"ok": 1}) for number, item in enumerate(group)
            ), judge.name)
            for group in _filled(context, found, generate.training_candidates(context, round))
            if group[0].prompt.instruction_id_list
        ]  # fmt: skip
        pairs = lessons.verified_pairs(half_good, derive_seed(seed, round, "verified_pairs"))
        known["verified"] = pairs[: settings.verified_pairs]

    def tokens(made: Sequence[Lesson]) -> int:
        return sum(
            len(engine.encode_prompt(json.loads(one.messages), one.answer_prefix)) + len(engine.encode_text(one.answer))
            for one in made
        )

    rows, size = 0.0, 0.0
    for source, pairs in known.items():
        tried = pairs[:: max(1, len(pairs) // _SAMPLE)]
        made = lessons.verdicts(judge, {source: tried}, round)
        rows += len(made) * len(pairs) / max(1, len(tried))
        size += tokens(made) * len(pairs) / max(1, len(tried))
    count = lessons.wanted(_int(rows), settings.instruction_share)
    instructions = lessons.instruction_lessons(gold, count, round, context.config.generate.system_prompt, seed)
    return _int(rows) + len(instructions), _int(size) + tokens(instructions)


# -- filler -----------------------------------------------------------------------------------------------


def _engine(context: RunContext, found: Preflight) -> CountingEngine:
    _, settings = concrete(own_engine(context.config.generate.engine), context.config, found.model.parameters)
    limits = {name: getattr(settings, name) for name in ("max_rows", "token_budget") if hasattr(settings, name)}
    return CountingEngine(
        found.model.context_length, found.characters_a_token, found.extra_tokens, MEAN_ANSWER_SHARE, **limits
    )


def _drawn(context: RunContext, found: Preflight, round: int) -> Sequence[Prompt]:
    """The prompts of ``round``; held-out ones are those of round 0."""
    if round == 0:
        return found.held_out
    return draw(found.training, context.config.prompts.per_round, round, context.config.seed)


def _mean_tokens(sampling: generate.Sampling) -> float:
    return sampling.params.max_tokens * MEAN_ANSWER_SHARE


def _filled(context: RunContext, found: Preflight, sampling: generate.Sampling) -> list[list[JudgeItem]]:
    engine = _engine(context, found)
    return [
        _candidates(engine, prompt, sampling.samples, _mean_tokens(sampling))
        for prompt in _drawn(context, found, sampling.prompt_round)
    ]


def _candidates(engine: CountingEngine, prompt: Prompt, number: int, tokens: float) -> list[JudgeItem]:
    """Candidates of a prompt as long as answers are expected to be, each with a text of its own."""
    size = max(1, round(tokens))
    return [
        JudgeItem(
            prompt,
            Candidate(
                f"{prompt.prompt_id}-{i}", prompt.prompt_id, prompt.round, prompt.split, i, "", engine.name, 0.0, 1.0, 0,
                size, i, engine.filler(size, i), (), size, 0, "stop", None, 0.0,
            ),
        )
        for i in range(number)
    ]  # fmt: skip


def _int(value: float) -> int:
    return round(value)

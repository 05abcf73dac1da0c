"""Stage ``calibrate``: the run's judge, with M_t's weights, is held against gold items.

Its judgements go to ``gold_judgements``, its figures to ``evaluations`` with split ``gold_test`` (or
``gold_calibrate``); those of a composite judge's members with split ``gold_test/NAME-HASH``. What a judgement costs
in time differs from run to run and is an event of kind ``judge_cost``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from selfalign.calibration.figures import JudgeFigures, measure
from selfalign.calibration.mapping import Fit
from selfalign.calibration.report import evaluation_rows
from selfalign.calibration.verdicts import JudgeIdentity
from selfalign.config import RunConfig
from selfalign.errors import PromptFileError, WeightsNotKept
from selfalign.gold.items import GoldItem, as_judge_items, load_gold
from selfalign.identity import canonical, content_id, derive_seed
from selfalign.judges.nested import judges_in
from selfalign.sources.files import find_file
from selfalign.stages.context import Model, RunContext
from selfalign.stages.jobs import JobFolder
from selfalign.stages.judge import Cost, judge_batches, judge_spec, needs_model, without_model
from selfalign.stages.ledger import StageOutcome
from selfalign.stages.supervise import collect, supervise
from selfalign.types import Candidate, Event, GoldJudgement, GoldSplit, JudgeItem, Judgement, Prompt

COST = "judge_cost"


def enabled(config: RunConfig) -> bool:
    """Whether rounds measure their judge."""
    if config.judge is None:
        return False
    wanted = config.calibrate.enabled
    return wanted == "always" or (wanted == "auto" and needs_model(config.judge))


def run_items(context: RunContext) -> list[GoldItem]:
    """The gold items that every round of this run is measured on."""
    settings = context.config.calibrate
    return read_once(context, settings.gold, settings.split, settings.items)


def read_once(context: RunContext, path: str, split: GoldSplit, limit: int | None) -> list[GoldItem]:
    """:func:`gold_items` of this run; its config names one file and limit for each split."""
    if split not in context.gold:
        context.gold[split] = gold_items(path, split, limit, context.config.seed)
    return context.gold[split]


def gold_items(path: str, split: GoldSplit, limit: int | None, seed: int) -> list[GoldItem]:
    """Items of one split in order of key: a seeded sample of ``limit``, or all.

    Raises:
        PromptFileError: no such file, a line of it is wrong, or the split is empty.
    """
    file = find_file(path, Path.cwd())
    items = load_gold(file, (split,))
    if not items:
        raise PromptFileError(f"{file}: holds no items of split '{split}'; add some, or name another split")
    items.sort(key=lambda item: derive_seed(seed, "gold", item.key))
    return sorted(items[:limit], key=lambda item: item.key)


def gold_hash(items: Sequence[GoldItem]) -> str:
    """Identity of a set of gold items: all that a judge is shown and all that its figures are grouped by."""
    return content_id("gold_set", sorted(canonical({f.name: getattr(i, f.name) for f in fields(i)}) for i in items))


def fingerprint(context: RunContext, round: int) -> str:
    settings = context.config.judge
    # M_t as it was trained: a round's measurement outlives its weights.
    weights = context.weights(round).original_hash if needs_model(settings) else None
    judge = without_model(context, round, settings)
    return content_id("calibrate", judge.judge_hash, weights, context.config.seed, gold_hash(run_items(context)))


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    settings, items = context.config.judge, run_items(context)
    try:
        judge_gold(context, round, settings, items, fingerprint)
    except WeightsNotKept as error:
        # A round of long ago, measured for the first time: no reason to stop the rounds to come.
        return StageOutcome(2 * len(items), 0, f"M{round} was not measured: {error}")
    split = f"gold_{context.config.calibrate.split}"
    rows, own = [], None
    for figures in judge_figures(context, round, settings, items):
        own = own or figures
        place = split if figures is own else member_split(split, figures.judge)
        rows += evaluation_rows(figures, context.config.name, round, place, {"gold": gold_hash(items)})
    context.store.insert(rows)
    assert own is not None
    return StageOutcome(2 * len(items), len(rows), f"judging by M{round}: {in_words(own)}")


def member_split(split: str, judge: JudgeIdentity) -> str:
    """Split of the figures of a judge that is not the run's own."""
    return f"{split}/{judge.name}-{judge.judge_hash[:8]}"


def in_words(figures: JudgeFigures) -> str:
    accuracy = figures.accuracy
    if accuracy.value is None:
        return f"the judge applies to none of {figures.skipped} gold items"
    interval = f" [{accuracy.low:.3f}, {accuracy.high:.3f}]" if None not in (accuracy.low, accuracy.high) else ""
    return (
        f"{accuracy.value:.3f}{interval} of {figures.n} gold items right, {figures.results['tie']} ties, "
        f"{figures.results['invalid']} invalid"
    )


def judge_gold(context: RunContext, round: int, settings: Any, items: Sequence[GoldItem], job: str) -> None:
    """Have every item judged by M_round and the judge of ``settings``; what the store has already is not made again.

    ``job`` names the work's folder: the same for the same work.

    Raises:
        WeightsNotKept: the judge needs weights that are not there any more.
    """
    folder = context.job(round, "calibrate", job)
    collect(folder, context)
    shown = _shown(items, round)
    wanted = {item.candidate.candidate_id for item in shown}
    judge = without_model(context, round, settings)
    model = _model(context, round) if needs_model(settings) else None
    weights = model.weights_hash if model else None
    done = {row.candidate_id for row in _stored(context, round, judge.judge_hash, weights)}
    if not wanted <= done:
        spec = {
            "kind": "calibrate", "gold": _places(items), **judge_spec(context, round, settings, model, wanted & done)
        }  # fmt: skip
        inputs: dict[str, Sequence[Any]] = {
            "prompts": list({item.prompt.prompt_id: item.prompt for item in shown}.values()),
            "candidates": [item.candidate for item in shown],
        }
        supervise(folder, spec, inputs, context=context, label=f"round {round} calibrate")
    folder.remove()


def judge_figures(
    context: RunContext, round: int, settings: Any, items: Sequence[GoldItem], mapping: Mapping[str, Fit] | None = None
) -> list[JudgeFigures]:
    """Figures of the judge of ``settings`` from the store, then those of its members, if it has any.

    ``mapping``: judge_hash -> fit on other items, for the calibration error.
    """
    rows = judgements(context, round, items)
    known = mapping or {}
    return [
        measure(items, rows, identity, known.get(identity.judge_hash))
        for identity in identities(context, round, settings)
    ]


def judgements(context: RunContext, round: int, items: Sequence[GoldItem]) -> list[Judgement]:
    """What the store has on ``items`` by M_round."""
    wanted = {item.candidate.candidate_id for item in _shown(items, round)}
    rows = context.store.rows(GoldJudgement, "round = ?", (round,))
    names = [field.name for field in fields(Judgement)]
    return [Judgement(**{name: getattr(row, name) for name in names}) for row in rows if row.candidate_id in wanted]


def identities(context: RunContext, round: int, settings: Any) -> list[JudgeIdentity]:
    """The judge of ``settings``, then those that it is made of.

    A judge made of others returns their rows as well (protocols.Judge), so that each can be measured by itself.
    """
    judges = [without_model(context, round, part) for part in judges_in(settings)]
    found = [JudgeIdentity(j.name, j.judge_hash, j.min_valid_votes, j.score_range) for j in judges]
    return list({identity.judge_hash: identity for identity in found}.values())


def cost(context: RunContext, round: int, judge_hash: str) -> Cost | None:
    """What judging took when it was last done; None where nothing was."""
    found = context.store.rows(Event, "event_id = ?", (_cost_id(round, judge_hash),))
    return Cost(**json.loads(found[0].detail)) if found else None


def _model(context: RunContext, round: int) -> Model:
    model = context.model(round)
    if model.absent or model.original_hash != model.weights_hash:
        raise WeightsNotKept(model.absent or f"only an approximation of M{round} is left")
    return model


def _stored(context: RunContext, round: int, judge_hash: str, weights_hash: str | None) -> list[GoldJudgement]:
    return context.store.rows(
        GoldJudgement, "round = ? and judge_hash = ? and weights_hash is not distinct from ?",
        (round, judge_hash, weights_hash),
    )  # fmt: skip


def _shown(items: Sequence[GoldItem], round: int) -> list[JudgeItem]:
    """Both answers of every item, each once: equal items of two keys are one."""
    found = {shown.candidate.candidate_id: shown for item in items for shown in as_judge_items(item, round)}
    return [found[name] for name in sorted(found)]


def _places(items: Sequence[GoldItem]) -> dict[str, list[str]]:
    """candidate_id -> (key, split); of equal items the first key."""
    found: dict[str, list[str]] = {}
    for item in items:
        for shown in as_judge_items(item, 0):
            found.setdefault(shown.candidate.candidate_id, [item.key, item.split])
    return found


def _cost_id(round: int, judge_hash: str) -> str:
    return content_id("event", round, "calibrate", COST, judge_hash)


# -- in the stage process -----------------------------------------------------------------------


def work(folder: JobFolder) -> None:
    spec = folder.spec()
    places: dict[str, list[Any]] = spec["gold"]
    prompts = {p.prompt_id: p for p in folder.rows("prompts", Prompt)}
    items = [JudgeItem(prompts[c.prompt_id], c) for c in folder.rows("candidates", Candidate)]

    def as_rows(found: list[Judgement]) -> list[GoldJudgement]:
        return [_gold_row(judgement, *places[judgement.candidate_id]) for judgement in found]

    cost = judge_batches(folder, "calibrate", items, as_rows)
    if cost.judgements:
        message = f"{1000 * cost.seconds / cost.judgements:.1f} ms a judgement, the loading of the model aside"
        event = Event(
            _cost_id(spec["round"], cost.judge_hash), spec["round"], "calibrate", COST, cost.judge_hash, message,
            canonical(asdict(cost)),
        )  # fmt: skip
        folder.emit(len(items), [event])  # there are at most as many batches


def _gold_row(judgement: Judgement, key: str, split: GoldSplit) -> GoldJudgement:
    values = {field.name: getattr(judgement, field.name) for field in fields(Judgement)}
    # A judge without a model says the same in every round; each round has its own rows.
    identity = content_id("gold_judgement", judgement.judgement_id, judgement.round)
    return GoldJudgement(**{**values, "judgement_id": identity}, gold_key=key, split=split)

"""Stage ``lessons``: what a round that teaches the judge trains on.

Evaluation fine-tuning (EFT) of Self-Rewarding Language Models (arXiv 2401.10020), section 2.1, with verdicts
that need no judge: gold items, and candidates of this round of which one follows all of its prompt's
constraints and another does not. Instructions with good answers are mixed in (IFT).
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from selfalign.errors import ConfigError, EmptyStage
from selfalign.gold.items import GoldItem, as_judge_items
from selfalign.identity import content_id, derive_seed
from selfalign.protocols import Judge, TeachableJudge
from selfalign.stages.calibrate import read_once
from selfalign.stages.context import RunContext
from selfalign.stages.conversations import messages_for
from selfalign.stages.judge import scored_groups, without_model
from selfalign.stages.ledger import StageOutcome, upstream
from selfalign.types import Exercise, JudgeItem, Lesson, Message, ScoredGroup

#: For judges that may or may not have something to be taught.
_PROBE = GoldItem("", "teach", "", "en", "Say yes.", "Yes.", "No.", "", (), "[]")
#: Better, worse, and what the pair is known by.
KnownPair = tuple[JudgeItem, JudgeItem, str]


def fingerprint(context: RunContext, round: int) -> str:
    settings = context.config.teach
    return content_id(
        "lessons", upstream(context, round, "judge") if settings.verified else None, context.config.seed,
        without_model(context, round, context.config.judge).judge_hash, context.config.generate.system_prompt,
        [[i.key, i.prompt, i.better, i.worse] for i in teach_items(context)],
        settings.model_dump(mode="json", include={"verified_pairs", "instruction_share"}),
    )  # fmt: skip


def run(context: RunContext, round: int, fingerprint: str) -> StageOutcome:
    settings, seed = context.config.teach, context.config.seed
    judge = teachable(context, round)
    gold = teach_items(context)
    known = known_pairs(context, round, gold, scored_groups(context, round) if settings.verified else ())
    lessons = verdicts(judge, known, round)
    if not lessons:
        raise EmptyStage(
            f"round {round}: nothing to teach the judge from (no gold items, and no prompt of which one candidate follows "
            f"all constraints and another does not); set teach.gold, or ask for more candidates"
        )
    instructions = instruction_lessons(
        gold, wanted(len(lessons), settings.instruction_share), round, context.config.generate.system_prompt, seed
    )
    context.store.insert([*lessons, *instructions])
    counts = ", ".join(f"{len(pairs)} {source} pairs" for source, pairs in known.items())
    return StageOutcome(
        len(gold) + len(known.get("verified", ())), len(lessons) + len(instructions),
        f"{len(lessons)} verdicts of judge '{judge.name}' from {counts}, and {len(instructions)} instructions",
        {"judge": len(lessons), "instruction": len(instructions)},
    )  # fmt: skip


def known_pairs(
    context: RunContext, round: int, gold: Sequence[GoldItem], groups: Sequence[ScoredGroup]
) -> dict[str, list[KnownPair]]:
    """Pairs whose better side is known, by source: ``gold`` items, and ``groups`` that constraints have scored."""
    settings = context.config.teach
    found = {"gold": [(*as_judge_items(item, round), item.key) for item in gold]}
    if settings.verified:
        pairs = verified_pairs(groups, derive_seed(context.config.seed, round, "verified_pairs"))
        found["verified"] = pairs[: settings.verified_pairs]
    return found


def verdicts(judge: _Teachable, known: Mapping[str, Sequence[KnownPair]], round: int) -> list[Lesson]:
    """The judge's exercises on pairs whose better side is known, by source."""
    return [
        lesson
        for source, pairs in known.items()
        for better, worse, subject in pairs
        for lesson in judge_lessons(judge, judge.exercises(better, worse), round, source, subject)
    ]


class _Teachable(Judge, TeachableJudge): ...


def teachable(context: RunContext, round: int) -> _Teachable:
    """The run's own judge.

    Raises:
        ConfigError: it has nothing that could be taught.
    """
    judge = without_model(context, round, context.config.judge)
    if not isinstance(judge, TeachableJudge) or not judge.exercises(*as_judge_items(_PROBE, round)):
        raise ConfigError(
            f"teach.rounds: judge '{judge.name}' cannot be taught, as it has no model or no verdict to learn; use "
            f"rubric_logits or pairwise, alone or as a member of weighted"
        )
    return judge  # type: ignore[return-value]


def teach_items(context: RunContext) -> list[GoldItem]:
    """The gold set's teach split, or a seeded sample of it, in order of key.

    Raises:
        PromptFileError: no such file, or something is wrong in it.
    """
    settings = context.config.teach
    if settings.gold is None:
        return []
    return read_once(context, settings.gold, "teach", settings.gold_items)


def verified_pairs(groups: Sequence[ScoredGroup], seed: int) -> list[KnownPair]:
    """Of each prompt, candidates that follow all constraints (score 1) matched with as many that do not.

    Each candidate is in one pair at most, so that both verdicts are equally frequent; order and partners
    are drawn by ``seed``.
    """
    found: list[KnownPair] = []
    for members in groups:
        good: list[JudgeItem] = []
        bad: list[JudgeItem] = []
        for scored in members.candidates:
            if scored.score is not None:
                (good if scored.score == 1 else bad).append(JudgeItem(members.prompt, scored.candidate))
        drawn = random.Random(derive_seed(seed, members.prompt.prompt_id))
        drawn.shuffle(good)
        drawn.shuffle(bad)
        found += [(g, b, g.candidate.candidate_id) for g, b in zip(good, bad, strict=False)]
    random.Random(seed).shuffle(found)
    return found


def judge_lessons(judge: Judge, exercises: Sequence[Exercise], round: int, source: str, subject: str) -> list[Lesson]:
    """Exercises as rows; a verdict is a token or two and need not be ended."""
    return [
        _lesson(
            round, "judge", source, subject, judge.name, judge.judge_hash, exercise.messages, exercise.answer_prefix,
            exercise.answer, ends=False,
        )
        for exercise in exercises
    ]  # fmt: skip


def instruction_lessons(
    gold: Sequence[GoldItem], count: int, round: int, system_prompt: str | None, seed: int
) -> list[Lesson]:
    """``count`` prompts of the gold set with their better answers, or as many as there are; one answer a prompt."""
    answers: dict[str, list[GoldItem]] = defaultdict(list)
    for item in gold:
        answers[item.prompt].append(item)
    order = sorted(answers, key=lambda prompt: derive_seed(seed, "instructions", prompt))
    return [
        _lesson(
            round, "instruction", "gold", answers[prompt][0].key, "", "", messages_for(prompt, system_prompt), "",
            answers[prompt][0].better, ends=True,
        )
        for prompt in order[:count]
    ]  # fmt: skip


def wanted(judgements: int, share: float) -> int:
    """How many instructions make up ``share`` of all examples beside ``judgements``."""
    return math.ceil(judgements * share / (1 - share))


def _lesson(
    round: int, kind: str, source: str, subject: str, judge: str, judge_hash: str, messages: Sequence[Message],
    answer_prefix: str, answer: str, *, ends: bool,
) -> Lesson:  # fmt: skip
    shown = json.dumps([dict(message) for message in messages], ensure_ascii=False)
    return Lesson(
        lesson_id=content_id("lesson", round, kind, source, subject, judge_hash, shown, answer_prefix, answer),
        round=round, kind=kind, source=source, subject_id=subject, judge=judge, judge_hash=judge_hash,  # type: ignore[arg-type]
        messages=shown, answer_prefix=answer_prefix, answer=answer, ends=ends, weight=1.0,
    )  # fmt: skip

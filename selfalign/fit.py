"""Whether what a run samples, judges, builds and trains on fits together: known from its config alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfalign.by_round import at
from selfalign.registry import find, plugins

#: What a trainer needs (a field of TrainingJob) -> what a builder may make for it. Completions are the good answers
#: of anything: chosen sides, wanted ones, the best of a list.
_FEEDS: Mapping[str, tuple[str, ...]] = {
    "pairs": ("pairs",),
    "labels": ("labels",),
    "rankings": ("rankings",),
    "completions": ("pairs", "labels", "rankings"),
}


def reads(pair: Any) -> frozenset[str]:
    """What the builder of ``pair`` (its Config) cannot do without: see protocols.PairBuilder."""
    builder = find("pair", pair.id).load()
    return frozenset(builder.reads(pair)) if hasattr(builder, "reads") else frozenset({"scores"})


def at_most(pair: Any, candidates: int) -> float:
    """Rows that the builder of ``pair`` (its Config) makes of a prompt with so many candidates: see protocols.PairBuilder."""
    builder = find("pair", pair.id).load()
    return builder.at_most(pair, candidates) if hasattr(builder, "at_most") else 1


def misfits(config: Any) -> Iterator[str]:
    """What of a RunConfig does not fit together, one line each with what to change."""
    for round in config.different_rounds():
        pair, train = at(config.pair, round), at(config.train, round)
        yield from _judge(config, pair)
        yield from _candidates(config, pair, train)
        yield from _trainer(pair, train)
        yield from _resampler(config, pair)
        yield from _policy(config, round)
    yield from _engine(config)
    yield from _preferences(config)


def _judge(config: Any, pair: Any) -> Iterator[str]:
    if config.judge is not None:
        return
    if "scores" in reads(pair):
        yield f"judge: null, but pair: {pair.id} needs scores; name a judge"
    if config.resample is not None:
        yield "judge: null, but resample needs scores; name a judge or leave resample out"
    if config.teach.rounds:
        yield "judge: null, but teach.rounds teaches the judge; name one"
    if config.calibrate.enabled == "always":
        yield "judge: null, but calibrate.enabled: always measures it; name one, or leave calibrate out"


def _candidates(config: Any, pair: Any, train: Any) -> Iterator[str]:
    needed, settings, name = reads(pair), config.generate, pair.id
    if "demonstrations" in needed and not settings.demonstrations:
        yield f"pair: {name} needs generate.demonstrations: true, and prompts with an answer"
    if "contrast" in needed and settings.contrast is None:
        yield f"pair: {name} needs generate.contrast: {{positive: FILE, negative: FILE}}"
    if settings.contrast is not None and settings.candidates % 2:
        yield "generate.candidates must be even with generate.contrast: half of them are for each side"
    alone = settings.candidates < 2 and not settings.demonstrations
    if alone and getattr(find("pair", name).load(), "makes", "pairs") != "labels" and train.id != "sft":
        yield "generate.candidates must be at least 2: a pair has two sides"


def _trainer(pair: Any, train: Any) -> Iterator[str]:
    builder, trainer = find("pair", pair.id).load(), find("train", train.id).load()
    needed = getattr(trainer, "needs", "pairs")
    fitting = _FEEDS.get(needed, (needed,))
    makes = getattr(builder, "makes", "pairs")
    if makes not in fitting:
        others = [plugin.name for plugin in plugins("pair") if getattr(plugin.load(), "makes", "pairs") in fitting]
        yield (
            f"train: {train.id} needs {needed}, and pair: {pair.id} makes {makes}; "
            f"builders of {needed}: {', '.join(others) or 'none is installed'}"
        )
    elif needed == "labels" and getattr(builder, "only_desirable", False):
        yield (
            f"train: {train.id} needs answers that are wanted and answers that are not, and "
            f"pair: {pair.id} marks only wanted ones; use threshold_labels, or train: sft"
        )
    reads_columns = {column for loss in getattr(train, "losses", tuple)() for column in loss.reads()}
    if "smoothing" in reads_columns and getattr(pair, "strength", None) is None:
        yield "train.label_smoothing: pair needs pair.strength, which records it; set pair.strength: {}"


def _resampler(config: Any, pair: Any) -> Iterator[str]:
    accept, candidates = getattr(config.resample, "accept", None), config.generate.candidates
    if accept is None:
        return
    keeps_all = getattr(config.resample, "keeps_all_of", None)
    if keeps_all is not None and keeps_all(candidates):
        yield (
            f"resample.accept: {accept} of generate.candidates {candidates} are all of them; sample more candidates "
            f"a prompt (RSO: 64), or accept fewer"
        )
    if accept < 2 and getattr(find("pair", pair.id).load(), "makes", "pairs") == "pairs":
        yield "resample.accept must be at least 2: a pair has two sides"


def _policy(config: Any, round: int) -> Iterator[str]:
    # In round 1 the base is the model before; what is no list holds from then on.
    later = round > 1 or len(config.different_rounds()) == 1
    trainers = [config.train, *([config.teach.train] if config.teach.rounds else [])]
    stacks = any(getattr(getattr(at(one, round), "lora", None), "chain", None) == "stack" for one in trainers)
    if stacks and later and config.policy_in(round).start == "base":
        yield (
            "policy.start: base begins every round with M_0, and train.lora.chain: stack goes on with the adapter of the "
            "round before; set one of them otherwise"
        )


def _preferences(config: Any) -> Iterator[str]:
    if config.preferences and not any(0 in config.earlier(round) for round in range(1, config.rounds + 1)):
        yield (
            "preferences: no round trains on them, as policy.data says; set it to all, or to {last: ROUNDS} or {replay: "
            "[SHARE, ...]} that reach back to round 0"
        )


def _engine(config: Any) -> Iterator[str]:
    engine = config.generate.engine
    if getattr(engine, "off_policy", True) is False:
        yield (
            f"generate.engine: {engine.id} samples from a server, whose weights nobody can hash, so that a round's answers "
            f"would not be shown to be its policy's; set off_policy: true to train on that model's answers instead, or use "
            f"an engine that loads the weights"
        )
    if hasattr(engine, "off_policy") and config.generate.demonstrations:
        yield (
            f"generate.demonstrations needs the policy's log-probabilities of them while candidates are sampled, and "
            f"generate.engine: {engine.id} has only a server's; leave demonstrations out, or use another engine"
        )

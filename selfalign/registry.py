"""Plug-ins by name: kind -> name -> where it lives, its config and a line for people.

Built-ins are listed here by dotted path, so that looking a name up imports one module and listing
them imports none. Other packages add theirs through the entry-point group ``selfalign.plugins``
(each entry point is a function that calls :func:`register`).
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from selfalign.errors import ConfigError

KINDS = ("engine", "prompts", "judge", "resample", "pair", "train", "evaluate", "gate")


@dataclass(frozen=True)
class Plugin:
    """``target`` is "module:attribute" of a class built as ``cls(config, ...)`` with a ``Config`` inner model."""

    kind: str
    name: str
    target: str
    summary: str
    source: str = ""

    def load(self) -> Any:
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


_BUILTIN = (
    Plugin(
        "engine",
        "transformers",
        "selfalign.engines.transformers_engine:TransformersEngine",
        "Hugging Face transformers with shared prompt KV and per-sample seeds",
    ),
    Plugin(
        "prompts",
        "jsonl",
        "selfalign.sources.jsonl:JsonlSource",
        "one JSON object a line, optionally with if-verifiable constraints",
    ),
    Plugin(
        "judge",
        "verifier",
        "selfalign.judges.verifier:VerifierJudge",
        "checks machine-checkable constraints",
        "IFEval, arXiv 2311.07911",
    ),
    Plugin(
        "judge",
        "rubric_votes",
        "selfalign.judges.rubric_votes:RubricVotesJudge",
        "rubric answered k times, mean over valid votes",
        "Self-Rewarding, arXiv 2401.10020",
    ),
    Plugin(
        "judge",
        "rubric_logits",
        "selfalign.judges.rubric_logits:RubricLogitsJudge",
        "rubric read from logits as an expected score, one forward pass",
        "G-Eval, arXiv 2303.16634",
    ),
    Plugin(
        "judge",
        "pairwise",
        "selfalign.judges.pairwise:PairwiseJudge",
        "candidates of a prompt compared in both orders",
        "MT-Bench, arXiv 2306.05685",
    ),
    Plugin(
        "judge",
        "reference",
        "selfalign.judges.reference:ReferenceJudge",
        "rubric that also shows a reference answer",
        "MT-Bench, arXiv 2306.05685",
    ),
    Plugin(
        "judge",
        "critique",
        "selfalign.judges.critique:CritiqueJudge",
        "lists the problems first, then scores",
        "CriticGPT, arXiv 2407.00215",
    ),
    Plugin(
        "judge",
        "length",
        "selfalign.judges.length:LengthJudge",
        "another judge's score with a length penalty or band",
        "RLHFlow, arXiv 2405.07863",
    ),
    Plugin(
        "judge",
        "openai",
        "selfalign.judges.openai_chat:OpenAIJudge",
        "rubric answered by a model behind any OpenAI-compatible endpoint, by votes or top log-probabilities",
    ),
    Plugin("judge", "weighted", "selfalign.judges.weighted:WeightedJudge", "weighted mean of several judges on [0, 1]"),
    Plugin(
        "judge",
        "jury",
        "selfalign.judges.jury:JuryJudge",
        "several judges or models: mean, median or majority, weighted by calibration, disagreement kept",
        "PoLL, arXiv 2404.18796",
    ),
    Plugin(
        "judge",
        "reward_model",
        "selfalign.judges.reward_model:RewardModelJudge",
        "a trained reward model's reward, put on [0, 1]",
        "InstructGPT, arXiv 2203.02155",
    ),
    Plugin(
        "resample",
        "rso",
        "selfalign.resampling.rso:RSOResampler",
        "statistical rejection sampling: candidates as the optimal policy would have sampled them",
        "RSO, arXiv 2309.06657",
    ),
    Plugin(
        "resample",
        "top_k",
        "selfalign.resampling.top_k:TopKResampler",
        "the best candidates of each prompt",
        "RAFT, arXiv 2304.06767",
    ),
    Plugin(
        "resample",
        "threshold",
        "selfalign.resampling.threshold:ThresholdResampler",
        "every candidate above a threshold, scores put on [0, 1]",
        "ReST as in arXiv 2309.06657, section 5",
    ),
    Plugin(
        "pair",
        "max_min",
        "selfalign.pairing.max_min:MaxMinBuilder",
        "best against worst, with a margin",
        "Self-Rewarding, arXiv 2401.10020",
    ),
    Plugin(
        "pair",
        "first_round",
        "selfalign.pairing.first_round:FirstRoundBuilder",
        "disjoint pairs of neighbours in the order of acceptance",
        "RSO, arXiv 2309.06657",
    ),
    Plugin(
        "pair",
        "tournament",
        "selfalign.pairing.tournament:TournamentBuilder",
        "winner over loser of every match of a knock-out tournament",
        "SLiC-HF, arXiv 2305.10425; RSO, arXiv 2309.06657",
    ),
    Plugin("train", "sft", "selfalign.training.sft:SFTTrainer", "supervised fine-tuning on the chosen answers, by TRL"),
    Plugin(
        "train",
        "dpo",
        "selfalign.training.dpo:DPOTrainer",
        "direct preference optimisation, by TRL",
        "arXiv 2305.18290",
    ),
    Plugin(
        "evaluate",
        "pass_rate",
        "selfalign.evaluation.pass_rate:PassRate",
        "constraint pass rates with paired tests against M0 and the previous round",
        "IFEval, arXiv 2311.07911",
    ),
    Plugin("evaluate", "length", "selfalign.evaluation.text:Length", "mean answer length in tokens"),
    Plugin(
        "evaluate",
        "diversity",
        "selfalign.evaluation.text:Diversity",
        "distinct-n of the answers",
        "Li et al., arXiv 1510.03055",
    ),
    Plugin(
        "evaluate",
        "self_bleu",
        "selfalign.evaluation.self_bleu:SelfBleu",
        "BLEU-4 of answers against one another",
        "Texygen, arXiv 1802.01886",
    ),
    Plugin(
        "evaluate",
        "near_duplicates",
        "selfalign.evaluation.near_duplicates:NearDuplicates",
        "share of training texts that nearly repeat those of earlier rounds",
        "MinHash, Broder 1997",
    ),
    Plugin(
        "evaluate",
        "displacement",
        "selfalign.evaluation.displacement:Displacement",
        "how far training moved chosen and rejected answers",
        "Razin et al., arXiv 2410.08847",
    ),
    Plugin(
        "gate",
        "judge_accuracy",
        "selfalign.gates.judge_accuracy:JudgeAccuracyGate",
        "the judge tells better from worse, measured on the gold set",
    ),
    Plugin(
        "gate",
        "pass_rate",
        "selfalign.gates.pass_rate:PassRateGate",
        "the pass rate does not fall beyond noise, against the previous round and M0",
    ),
    Plugin(
        "gate", "length", "selfalign.gates.length:LengthGate", "answers do not grow too fast, in a round and in total"
    ),
    Plugin(
        "gate",
        "displacement",
        "selfalign.gates.displacement:DisplacementGate",
        "training does not push chosen answers down",
        "Razin et al., arXiv 2410.08847",
    ),
    Plugin("gate", "yield", "selfalign.gates.pair_yield:YieldGate", "enough prompts give a pair"),
    Plugin("gate", "saturation", "selfalign.gates.saturation:SaturationGate", "the last rounds improved something"),
    Plugin("gate", "figure", "selfalign.gates.figure:FigureGate", "any figure, or a bound of it, lies within limits"),
)

_plugins: dict[tuple[str, str], Plugin] = {(p.kind, p.name): p for p in _BUILTIN}
_discovered = False


def register(plugin: Plugin) -> None:
    """Add a plug-in; a name that is taken raises ConfigError."""
    key = (plugin.kind, plugin.name)
    if plugin.kind not in KINDS:
        raise ConfigError(f"plug-in {plugin.name}: unknown kind '{plugin.kind}'; known: {', '.join(KINDS)}")
    if key in _plugins and _plugins[key] != plugin:
        raise ConfigError(f"{plugin.kind} '{plugin.name}' is already registered by {_plugins[key].target}")
    _plugins[key] = plugin


def _discover() -> None:
    global _discovered
    if not _discovered:
        _discovered = True
        for entry in entry_points(group="selfalign.plugins"):
            entry.load()()


def plugins(kind: str | None = None) -> list[Plugin]:
    """Every registered plug-in, of one kind if given, in order of kind and name."""
    _discover()
    found = [p for p in _plugins.values() if kind in (None, p.kind)]
    return sorted(found, key=lambda p: (KINDS.index(p.kind), p.name))


def find(kind: str, name: str) -> Plugin:
    """The plug-in of that kind and name.

    Raises:
        ConfigError: unknown name; the message lists the known ones and the nearest.
    """
    _discover()
    if (kind, name) in _plugins:
        return _plugins[kind, name]
    known = sorted(n for k, n in _plugins if k == kind)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"unknown {kind} '{name}'{hint} known: {', '.join(known)}")

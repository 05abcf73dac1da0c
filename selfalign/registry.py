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
        """The class; its module is imported now."""
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
        "engine",
        "vllm",
        "selfalign.engines.vllm_engine:VllmEngine",
        "vLLM in the stage's process: continuous batching, cached prefixes, per-sample seeds",
        "arXiv 2309.06180",
    ),
    Plugin(
        "engine",
        "auto",
        "selfalign.engines.auto:AutoEngine",
        "vllm on a GPU where it is installed, transformers elsewhere; selfalign plan says which and why",
    ),
    Plugin(
        "engine",
        "openai",
        "selfalign.engines.openai_engine:OpenAIEngine",
        "training candidates from another model behind any OpenAI-compatible endpoint (off-policy)",
    ),
    Plugin(
        "prompts",
        "jsonl",
        "selfalign.sources.jsonl:JsonlSource",
        "one JSON object a line, optionally with if-verifiable constraints",
    ),
    Plugin(
        "prompts",
        "csv",
        "selfalign.sources.csv_file:CsvSource",
        "a row each, columns by name; .tsv, other delimiters and encodings as well",
    ),
    Plugin(
        "prompts",
        "parquet",
        "selfalign.sources.parquet:ParquetSource",
        "a row each of a Parquet file or a folder of them, also the first user turn of conversations",
    ),
    Plugin("prompts", "text", "selfalign.sources.text:TextSource", "plain text, a line or a paragraph each"),
    Plugin(
        "prompts",
        "hf",
        "selfalign.sources.hf:HfSource",
        "a Hugging Face dataset: a folder that save_to_disk wrote, or a name on the hub",
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
    Plugin(
        "pair",
        "max_random",
        "selfalign.pairing.rlhflow:MaxRandomBuilder",
        "best against a random other one",
        "RLHFlow, arXiv 2405.07863",
    ),
    Plugin(
        "pair",
        "max_max",
        "selfalign.pairing.rlhflow:MaxMaxBuilder",
        "best against second best",
        "RLHFlow, arXiv 2405.07863",
    ),
    Plugin(
        "pair",
        "max_min_p",
        "selfalign.pairing.rlhflow:MaxMinPenaltyBuilder",
        "best against worst after a price on length",
        "RLHFlow, arXiv 2405.07863",
    ),
    Plugin(
        "pair",
        "length_band",
        "selfalign.pairing.length_band:LengthBandBuilder",
        "shortest of the best tier against longest of the worst, wider by round",
        "Meta-Rewarding, arXiv 2407.19594",
    ),
    Plugin(
        "pair",
        "all_pairs",
        "selfalign.pairing.all_pairs:AllPairsBuilder",
        "every two candidates with a margin, capped",
        "InstructGPT, arXiv 2203.02155",
    ),
    Plugin(
        "pair",
        "slic_rank",
        "selfalign.pairing.all_pairs:SlicRankBuilder",
        "all pairs of m ranked samples",
        "SLiC-HF, arXiv 2305.10425",
    ),
    Plugin(
        "pair",
        "anchored",
        "selfalign.pairing.anchored:AnchoredBuilder",
        "best against worst, both held against absolute scores",
        "DNO, arXiv 2404.03715; Secrets of RLHF II, arXiv 2401.06080",
    ),
    Plugin(
        "pair",
        "spin",
        "selfalign.pairing.known_sides:SpinBuilder",
        "a known good answer against the model's own",
        "SPIN, arXiv 2401.01335",
    ),
    Plugin(
        "pair",
        "rlcd",
        "selfalign.pairing.known_sides:RlcdBuilder",
        "sampled for a positive against sampled for a negative prompt",
        "RLCD, arXiv 2307.12950",
    ),
    Plugin(
        "pair",
        "dno",
        "selfalign.pairing.dno:DnoBuilder",
        "good answers, a teacher's among them, against clearly worse ones",
        "DNO, arXiv 2404.03715",
    ),
    Plugin(
        "pair",
        "sppo",
        "selfalign.pairing.sppo:SppoBuilder",
        "best against worst with win rates as scores",
        "SPPO, arXiv 2405.00675",
    ),
    Plugin(
        "pair",
        "rlp_spg",
        "selfalign.pairing.rlp_spg:RlpSpgBuilder",
        "what most samples say against an outsider",
        "RLP, arXiv 2403.19279",
    ),
    Plugin(
        "pair",
        "threshold_labels",
        "selfalign.pairing.labels:ThresholdLabelsBuilder",
        "answers wanted or not, by thresholds or shares",
        "KTO, arXiv 2402.01306",
    ),
    Plugin(
        "pair",
        "best_of",
        "selfalign.pairing.labels:BestOfBuilder",
        "only the best answers, for fine-tuning",
        "RAFT, arXiv 2304.06767; ReST, arXiv 2308.08998",
    ),
    Plugin(
        "pair",
        "ranking",
        "selfalign.pairing.ranking:RankingBuilder",
        "all scored candidates of a prompt as a list",
        "RRHF, arXiv 2304.05302; PRO, arXiv 2306.17492",
    ),
    Plugin("train", "sft", "selfalign.training.sft:SFTTrainer", "supervised fine-tuning on the good answers, by TRL"),
    Plugin(
        "train",
        "dpo",
        "selfalign.training.pairwise:DPOTrainer",
        "direct preference optimisation, by TRL; with loss: any other of these",
        "arXiv 2305.18290",
    ),
    Plugin(
        "train",
        "kto",
        "selfalign.training.kto:KTOTrainer",
        "wanted and unwanted answers, each by itself, by TRL",
        "arXiv 2402.01306",
    ),
    Plugin(
        "train",
        "rrhf",
        "selfalign.training.listwise:RRHFTrainer",
        "whole rankings: worse answers must not be likelier than better ones",
        "arXiv 2304.05302",
    ),
    Plugin(
        "train",
        "pro",
        "selfalign.training.listwise:PROTrainer",
        "whole rankings: each answer against all worse ones",
        "PRO, arXiv 2306.17492",
    ),
    Plugin(
        "train",
        "cdpo",
        "selfalign.training.pairwise:CDPOTrainer",
        "DPO with smoothed labels, one smoothing for all pairs or each pair's own",
        "Mitchell 2023; Secrets of RLHF II, arXiv 2401.06080",
    ),
    Plugin(
        "train",
        "robust_dpo",
        "selfalign.training.pairwise:RobustDPOTrainer",
        "DPO corrected for a known share of wrong labels",
        "arXiv 2403.00409",
    ),
    Plugin(
        "train",
        "ipo",
        "selfalign.training.pairwise:IPOTrainer",
        "squared distance of log-ratios from a target",
        "arXiv 2310.12036",
    ),
    Plugin(
        "train",
        "sigmoid_norm",
        "selfalign.training.pairwise:SigmoidNormTrainer",
        "DPO on log-ratios a token",
        "Tulu 3, arXiv 2411.15124",
    ),
    Plugin(
        "train",
        "odpo",
        "selfalign.training.pairwise:ODPOTrainer",
        "DPO with an offset by the pair's margin",
        "arXiv 2402.10571",
    ),
    Plugin(
        "train",
        "dpop",
        "selfalign.training.pairwise:DPOPTrainer",
        "DPO that punishes a falling chosen answer",
        "Smaug, arXiv 2402.13228",
    ),
    Plugin(
        "train",
        "rpo",
        "selfalign.training.pairwise:RPOTrainer",
        "DPO and the chosen answer's NLL a token",
        "arXiv 2404.19733",
    ),
    Plugin(
        "train", "sppo", "selfalign.training.pairwise:SPPOTrainer", "log-ratios drawn to win rates", "arXiv 2405.00675"
    ),
    Plugin(
        "train",
        "apo_zero",
        "selfalign.training.pairwise:APOZeroTrainer",
        "chosen up, rejected down: for pairs better than the policy",
        "arXiv 2408.06266",
    ),
    Plugin(
        "train",
        "apo_down",
        "selfalign.training.pairwise:APODownTrainer",
        "both down, rejected more: for pairs worse than the policy",
        "arXiv 2408.06266",
    ),
    Plugin(
        "train",
        "hinge_norm",
        "selfalign.training.pairwise:HingeNormTrainer",
        "hinge of the log-ratios; TRL's hinge",
        "RSO, arXiv 2309.06657",
    ),
    Plugin(
        "train",
        "hinge",
        "selfalign.training.pairwise:HingeTrainer",
        "hinge of the log-probabilities, without reference",
        "RSO, arXiv 2309.06657",
    ),
    Plugin(
        "train",
        "slic",
        "selfalign.training.pairwise:SLiCTrainer",
        "SLiC-HF: hinge of log-probabilities and the chosen answer's, without reference",
        "arXiv 2305.10425",
    ),
    Plugin(
        "train",
        "simpo",
        "selfalign.training.pairwise:SimPOTrainer",
        "log-probabilities a token with a margin, without reference",
        "arXiv 2405.14734",
    ),
    Plugin(
        "train",
        "cpo",
        "selfalign.training.pairwise:CPOTrainer",
        "DPO's loss without reference, and the chosen answers' NLL",
        "arXiv 2401.08417",
    ),
    Plugin(
        "train",
        "orpo",
        "selfalign.training.pairwise:ORPOTrainer",
        "the chosen answers' NLL and an odds ratio, without reference",
        "arXiv 2403.07691",
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

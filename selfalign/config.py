"""One YAML describes a run. It is validated whole before any work starts.

Sections that choose a plug-in carry its name in ``id``; the remaining keys are validated by the
plug-in's own ``Config`` model, so that a typo in a plug-in's setting is found here as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.functional_validators import BeforeValidator

from selfalign.by_round import ByRound, at, by_round, settled
from selfalign.errors import ConfigError
from selfalign.fit import misfits
from selfalign.identity import content_id
from selfalign.registry import find


class Settings(BaseModel):
    """Base of every config model: unknown keys are errors, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class PluginField:
    """Marks a field whose settings are those of a plug-in of ``kind``; without an id, of ``default``."""

    kind: str
    default: str | None

    def model_of(self, value: Any) -> Any:
        """The model that ``value`` is validated by; None where it names no plug-in that there is."""
        name = value.get("id", self.default) if isinstance(value, dict) else value
        try:
            return find(self.kind, name).load().Config if isinstance(name, str) else None
        except ConfigError:
            return None


@dataclass(frozen=True)
class SectionField:
    """Marks a field that holds a section of ``model`` behind a validator of its own."""

    model: type[Settings]

    def model_of(self, value: Any) -> Any:
        """The section's model."""
        return self.model


def plugin_config(kind: str, value: Any, *, lists: bool = False) -> Any:
    """The validated Config of the plug-in that ``value`` (a name, or a mapping with ``id``) describes; see _plugin.

    Raises:
        ValueError: it names none, or its settings are wrong (pydantic's ValidationError is one).
    """
    if isinstance(value, Settings | ByRound):
        return value
    if isinstance(value, str):
        value = {"id": value}
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise ValueError(f"needs an 'id' that names the {kind} to use")
    try:
        plugin = find(kind, value["id"])
    except ConfigError as error:
        raise ValueError(str(error)) from None
    model = plugin.load().Config
    return by_round(model.model_validate, value) if lists else model.model_validate(value)


def _plugin(
    kind: str, default: str | None = None, *, optional: bool = False, lists: bool = False, **preset: Any
) -> Any:
    """A field type that accepts ``{"id": name, ...}`` or just the name, validated by the plug-in's Config.

    Settings without an id are those of ``default``, where ``preset`` holds instead of its Config's own defaults; null
    is taken where it is ``optional``. With ``lists`` any setting may be a list by round (selfalign/by_round.py); ask
    for a round's with :func:`selfalign.by_round.at`.
    """

    def validate(value: Any) -> Any:
        if value is None and optional:
            return None
        if isinstance(value, str):
            value = {"id": value}
        if default and isinstance(value, dict):
            value = {"id": default, **value}
            if value["id"] == default:
                value = {**preset, **value}
        return plugin_config(kind, value, lists=lists)

    return Annotated[Any, BeforeValidator(validate), PluginField(kind, default)]


def _section(model: type[Settings]) -> Any:
    """A field type for a section whose settings may be lists by round; null stays null."""

    def validate(value: Any) -> Any:
        if value is None or isinstance(value, Settings | ByRound):
            return value
        return by_round(model.model_validate, value) if isinstance(value, dict) else model.model_validate(value)

    return Annotated[Any, BeforeValidator(validate), SectionField(model)]


class PromptSettings(Settings):
    """Where instructions come from."""

    sources: list[_plugin("prompts")] = Field(  # type: ignore[valid-type]
        default_factory=lambda: [{"id": "jsonl", "path": "data/seed_prompts.jsonl"}],
        min_length=1,
        description="files of training prompts; data/... is found anywhere",
    )
    held_out: list[_plugin("prompts")] = Field(  # type: ignore[valid-type]
        default_factory=lambda: [{"id": "jsonl", "path": "data/held_out_prompts.jsonl"}],
        min_length=1,
        description="files of prompts that only measure",
    )
    per_round: int = Field(64, ge=1, description="prompts drawn for each round, without repeats while they last")
    only_constrained: bool = Field(False, description="use only prompts that carry checkable constraints")
    languages: list[str] | None = Field(None, description="keep only these languages, e.g. [en]")
    held_out_overlap: float = Field(
        0.7, gt=0, le=1, description="a training prompt whose ROUGE-L F with a held-out prompt exceeds this is refused"
    )
    dedupe: Literal["exact", "normalised", "rouge_l", "embeddings"] | None = Field(
        None,
        description="leave out training prompts that repeat earlier ones; normalised: but for case and punctuation; "
        "rouge_l and embeddings: also those that are near one (docs/prompts.md)",
    )
    dedupe_overlap: float = Field(
        0.7, gt=0, le=1, description="rouge_l: the ROUGE-L F above which prompts are near (Self-Instruct's)"
    )
    dedupe_model: str | None = Field(
        None,
        min_length=1,
        description="embeddings: folder or hub name of a sentence encoder; needs selfalign[embeddings]",
    )
    dedupe_similarity: float = Field(
        0.9, gt=0, le=1, description="embeddings: the cosine from which prompts are near; it depends on the encoder"
    )
    scan: Literal["off", "warn", "drop", "refuse"] = Field(
        "off",
        description="what becomes of prompts that hold personal data or secrets: warn keeps them, drop leaves them out, "
        "refuse ends the start (docs/scan.md)",
    )

    @model_validator(mode="after")
    def _an_encoder_for_embeddings(self) -> PromptSettings:
        if self.dedupe == "embeddings" and self.dedupe_model is None:
            raise ValueError("dedupe: embeddings needs dedupe_model, a folder or hub name of a sentence encoder")
        return self

    @field_validator("scan", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false


class ContrastSettings(Settings):
    """Two prompt files that show an instruction so that answers turn out well and badly (RLCD, arXiv 2307.12950)."""

    positive: str = Field("contrast/helpful", min_length=1, description="name in prompts/, or path of a .j2 file")
    negative: str = Field("contrast/unhelpful", min_length=1, description="name in prompts/, or path of a .j2 file")


class GenerateSettings(Settings):
    """How candidates are sampled."""

    engine: _plugin("engine", "transformers") = Field(  # type: ignore[valid-type]
        default_factory=dict, description="what runs the model, for sampling and for judges (docs/vllm.md)"
    )
    candidates: int = Field(4, ge=1, description="samples a prompt (N)")
    temperature: float = Field(0.7, ge=0, description="0 is greedy")
    top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
    top_k: int = Field(0, ge=0, description="0 is off")
    max_tokens: int = Field(256, ge=1, description="of an answer; longer ones are cut")
    system_prompt: str | None = Field(None, description="shown before every prompt")
    demonstrations: bool = Field(False, description="a prompt's own answer is one more candidate, where it has one")
    contrast: ContrastSettings | None = Field(
        None, description="show training prompts in two ways, half of the candidates each; off by default"
    )


class WinRateSettings(Settings):
    """M_t's held-out answers against earlier models' by a judge."""

    judge: _plugin("judge", "rubric_logits") = Field(  # type: ignore[valid-type]
        default_factory=dict, description="who says which answer is better"
    )
    by: Literal["m0", "current"] = Field("m0", description="whose weights judge: M0's in every round, or M_t's own")
    against: tuple[Literal["previous", "m0"], ...] = Field(
        ("previous", "m0"), min_length=1, description="models whose answers are compared with"
    )
    prompts: int | None = Field(None, ge=1, description="how many held-out prompts; all by default")


class DriftSettings(Settings):
    """The judge of today and that of M0 on the same answers."""

    judge: _plugin("judge", "rubric_logits") = Field(  # type: ignore[valid-type]
        default_factory=dict, description="the judge whose drift is measured"
    )
    prompts: int = Field(64, ge=1, description="how many held-out prompts, drawn once for all rounds")


class EvaluateSettings(Settings):
    """What is measured on held-out prompts after every round."""

    metrics: list[_plugin("evaluate")] = Field(  # type: ignore[valid-type]
        default_factory=lambda: ["pass_rate", "length", "diversity", "self_bleu", "near_duplicates", "displacement"],
        description="figures of the held-out answers and of the round's pairs (docs/evaluation.md)",
    )
    prompts: int | None = Field(None, ge=1, description="how many held-out prompts; all by default")
    samples: int = Field(1, ge=1, description="answers a held-out prompt")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="1 is off")
    max_tokens: int | None = Field(None, ge=1, description="as generate.max_tokens by default")
    log_ratio: bool = Field(True, description="mean log-ratio of M_t to M0 on M_t's held-out answers")
    win_rate: WinRateSettings | None = Field(None, description="win rates against earlier models; off by default")
    drift: DriftSettings | None = Field(None, description="how far the judge has moved from M0's; off by default")
    capability: bool = Field(False, description="log-likelihood of plain text, against forgetting")


class CalibrateSettings(Settings):
    """How the run's judge, with each round's weights, is held against answers whose order is known."""

    enabled: Literal["auto", "always", "never"] = Field("auto", description="auto: where the judge needs a model")
    gold: str = Field("data/gold.jsonl", min_length=1, description="gold items; data/... is found anywhere")
    split: Literal["calibrate", "test"] = Field("test", description="which of its items; never those that teach")
    items: int | None = Field(100, ge=1, description="a seeded sample of this many, the same every round; null: all")


class KeepSettings(Settings):
    """Which checkpoints stay on disk, and in which form, once no round needs their weights any more.

    Weights that a round needs (the newest ones, fork points) are always kept whole, whatever is set here.
    """

    checkpoints: Literal["all", "last", "best"] = Field("all", description="which rounds' weights are kept at all")
    last: int = Field(1, ge=1, description="with checkpoints: last, how many of the newest")
    best: int = Field(1, ge=1, description="with checkpoints: best, how many of the best")
    metric: str = Field("pass_rate_strict", description="what best means: a held-out figure, higher is better")
    form: Literal["full", "adapter", "bitdelta"] = Field(
        "full", alias="as", description="full; adapter: rebuilt bit for bit; bitdelta: about 1 bit a weight, lossy"
    )
    allow_lossy: bool = Field(False, description="let a round start from weights restored from a bitdelta copy")

    model_config = ConfigDict(serialize_by_alias=True)


class ExecutionSettings(Settings):
    """How a start works through the rounds. None of it changes a row, so all of it may change between starts."""

    rounds_per_start: int | None = Field(None, ge=1, description="rounds a start or firing makes; all left by default")
    extend: int = Field(0, ge=0, description="rounds that a scheduled firing adds once all are done")
    approve: bool = Field(False, description="wait after each round until it is approved")
    when_paused: Literal["wait", "exit"] = Field("wait", description="a paused run waits, or ends to be started again")
    retries: int = Field(2, ge=0, description="further attempts at a stage whose process died or ran out of time")
    retry_delay_seconds: float = Field(5.0, ge=0, description="before the first retry; doubles with each further one")
    stage_timeout_seconds: float | None = Field(None, gt=0, description="a stage process is ended after this long")
    report: bool = Field(True, description="write report.html into the workspace after each round")


#: How a judge is taught where ``teach.train`` does not say. A verdict is a token or two beside instructions' hundreds.
_TEACHING: Mapping[str, Any] = {
    "learning_rate": 3e-5, "epochs": 1, "batch_size": 16, "micro_batch_size": 8, "schedule": "linear", "average": "examples"
}  # fmt: skip


class TeachSettings(Settings):
    """Rounds that teach the model to judge, instead of aligning it by its own judgements.

    Self-Rewarding Language Models (arXiv 2401.10020), section 2.1: evaluation fine-tuning (EFT) mixed with
    instruction fine-tuning (IFT) makes M_1. The judge that is taught is the run's own.
    """

    rounds: list[int] = Field(default_factory=list, description="which rounds teach, e.g. [1]")
    gold: str | None = Field("data/gold.jsonl", description="gold items, whose teach split is taught; null for none")
    gold_items: int | None = Field(None, ge=1, description="at most so many gold items")
    verified: bool = Field(True, description="also teach from the round's own candidates whose constraints are checked")
    verified_pairs: int | None = Field(None, ge=1, description="at most so many pairs of verified candidates")
    instruction_share: float = Field(
        0.2, ge=0, lt=1, description="share of instructions with good answers (of the gold set) among the examples"
    )
    train: _plugin("train", "sft", lists=True, **_TEACHING) = Field(  # type: ignore[valid-type]
        default_factory=dict, description="how it is taught; only sft"
    )

    @model_validator(mode="after")
    def _can_teach(self) -> TeachSettings:
        if 0 in self.rounds or min(self.rounds, default=1) < 1:
            raise ValueError("rounds: the first one that trains is round 1")
        if self.rounds and self.gold is None and not self.verified:
            raise ValueError("gold: null and verified: false leave nothing to teach; set one of them")
        if self.train.id != "sft":
            raise ValueError("train: teaching is supervised; use the trainer 'sft'")
        return self


class MetaSettings(Settings):
    """The model judges its own judgements, and rounds train on pairs of them together with pairs of answers.

    Meta-Rewarding Language Models (arXiv 2407.19594). It needs a judge that writes several judgements of a candidate
    (``rubric_votes``, ``critique``, ``reference`` in mode text), alone or inside another one.
    """

    enabled: bool = Field(False, description="whether judgements are judged at all")
    rounds: list[int] | None = Field(
        None, description="which rounds, e.g. [1, 2]; by default all that train on answers"
    )
    rubric: str = Field("meta/judgements", min_length=1, description="name in prompts/, or path of a .j2 file")
    mode: Literal["text", "logits"] = Field("text", description="written and parsed, or read from logits")
    candidates: int = Field(64, ge=1, description="a round's candidates whose judgements are compared: most disputed")
    temperature: float = Field(0.7, ge=0, description="0 is greedy")
    top_p: float = Field(0.9, gt=0, le=1, description="1 is off")
    max_tokens: int = Field(256, ge=1, description="of a comparison")
    min_mass: float = Field(0.0, ge=0, le=1, description="logits: less probability on the choices is a parse_error")
    max_length_ratio: float | None = Field(
        2.0, ge=1, description="no pair whose better judgement is more than so many times as long as the worse"
    )
    min_margin: float = Field(0.0, ge=0, description="no pair whose Elo scores are less apart, in natural units")
    consistent_only: bool = Field(False, description="a comparison that turns round with the order counts for nothing")
    max_share: float = Field(0.5, gt=0, lt=1, description="of a round's pairs, at most so many are of judgements")

    @model_validator(mode="after")
    def _can_train(self) -> MetaSettings:
        if min(self.rounds or [1]) < 1:
            raise ValueError("rounds: the first one that trains is round 1")
        return self


class LastRounds(Settings):
    """The rows of so many rounds: this one and those before it."""

    last: int = Field(ge=1, description="1: this round's own")


class Replay(Settings):
    """Shares of the rows of earlier rounds beside the round's own, the round before first."""

    replay: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        min_length=1, description="of the round before, the one before that, ..."
    )


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        return (Replay if "replay" in value else LastRounds).model_validate(value)
    if value not in ("this", "all") and not isinstance(value, Settings):
        raise ValueError("must be this, all, {last: ROUNDS} or {replay: [SHARE, ...]}")
    return value


class PolicySettings(Settings):
    """Where a round's training starts and which rows it trains on; any of it may be a list by round.

    What its loss is compared with is the trainer's own setting: ``train.reference``.
    """

    start: Literal["previous", "base"] = Field("previous", description="trains M_t-1, or M_0 anew in every round")
    data: Annotated[Literal["this", "all"] | LastRounds | Replay, BeforeValidator(_data)] = Field(
        "this",
        description="this: the round's own rows; all; {last: 2}; {replay: [0.3, 0.15]}: shares of earlier rounds",
    )

    #: Keys that people look for here, and where they are; see :func:`_explain`.
    elsewhere: ClassVar[Mapping[str, str]] = {
        "reference": "it belongs to the loss: train.reference",
        "beta": "it belongs to the loss: train.beta, which may be a list by round",
        "learning_rate": "it belongs to the trainer: train.learning_rate, which may be a list by round",
    }

    def earlier(self, round: int, first: int = 1) -> dict[int, float]:
        """Earlier rounds whose rows ``round`` trains on as well -> the share of them; the round before first.

        ``first`` is the first round that has rows: 0 where preferences were imported.
        """
        if isinstance(self.data, Replay):
            shares: Iterable[float] = self.data.replay
        else:
            last = {"this": 1, "all": round + 1}[self.data] if isinstance(self.data, str) else self.data.last
            shares = [1.0] * (last - 1)
        return {round - back: share for back, share in enumerate(shares, start=1) if share and round - back >= first}


#: Settings that change no row, so that they may differ between starts.
NO_ROWS = frozenset({"name", "rounds", "workspace", "device", "execution", "keep"})


class RunConfig(Settings):
    """A whole run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the run: letters, digits, dot, dash, underscore"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="every random choice derives from it")
    rounds: int = Field(2, ge=1, description="how many there are to be; may grow between starts")
    model: str = Field(
        "smollm2-135m-instruct", min_length=1, description="M_0: the embedded model, a folder, or a hub name"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the weights that answer and judge; auto: what the hardware is fast at"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 ...")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    workspace: str | None = Field(None, description="runs/<name> by default")
    prompts: PromptSettings = Field(default_factory=PromptSettings, description="which instructions")
    preferences: list[str] | None = Field(
        None, min_length=1, description="files of preference pairs, rows of round 0 for policy.data; see docs/import.md"
    )
    generate: GenerateSettings = Field(default_factory=GenerateSettings, description="how they are answered")
    judge: _plugin("judge", "rubric_votes", optional=True) = Field(  # type: ignore[valid-type]
        default_factory=dict, description="null: nothing is judged, for builders that need no scores"
    )
    resample: _plugin("resample", optional=True) = Field(  # type: ignore[valid-type]
        None, description="which judged candidates go on to pairing; all by default"
    )
    pair: _plugin("pair", "max_min", lists=True) = Field(  # type: ignore[valid-type]
        default_factory=dict, description="what is made of judged candidates: pairs, labels or rankings"
    )
    train: _plugin("train", "dpo", lists=True) = Field(  # type: ignore[valid-type]
        default_factory=dict, description="how the model learns from them"
    )
    policy: _section(PolicySettings) = Field(  # type: ignore[valid-type]
        None, description="null: every round trains the model before it, on its own rows"
    )
    teach: TeachSettings = Field(default_factory=TeachSettings, description="rounds that teach the judge instead")
    meta: MetaSettings = Field(default_factory=MetaSettings, description="judging the judgements")
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings, description="what is measured")
    calibrate: CalibrateSettings = Field(default_factory=CalibrateSettings, description="how the judge is measured")
    gates: list[_plugin("gate")] = Field(  # type: ignore[valid-type]
        default_factory=lambda: ["judge_accuracy", "pass_rate", "length", "displacement"],
        description="rules over a round's figures, and what follows where one fails; [] is none",
    )
    execution: ExecutionSettings = Field(default_factory=ExecutionSettings, description="how starts go")
    keep: KeepSettings = Field(default_factory=KeepSettings, description="which checkpoints stay on disk")

    @model_validator(mode="after")
    def _adapters_exist(self) -> RunConfig:
        methods = {getattr(at(self.train, round), "method", "full") for round in self.different_rounds()}
        if self.keep.form == "adapter" and methods == {"full"}:
            raise ValueError(
                "keep.as: adapter needs train.method: lora (or dora, pissa, qlora); without an adapter there is only full "
                "or bitdelta"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        if problem := next(misfits(self), None):
            raise ValueError(problem)
        return self

    def teaches(self, round: int) -> bool:
        """Whether ``round`` teaches the judge."""
        return round in self.teach.rounds

    def meta_judges(self, round: int) -> bool:
        """Whether ``round`` also compares its judgements and trains on pairs of them."""
        return self.meta.enabled and not self.teaches(round) and (self.meta.rounds is None or round in self.meta.rounds)

    def trainer(self, round: int) -> Any:
        """Settings of the trainer of ``round``."""
        return at(self.teach.train if self.teaches(round) else self.train, round)

    def builder(self, round: int) -> Any:
        """Settings of the pair builder of ``round``."""
        return at(self.pair, round)

    def policy_in(self, round: int) -> PolicySettings:
        """Where the training of ``round`` starts and which rows it takes."""
        found: PolicySettings = at(self.policy, round) or PolicySettings()
        return found

    def earlier(self, round: int) -> dict[int, float]:
        """Earlier rounds whose rows ``round`` trains on as well -> the share of them; imported pairs are those of 0."""
        return self.policy_in(round).earlier(round, 0 if self.preferences else 1)

    def start_round(self, round: int) -> int:
        """t of the M_t that the training of ``round`` starts from."""
        return 0 if self.policy_in(round).start == "base" else round - 1

    def different_rounds(self) -> range:
        """Rounds 1 ... n, of which the last stands for all later ones as far as lists by round go."""
        return range(1, settled(self.pair, self.train, self.teach.train, self.policy) + 1)

    def workspace_path(self) -> Path:
        """The run's folder, as the config has it or runs/NAME; relative to where it is asked."""
        return Path(self.workspace or f"runs/{self.name}")

    def snapshot(self) -> dict[str, Any]:
        """The complete config as plain data, defaults included."""
        return self.model_dump(mode="json")

    def config_hash(self) -> str:
        """Content hash of :meth:`snapshot`."""
        return content_id("config", self.snapshot())


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read, override (``key.sub=value`` with YAML values) and validate a run config.

    Raises:
        ConfigError: one line naming file, key, what is wrong and, for a typo, the likely key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; 'selfalign init DIR' writes one to edit") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, found {type(data).__name__}")
    for override in overrides or []:
        _override(data, override)
    data.setdefault("name", path.stem)
    return validate_config(data, str(path))


def validate_config(data: dict[str, Any], origin: str) -> RunConfig:
    """Validate plain data; see :func:`load_config`."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = [_explain(problem, data) for problem in error.errors()]
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ConfigError(f"{origin}: {shown}") from None


def _override(data: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: write it as key.sub=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {assignment}: the value is not valid YAML") from None
    *parents, last = key.strip().split(".")
    node: Any = data
    for part in parents:
        child = _child(node, part, assignment)
        if child is None or isinstance(child, str):
            # A plug-in given by its bare name becomes a mapping, so that its settings can be set.
            child = {} if child is None else {"id": child}
            _assign(node, part, child, assignment)
        node = child
    _assign(node, last, parsed, assignment)


def _child(node: Any, part: str, assignment: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, assignment)]
    if isinstance(node, dict):
        return node.get(part)
    raise ConfigError(f"--set {assignment}: '{part}' is not inside a mapping or list")


def _assign(node: Any, part: str, value: Any, assignment: str) -> None:
    if isinstance(node, list):
        node[_index(node, part, assignment)] = value
    elif isinstance(node, dict):
        node[part] = value
    else:
        raise ConfigError(f"--set {assignment}: '{part}' is not inside a mapping or list")


def _index(node: list[Any], part: str, assignment: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {assignment}: '{part}' is not a position in a list of {len(node)}")
    return int(part)


def _explain(problem: Any, data: Any) -> str:
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = ".".join(str(part) for part in location) or "config"
    if problem["type"] == "extra_forbidden":
        model = _model_at(location[:-1], data)
        if where := getattr(model, "elsewhere", {}).get(location[-1]):
            return f"{key}: unknown key; {where}"
        known = [field.alias or name for name, field in model.model_fields.items()] if model else []
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")
    if problem["type"] == "missing":
        return f"{key}: is required"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


def _model_at(location: list[Any], data: Any) -> Any:
    """The model of what is at ``location``, following plug-in ids to their Config models; None where that is unknown."""
    model: Any = RunConfig
    kind: Any = RunConfig  # the type of what is at the part before
    for part in location:
        data = _at(data, part)
        if isinstance(part, int):
            kind = next(iter(get_args(kind)), None)  # of list[...]
            forms = [form for form in getattr(kind, "__metadata__", ()) if isinstance(form, PluginField | SectionField)]
        else:
            field = model.model_fields.get(part) if model else None
            kind = field.annotation if field else None
            forms = [form for form in field.metadata if isinstance(form, PluginField | SectionField)] if field else []
        # Of "WinRateSettings | None" the first.
        named = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Settings)]
        if forms:
            model = forms[0].model_of(data)
        else:
            model = named[0] if named else None
            # Members of a judge, for example, are judges, as only its own validator knows.
            if (
                isinstance(data, dict)
                and isinstance(data.get("id"), str)
                and "id" not in getattr(model, "model_fields", ())
            ):
                model = _config_of(data["id"]) or model
    return model


def _at(data: Any, part: Any) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError, TypeError):
        return None


def _config_of(name: str) -> Any:
    for kind in ("judge", "engine"):
        try:
            return find(kind, name).load().Config
        except ConfigError:
            continue
    return None

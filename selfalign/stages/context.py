"""What every stage of a run may use: its config, its folders, its store, and the models M_0 ... M_t."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.disk import kept
from selfalign.errors import StageFailed, WeightsMismatch, WeightsNotKept
from selfalign.gold.items import GoldItem
from selfalign.identity import hash_tokenizer
from selfalign.models.resolve import resolve_model
from selfalign.progress import Reporter
from selfalign.scanning.findings import Flagged
from selfalign.sources.repeats import Repeat
from selfalign.stages.jobs import JobFolder
from selfalign.stages.launch import Launcher
from selfalign.store.store import Store
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Checkpoint, GoldSplit, Prompt, Split
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Weights:
    """What a model is, wherever it lies, and also where it lies nowhere any more."""

    weights_hash: str
    tokenizer_hash: str
    #: What the round was trained to; differs from ``weights_hash`` where these are an approximation of it.
    original_hash: str


@dataclass(frozen=True)
class Model(Weights):
    """Weights in a folder."""

    folder: Path
    #: Why the weights cannot be loaded, if they cannot.
    absent: str | None = None

    @property
    def path(self) -> Path:
        """The folder, to load from.

        Raises:
            WeightsNotKept: the weights are not there, or not to be used.
        """
        if self.absent:
            raise WeightsNotKept(self.absent)
        return self.folder


class RunContext:
    """An opened run. Not a dataclass, so that Prefect hands it to tasks without looking inside."""

    def __init__(
        self,
        config: RunConfig,
        workspace: Workspace,
        store: Store,
        reporter: Reporter,
        launcher: Launcher | None = None,
    ) -> None:
        self.config = config
        self.workspace = workspace
        self.store = store
        self.reporter = reporter
        self.launcher = launcher or Launcher()
        #: Set by whoever wants a stage that runs in another thread to end.
        self.stop = threading.Event()
        #: Prompts as the sources gave them, by split; read once a process (stages/prompts.py).
        self.pools: dict[Split, list[Prompt]] = {}
        #: Training prompts that were left out for earlier ones (prompts.dedupe).
        self.repeats: list[Repeat] = []
        #: Prompts with personal data or secrets (prompts.scan), by split.
        self.flagged: dict[Split, list[Flagged]] = {}
        #: The gold items that this run measures with or teaches, by split; read once a process (stages/calibrate.py).
        self.gold: dict[GoldSplit, list[GoldItem]] = {}
        self._models: dict[int, Model] = {}

    def templates(self) -> Templates:
        return Templates(self.template_folders())

    def template_folders(self) -> list[Path]:
        """Where prompt files are looked for; the user's own, beside the config as ``init`` puts them, win."""
        return [self.workspace.prompts, Path.cwd() / "prompts", shipped_prompts()]

    def job(self, round: int, stage: str, fingerprint: str) -> JobFolder:
        folder = JobFolder(self.workspace.job_folder(round, stage, fingerprint))
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def initial(self) -> Model:
        """M_0 as its folder is now; hashed once a process, and only if a file of it changed since the last time."""
        path = resolve_model(self.config.model)
        weights_hash = self.workspace.weights_hash(path)
        return Model(weights_hash, hash_tokenizer(path), weights_hash, path)

    def weights(self, round: int) -> Weights:
        """What M_round is, by the store: its folder need not be there any more."""
        if round == 0:
            return self.initial
        found = self.store.query(
            "select weights_hash, tokenizer_hash from rounds where round = ? and weights_hash is not null", (round,)
        ).to_pylist()
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        recorded, tokenizer = found[0]["weights_hash"], found[0]["tokenizer_hash"]
        reduced = kept.read(self._checkpoint_path(round, must_exist=False))
        # Version 1 of the store recorded no tokenizer; an approximation has a hash of its own.
        if tokenizer is None or (reduced is not None and reduced.form == "approximate"):
            return self.model(round)
        return Weights(recorded, tokenizer, recorded)

    def round_with(self, weights_hash: str, before: int) -> int | None:
        """The first round below ``before`` that ended with these weights, by the store alone; 0 for M_0."""
        found = self.store.query(
            "select min(round) as round from rounds where weights_hash = ? and round < ?", (weights_hash, before)
        ).to_pylist()
        return None if found[0]["round"] is None else int(found[0]["round"])

    def model(self, round: int) -> Model:
        """M_round's folder, its weights held against the store.

        Raises:
            WeightsMismatch: the folder no longer holds the weights that the store recorded, or is gone.
        """
        if round not in self._models:
            model = self.initial if round == 0 else self._stored(round)
            recorded = self.store.query("select weights_hash from rounds where round = ?", (round,)).to_pylist()
            if recorded and recorded[0]["weights_hash"] not in (None, model.original_hash):
                raise WeightsMismatch(
                    f"{model.folder}: these are not the weights that made M{round} (hash {model.weights_hash[:12]}, the "
                    f"store has {recorded[0]['weights_hash'][:12]}); put the original files back, or go on from an "
                    f"earlier round with: selfalign resume {self.workspace.path} --from-round {max(round - 1, 0)}"
                )
            self._models[round] = model
        return self._models[round]

    def forget(self, *rounds: int) -> None:
        """Look again at M_round (all of them by default): its weights were reduced, restored, or are other ones now."""
        for round in rounds or list(self._models):
            self._models.pop(round, None)

    def _stored(self, round: int) -> Model:
        path = self._checkpoint_path(round)
        record = kept.read(path)
        if record is not None:
            return self._reduced(path, record)
        weights_hash = self.workspace.weights_hash(path)
        return Model(weights_hash, hash_tokenizer(path), weights_hash, path)

    def _reduced(self, path: Path, record: kept.Kept) -> Model:
        """M_round where its weights are not as they were trained: known by their hash, and perhaps not loadable."""
        tokenizer, original = hash_tokenizer(path), record.weights_hash
        why = kept.explain(record, self.workspace.path)
        if record.form != "approximate":
            return Model(original, tokenizer, original, path, why)
        found = self.workspace.weights_hash(path)
        if found != record.restored_hash:
            raise WeightsMismatch(
                f"{path}: holds weights {found[:12]}, neither M{record.round}'s nor their approximation"
            )
        begun = self.store.query("select parent_hash from rounds where round = ?", (record.round + 1,)).to_pylist()
        if begun and begun[0]["parent_hash"] == original:  # the next round began from the exact ones
            return Model(original, tokenizer, original, path, why)
        return Model(found, tokenizer, original, path, None if self.config.keep.allow_lossy else why)

    def _checkpoint_path(self, round: int, *, must_exist: bool = True) -> Path:
        found = self.store.rows(Checkpoint, "round = ?", (round,))
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        path = self.workspace.path / found[0].path
        if must_exist and not path.is_dir():
            raise WeightsMismatch(f"{path}: the checkpoint of M{round} is gone; put the folder back")
        return path

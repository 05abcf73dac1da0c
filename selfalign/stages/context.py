"""What every stage of a run may use: its config, its folders, its store, and the models M_0 ... M_t."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfalign import kept
from selfalign.config import RunConfig
from selfalign.errors import StageFailed, WeightsMismatch, WeightsNotKept
from selfalign.identity import hash_tokenizer, hash_weights
from selfalign.models.resolve import resolve_model
from selfalign.progress import Reporter
from selfalign.stages.jobs import JobFolder
from selfalign.store.store import Store
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Checkpoint
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Model:
    """Weights and what they are, also where the weights themselves are not on disk any more."""

    folder: Path
    weights_hash: str
    tokenizer_hash: str
    #: What the round was trained to; differs from ``weights_hash`` where these are an approximation of it.
    original_hash: str
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

    def __init__(self, config: RunConfig, workspace: Workspace, store: Store, reporter: Reporter) -> None:
        self.config = config
        self.workspace = workspace
        self.store = store
        self.reporter = reporter
        self._models: dict[int, Model] = {}

    def templates(self) -> Templates:
        return Templates(self.template_folders())

    def template_folders(self) -> list[Path]:
        """Where prompt files are looked for; the user's own, beside the config as ``init`` puts them, win."""
        return [self.workspace.prompts, Path.cwd() / "prompts", shipped_prompts()]

    def job(self, round: int, stage: str) -> JobFolder:
        folder = JobFolder(self.workspace.jobs / f"round-{round}-{stage}")
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    def model(self, round: int) -> Model:
        """M_round, its weights hashed once a process and held against the store.

        Raises:
            WeightsMismatch: the folder no longer holds the weights that the store recorded.
        """
        if round not in self._models:
            path = resolve_model(self.config.model) if round == 0 else self._checkpoint_path(round)
            record = kept.read(path) if round else None
            if record is not None:
                self._models[round] = self._reduced(path, record)
                return self._models[round]
            weights_hash = hash_weights(path)
            model = Model(path, weights_hash, hash_tokenizer(path), weights_hash)
            recorded = self.store.query("select weights_hash from rounds where round = ?", (round,)).to_pylist()
            if recorded and recorded[0]["weights_hash"] not in (None, model.weights_hash):
                raise WeightsMismatch(
                    f"{path}: these are not the weights that made M{round} (hash {model.weights_hash[:12]}, the store "
                    f"has {recorded[0]['weights_hash'][:12]}); put the original files back"
                )
            self._models[round] = model
        return self._models[round]

    def forget(self, round: int) -> None:
        """Look at M_round's folder again when it is asked for next: its weights were reduced or restored."""
        self._models.pop(round, None)

    def _reduced(self, path: Path, record: kept.Kept) -> Model:
        """M_round where its weights are not as they were trained: known by their hash, and perhaps not loadable."""
        tokenizer, original = hash_tokenizer(path), record.weights_hash
        why = kept.explain(record, self.workspace.path)
        if record.form != "approximate":
            return Model(path, original, tokenizer, original, why)
        found = hash_weights(path)
        if found != record.restored_hash:
            raise WeightsMismatch(
                f"{path}: holds weights {found[:12]}, neither M{record.round}'s nor their approximation"
            )
        begun = self.store.query("select parent_hash from rounds where round = ?", (record.round + 1,)).to_pylist()
        if begun and begun[0]["parent_hash"] == original:  # the next round began from the exact ones
            return Model(path, original, tokenizer, original, why)
        return Model(path, found, tokenizer, original, None if self.config.keep.allow_lossy else why)

    def _checkpoint_path(self, round: int) -> Path:
        found = self.store.rows(Checkpoint, "round = ?", (round,))
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        path = self.workspace.path / found[0].path
        if not path.is_dir():
            raise WeightsMismatch(f"{path}: the checkpoint of M{round} is gone; put the folder back")
        return path

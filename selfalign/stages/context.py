"""What every stage of a run may use: its config, its folders, its store, and the models M_0 ... M_t."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.errors import StageFailed, WeightsMismatch
from selfalign.identity import hash_tokenizer
from selfalign.models.resolve import resolve_model
from selfalign.progress import Reporter
from selfalign.stages.jobs import JobFolder
from selfalign.stages.launch import Launcher
from selfalign.store.store import Store
from selfalign.templates import Templates, shipped_prompts
from selfalign.types import Checkpoint, Prompt, Split
from selfalign.workspace import Workspace


@dataclass(frozen=True)
class Weights:
    """What a model is, wherever it lies."""

    weights_hash: str
    tokenizer_hash: str


@dataclass(frozen=True)
class Model(Weights):
    """Weights on disk."""

    path: Path


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
        #: Prompts as the sources gave them, by split; read once a process (stages/prompts.py).
        self.pools: dict[Split, list[Prompt]] = {}
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
        return Model(self.workspace.weights_hash(path), hash_tokenizer(path), path)

    def weights(self, round: int) -> Weights:
        """What M_round is, by the store: its folder need not be there any more."""
        if round == 0:
            return self.initial
        found = self.store.query(
            "select weights_hash, tokenizer_hash from rounds where round = ? and weights_hash is not null", (round,)
        ).to_pylist()
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        if found[0]["tokenizer_hash"] is None:  # written by version 1 of the store
            return self.model(round)
        return Weights(**found[0])

    def model(self, round: int) -> Model:
        """M_round's folder, its weights held against the store.

        Raises:
            WeightsMismatch: the folder no longer holds the weights that the store recorded, or is gone.
        """
        if round not in self._models:
            if round == 0:
                model = self.initial
            else:
                path = self._checkpoint_path(round)
                model = Model(self.workspace.weights_hash(path), hash_tokenizer(path), path)
            recorded = self.store.query("select weights_hash from rounds where round = ?", (round,)).to_pylist()
            if recorded and recorded[0]["weights_hash"] not in (None, model.weights_hash):
                raise WeightsMismatch(
                    f"{model.path}: these are not the weights that made M{round} (hash {model.weights_hash[:12]}, the "
                    f"store has {recorded[0]['weights_hash'][:12]}); put the original files back, or go on from an "
                    f"earlier round with: selfalign resume {self.workspace.path} --from-round {max(round - 1, 0)}"
                )
            self._models[round] = model
        return self._models[round]

    def forget_models(self) -> None:
        """After rows were set aside: M_round may be another model now."""
        self._models.clear()

    def _checkpoint_path(self, round: int) -> Path:
        found = self.store.rows(Checkpoint, "round = ?", (round,))
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        path = self.workspace.path / found[0].path
        if not path.is_dir():
            raise WeightsMismatch(f"{path}: the checkpoint of M{round} is gone; put the folder back")
        return path

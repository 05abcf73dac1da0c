"""What every stage of a run may use: its config, its folders, its store, and the models M_0 ... M_t."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfalign.config import RunConfig
from selfalign.errors import StageFailed, WeightsMismatch
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
    """Weights on disk and what they are."""

    path: Path
    weights_hash: str
    tokenizer_hash: str


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
            model = Model(path, hash_weights(path), hash_tokenizer(path))
            recorded = self.store.query("select weights_hash from rounds where round = ?", (round,)).to_pylist()
            if recorded and recorded[0]["weights_hash"] not in (None, model.weights_hash):
                raise WeightsMismatch(
                    f"{path}: these are not the weights that made M{round} (hash {model.weights_hash[:12]}, the store "
                    f"has {recorded[0]['weights_hash'][:12]}); put the original files back"
                )
            self._models[round] = model
        return self._models[round]

    def _checkpoint_path(self, round: int) -> Path:
        found = self.store.rows(Checkpoint, "round = ?", (round,))
        if not found:
            raise StageFailed(f"round {round}: has no checkpoint yet")
        path = self.workspace.path / found[0].path
        if not path.is_dir():
            raise WeightsMismatch(f"{path}: the checkpoint of M{round} is gone; put the folder back")
        return path

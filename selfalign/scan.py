"""The texts that ``selfalign scan`` looks through: of a file, of a config's prompt sources, or of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.config import load_config
from selfalign.errors import BadInput
from selfalign.registry import find as find_plugin
from selfalign.scanning.find import findings, texts_of
from selfalign.scanning.findings import Finding
from selfalign.store.store import Store
from selfalign.workspace import Workspace

#: Ending of a file's name -> the prompt source that reads it.
_SOURCES = {
    ".jsonl": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text", ".md": "text",
}  # fmt: skip
_CONFIGS = (".yaml", ".yml")
#: Rows of a run that become Python objects at once; their text lies in memory as a whole.
_BATCH = 4096
_PROMPTS = "SELECT origin, prompt_id AS id, 'text' AS field, text FROM prompts"
_ANSWERS = "SELECT origin, prompt_id AS id, 'answer' AS field, answer AS text FROM prompts WHERE answer IS NOT NULL"
_CANDIDATES = """
    SELECT prompt.origin, candidate_id AS id, 'candidate' AS field, candidates.text FROM candidates
    LEFT JOIN (SELECT prompt_id, min(origin) AS origin FROM prompts GROUP BY prompt_id) prompt USING (prompt_id)
"""


@dataclass(frozen=True)
class Text:
    """See :class:`selfalign.scanning.findings.Finding` for what the fields mean."""

    source: str
    where: str
    id: str
    field: str
    text: str


def texts(source: Path, *, column: str | None = None, candidates: bool = False) -> Iterator[Text]:
    """Every text of ``source``: prompts and their own answers, and of a run with ``candidates`` all answers.

    Args:
        column: where a table or a JSONL file has its prompts; by default as :mod:`selfalign.sources.rows` picks one.

    Raises:
        BadInput: it cannot be read, or is nothing that could be; a missing or unknown source at the first text.
    """
    kind = "config" if source.suffix in _CONFIGS else "run" if _is_run(source) else "file"
    if candidates and kind != "run":
        raise BadInput(f"{source}: --candidates is for runs; a prompt's own answer is looked at anyway")
    if column is not None and kind != "file":
        raise BadInput(f"{source}: --column is for files; a config names its columns itself, and a run has its own")
    if kind == "run":
        yield from _of_run(Workspace.existing(source), candidates)
    elif kind == "config":
        prompts = load_config(source).prompts
        for settings in [*prompts.sources, *prompts.held_out]:
            named = getattr(settings, "path", None) or getattr(settings, "dataset", None) or settings.id
            yield from _of_source(settings, str(named))
    else:
        yield from _of_source(_settings(source, column), str(source))


def scan(texts: Iterator[Text]) -> Iterator[tuple[Text, list[Finding]]]:
    """Each text with what it holds."""
    for text in texts:
        yield text, findings(text.text, source=text.source, where=text.where, id=text.id, field=text.field)


def _is_run(source: Path) -> bool:
    return any((folder / "store.duckdb").is_file() for folder in (source, Path("runs") / source))


def _settings(path: Path, column: str | None) -> Any:
    """The prompt source that reads ``path``, by its name."""
    if path.is_dir():
        saved = any((path / mark).is_file() for mark in ("dataset_info.json", "dataset_dict.json"))
        kind = "hf" if saved else "parquet" if any(path.glob("*.parquet")) else None
    else:
        kind = _SOURCES.get(path.suffix.lower())
    if kind is None:
        raise BadInput(
            f"{path}: neither a prompt file ({', '.join(_SOURCES)}; a folder of parquet files or of save_to_disk), nor a "
            f"config ({', '.join(_CONFIGS)}), nor a run; name one of these"
        )
    given: dict[str, Any] = {"id": kind, ("dataset" if kind == "hf" else "path"): str(path)}
    if kind == "jsonl":
        given["repeats"] = True
    if column is not None:
        if kind == "text":
            raise BadInput(f"{path}: --column is for tables and JSONL; a text file has none")
        given["columns"] = {"text": column}
    return find_plugin("prompts", kind).load().Config.model_validate(given)


def _of_source(settings: Any, name: str) -> Iterator[Text]:
    for prompt in find_plugin("prompts", settings.id).load()(settings, Path.cwd()).prompts():
        for field, text in texts_of(prompt):
            yield Text(name, prompt.origin, prompt.prompt_id, field, text)


def _of_run(workspace: Workspace, candidates: bool) -> Iterator[Text]:
    """A prompt that several rounds have counts once."""
    store = Store(workspace.store_path)
    for sql in (_PROMPTS, _ANSWERS, *([_CANDIDATES] if candidates else [])):
        # The run must not wait for the scan: the rows are taken first.
        found = store.query(f"SELECT id, field, text, min(origin) AS origin FROM ({sql}) GROUP BY ALL ORDER BY id")
        for batch in found.to_batches(_BATCH):
            for row in batch.to_pylist():
                yield Text(str(workspace.path), row["origin"] or "", row["id"], row["field"], row["text"])

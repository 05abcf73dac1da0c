"""Command ``export``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfalign.cli.options import JsonOption, RunArgument
from selfalign.errors import BadInput
from selfalign.workspace import Workspace

if TYPE_CHECKING:
    from selfalign.export.run import Report


def export(
    run: RunArgument,
    what: Annotated[str, typer.Argument(help="pairs, unary, sft or judgements.", show_default=False)],
    format_: Annotated[str | None, typer.Option("--format", help="parquet, jsonl, or hf (a folder for load_from_disk). Default: by the name of --output, else parquet.")] = None,
    style: Annotated[str, typer.Option(help="standard (plain text), conversational (lists of messages, for chat models), or of sft messages (one conversation a row).")] = "standard",
    source: Annotated[list[str] | None, typer.Option("--source", help="What rows are made of (repeatable): of pairs answers or judgements, of unary labels or pairs, of sft chosen, demonstrations, lessons.")] = None,
    rounds: Annotated[str, typer.Option(help="all, 2, 1,3 or 1-3.")] = "all",
    branch: Annotated[str | None, typer.Option(help="Rows that were set aside under this name (selfalign branches) instead of the run's.")] = None,
    split: Annotated[float, typer.Option("--split", min=0, max=0.9, help="Share of the prompts whose rows go into a split 'test'.")] = 0.0,
    bare: Annotated[bool, typer.Option("--bare", help="TRL's columns only.")] = False,
    only_complete: Annotated[bool, typer.Option("--only-complete", help="Leave out rows with an answer that was cut at max_tokens.")] = False,
    reviews: Annotated[str, typer.Option(help="What people said of pairs: honour (flipped ones are exchanged, rejected ones left out), ignore, or only (reviewed pairs alone).")] = "honour",
    review_notes: Annotated[bool, typer.Option("--review-notes", help="Add columns with the reviewer's name and note.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="A folder, or one file that ends with .parquet or .jsonl. Default: RUN/exports/WHAT-FORMAT.")] = None,
    decontaminate: Annotated[list[Path] | None, typer.Option("--decontaminate", help="Benchmark file (.jsonl, .json, .parquet, .csv, .txt with an item a line): rows that repeat an item are left out (repeatable).")] = None,
    decontaminate_column: Annotated[str | None, typer.Option("--decontaminate-column", help="Column with the benchmark's texts.")] = None,
    ngram: Annotated[int, typer.Option("--ngram", help="Words in a row that count as a repetition; characters in Chinese.")] = 13,
    ngram_share: Annotated[float, typer.Option("--ngram-share", help="Only from this share of an item's n-grams on; 0: any one.")] = 0.0,
    report_only: Annotated[bool, typer.Option("--report-only", help="With --decontaminate: report such rows, but keep them.")] = False,
    license_: Annotated[str | None, typer.Option("--license", help="Licence of the data set as the Hub calls it, e.g. apache-2.0.")] = None,
    prompt_license: Annotated[str | None, typer.Option("--prompt-license", help="Licence of the prompts, for the card.")] = None,
    push: Annotated[str | None, typer.Option("--push", help="Upload the folder to a hub as OWNER/NAME, private unless --public.")] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: a data set that everybody sees.")] = False,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """A run's data as data sets that TRL loads unchanged, with a card that says where every row comes from.

    Reads only, also while the run is running. Held-out prompts are never in it.

    Example: [cyan]selfalign export runs/quickstart pairs --format hf --style conversational[/cyan]

    Example: [cyan]selfalign export runs/quickstart sft --output sft.jsonl --decontaminate benchmark.jsonl[/cyan]
    """
    from selfalign.decontamination.settings import Settings
    from selfalign.export import hub
    from selfalign.export.request import Request, checked, parse_rounds
    from selfalign.export.run import export as write

    workspace = Workspace.existing(run)
    format = format_ or _by_name(output) or "parquet"
    request = checked(
        Request(
            kind=what,  # type: ignore[arg-type]
            output=output or workspace.path / "exports" / f"{what}-{format}",
            format=format,  # type: ignore[arg-type]
            style=style,  # type: ignore[arg-type]
            sources=tuple(source or ()),
            rounds=parse_rounds(rounds),
            branch=branch,
            bare=bare,
            only_complete=only_complete,
            reviews=reviews,  # type: ignore[arg-type]
            review_notes=review_notes,
            test_share=split,
            benchmarks=tuple(decontaminate or ()),
            benchmark_column=decontaminate_column,
            decontamination=Settings(ngram=ngram, share=ngram_share, report_only=report_only),
            licence=license_,
            prompt_licence=prompt_license,
        )
    )
    if push is not None and (request.one_file or request.format == "hf"):
        raise BadInput(
            "--push uploads a folder of parquet or jsonl, which the Hub shows; leave --output's ending or --format hf out"
        )
    if public and push is None:
        raise BadInput("--public goes with --push OWNER/NAME")
    api = hub.check(push) if push is not None else None
    report = write(workspace, request)
    pushed = hub.push(api, push, request.output, public=public) if push is not None else None
    if json_:
        print(json.dumps({**asdict(report), "pushed": pushed}, ensure_ascii=False))
    else:
        _print(report, request, pushed)


#: Of what a person said of the pair behind a row.
_SAID = {"accept": "accepted", "flip": "flipped"}


def _by_name(output: Path | None) -> str | None:
    suffix = output.suffix.lower() if output is not None else ""
    return suffix.removeprefix(".") if suffix in (".parquet", ".jsonl") else None


def _print(report: Report, request: Any, pushed: str | None) -> None:
    from selfalign.export.filters import REASONS
    from selfalign.space import shown

    splits = ", ".join(f"{split} {rows}" for split, rows in report.splits.items())
    print(f"{report.rows} rows of {report.prompts} prompts ({splits}) in {report.output}, {shown(report.bytes)}")
    print(f"card: {report.card}")
    if report.reviews:
        print(f"reviews: {', '.join(f'{rows} rows {_SAID[said]}' for said, rows in report.reviews.items())}")
    for reason, rows in report.left_out.items():
        print(f"left out: {rows} rows, {REASONS[reason]}")
    if report.contaminated and request.decontamination.report_only:
        print(f"kept, but contaminated: {report.contaminated} rows repeat an item of a benchmark")
    if report.truncated:
        print(f"cut at max_tokens: {report.truncated} rows have such an answer; --only-complete leaves them out")
    if pushed is not None:
        print(f"pushed to {pushed}")

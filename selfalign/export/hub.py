"""Pushing an export to a hub: everything that can be refused is refused before any work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from selfalign.errors import BadInput, StageFailed
from selfalign.export.targets import HITS


def check(repo: str) -> Any:
    """A client that is logged in; call it before the export.

    Raises:
        BadInput: the name is none, there is no token, or the hub cannot be reached or does not take the token.
    """
    from huggingface_hub import HfApi, constants, get_token

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise BadInput(f"--push {repo}: is no name of a data set; write OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise BadInput(f"--push {repo}: HF_HUB_OFFLINE is set; unset it, or leave --push out")
    if not get_token():
        raise BadInput(
            f"--push {repo}: no token for {constants.ENDPOINT}; log in with 'hf auth login', or set HF_TOKEN"
        )
    api = HfApi()
    try:
        api.whoami()
    except Exception as error:  # the HTTP library's errors are not one family across versions
        raise BadInput(
            f"--push {repo}: {constants.ENDPOINT} does not answer or takes no such token ({_line(error)})"
        ) from None
    return api


def push(api: Any, repo: str, folder: Path, *, public: bool) -> str:
    """Upload ``folder`` as the data set ``repo``, made private if it is new; returns its address.

    Raises:
        StageFailed: the hub refused; the export itself is done.
    """
    try:
        made = api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            folder_path=str(folder), repo_id=made.repo_id, repo_type="dataset", ignore_patterns=[HITS],
            commit_message="Exported by selfalign",
        )  # fmt: skip
    except Exception as error:
        raise StageFailed(
            f"{folder}: is written, but could not be pushed to {repo} ({_line(error)}); run the command again"
        ) from None
    return str(made)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

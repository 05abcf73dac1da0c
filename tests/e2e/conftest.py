"""Whole runs on the tiny model, through the real command line, Prefect and stage processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import warm
from tests.e2e.project import Project, prefect_server


@pytest.fixture(scope="session", autouse=True)
def _warm(warm_preloader: None) -> None:
    """For all whole runs."""


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server on loopback for all runs of the session: it saves each of them its start-up."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, prefect_api: str) -> Project:
    return Project(tmp_path / "project", tiny_model, prefect_api)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_api: str) -> Project:
    """One undisturbed run of two rounds; read-only, see :func:`copy`."""
    project = Project(tmp_path_factory.mktemp("finished") / "project", tiny_model, prefect_api)
    project.write()
    project.extra["PYTHONPROFILEIMPORTTIME"] = "1"  # a stage's log then has what the stage itself imported
    project.extra[warm.VARIABLE] = ""  # with a preloader that starts from nothing, as a user's
    done = project.selfalign("run", "run.yaml")
    project.extra.clear()
    assert done.returncode == 0, done.stderr + done.stdout
    assert "select * from round_summary" in done.stdout
    return project


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Callable[[], Project]:
    """Makes copies of the finished run, to go on with or to damage."""

    def make(name: str = "copy") -> Project:
        shutil.copytree(finished.folder, tmp_path / name)
        return Project(tmp_path / name, finished.model, finished.api)

    return make

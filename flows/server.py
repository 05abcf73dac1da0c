"""A Prefect server of our own, where the user has none: on loopback, in the background, gone with us.

Prefect's own ephemeral server starts only when a flow is called, makes it wait for 10 to 20 s, and
outlives a kill -9. This one starts while a config is still being checked, and dies with its parent.

``python -m flows.server --port N [--schedules]`` is the server process.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.prefect_settings import embed_prefect
from selfalign.workspace import Workspace

#: A loaded two-core machine that makes its first database needs about 25 s.
_START_TIMEOUT_S = 120.0
_WATCH_EVERY_S = 0.5
#: In a workspace's logs/.
LOG = "prefect-server.log"
_PARENT = "SELFALIGN_SERVER_PARENT"


class Server:
    """A server process that this process started; it is started again should it die."""

    def __init__(
        self,
        log: Path,
        *,
        port: int | None = None,
        schedules: bool = False,
        started: Callable[[int], None] | None = None,
    ) -> None:
        """``schedules`` turns on the services that fire deployments, and the page; ``started`` is told each pid."""
        self.port = port or free_port()
        self.log = log
        self._tell = started
        self._schedules = schedules
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._started = threading.Event()
        self._watch = threading.Thread(target=self._keep_alive, name="prefect-server", daemon=True)

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.page}/api"

    def start(self) -> None:
        """Start it and return at once."""
        self._watch.start()
        self._started.wait(10)

    def stop(self) -> None:
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join(10)

    def _keep_alive(self) -> None:
        # Every start is this thread's: on Linux the child is told of the death of the thread that made it.
        pause = 0.0
        while not self._stop.wait(pause):
            self._process = self._spawn()
            self._started.set()
            while self._process.poll() is None and not self._stop.wait(_WATCH_EVERY_S):
                pass
            pause = min(2 * pause + 1, 60)  # one that dies at once is not started without end
        if self._process and self._process.poll() is None:
            # Nothing of ours waits to be written in it: what counts is in the store.
            self._process.kill()
            self._process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "flows.server", "--port", str(self.port)]
        # Set here, not found by the child: a child that starts slowly would take init for its parent.
        environment = {**os.environ, _PARENT: str(os.getpid())}
        environment.pop("PREFECT_API_URL", None)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*arguments, *(["--schedules"] if self._schedules else [])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        if self._tell:
            self._tell(process.pid)
        return process


@contextlib.contextmanager
def prefect_for(workspace: Workspace) -> Iterator[Server | None]:
    """Point Prefect at the user's server, or else start one for as long as the block; yields ours or None.

    Call before Prefect is imported; :func:`wait_until_healthy` before a flow is called.
    """
    embed_prefect(workspace.prefect)
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    if served := _serving(workspace):
        os.environ["PREFECT_API_URL"] = served
        yield None
        return
    server = Server(workspace.logs / LOG, started=lambda pid: workspace.record_process(pid, "Prefect's server"))
    os.environ["PREFECT_API_URL"] = server.api
    server.start()
    try:
        yield server
    finally:
        server.stop()
        del os.environ["PREFECT_API_URL"]


def patience_s() -> float:
    """How long to wait for the server of a run about to start: its own has to come up, the user's is there or not."""
    return 15.0 if os.environ.get("PREFECT_API_URL") else _START_TIMEOUT_S


def serving_file(workspace: Workspace) -> Path:
    """Holds the address of the server that ``selfalign serve`` runs for a workspace, while it does."""
    return workspace.prefect / "serving"


def _serving(workspace: Workspace) -> str | None:
    # One server to a database: two would lock each other out.
    with contextlib.suppress(OSError):
        api = serving_file(workspace).read_text(encoding="utf-8")
        return api if wait_until_healthy(api, timeout_s=0) else None
    return None


def wait_until_healthy(api: str, timeout_s: float = _START_TIMEOUT_S) -> bool:
    """Whether a Prefect server answers at ``api``, now or within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        # Not OSError alone: what answers there may be no Prefect server at all.
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"{api}/health", timeout=5),
        ):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- in the server process ----------------------------------------------------------------------


def _die_with_parent() -> None:
    """Told by the kernel on Linux; polled as well, as the parent may have died before the kernel was asked."""
    parent = int(os.environ.pop(_PARENT, os.getppid()))
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)

    def poll() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(3)

    threading.Thread(target=poll, daemon=True).start()


def main() -> None:
    _die_with_parent()
    parser = argparse.ArgumentParser(prog="flows.server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--schedules", action="store_true")
    given = parser.parse_args()
    if not given.schedules:
        os.environ["PREFECT_UI_ENABLED"] = "false"

    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True, ephemeral=not given.schedules)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="error", lifespan="on", ws="auto")


if __name__ == "__main__":
    main()

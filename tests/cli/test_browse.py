from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from selfalign.store.store import Store


def make_run(folder: Path) -> Path:
    folder.mkdir()
    store = Store(folder / "store.duckdb")
    store.create()
    store.put_run("made", seed=1, config="{}", config_hash="", environment="{}", version="0")
    return folder


def test_it_prints_an_address_that_answers_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "selfalign", "browse", str(make_run(tmp_path / "made")), "--port", "0", "--token"]
    # A background job's children inherit that SIGINT is ignored.
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
        assert address, line
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"No round has begun" in opener.open(address[0], timeout=30).read()
        server.send_signal(signal.SIGINT)
        out, error = server.communicate(timeout=30)
        assert (server.returncode, out, error) == (0, "", ""), "the token is printed once, and no request is"
    finally:
        server.kill()


def test_a_port_that_is_taken_and_a_run_that_is_not_there(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "made")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments in (
            (str(folder), "--port", port),
            (str(tmp_path / "none"),),
            (str(folder), "--host", "no.such.host.invalid"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "selfalign", "browse", *arguments], capture_output=True, text=True
            )
            assert done.returncode == 2, done
            assert done.stderr.strip().splitlines()[-1].startswith("error: ")

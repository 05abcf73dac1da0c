"""The port: bound before its address is printed, so that the address works."""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Callable

from selfalign.browse.access import access_for, is_loopback, parse_origin
from selfalign.errors import BadInput
from selfalign.workspace import Workspace


def serve(
    workspace: Workspace,
    host: str,
    port: int,
    *,
    token: bool,
    reviewer: str | None,
    ready: Callable[[str], None],
    origin: str | None = None,
) -> None:
    """Serve the pages of the run at ``workspace`` until Ctrl-C; ``ready`` is told the address, token included.

    ``origin`` is that of a TLS proxy before this server.

    Raises:
        BadInput: the address cannot be bound, or ``origin`` is none.
    """
    import uvicorn

    from selfalign.browse.app import make_app

    proxy = parse_origin(origin) if origin else None
    with _listening(host, port) as listening:
        bound = listening.getsockname()[1]
        access = access_for(host, bound, (socket.gethostname(), socket.getfqdn()), token=token, origin=proxy)
        app = make_app(workspace, access, reviewer or _user())
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
        address = f"{proxy}/" if proxy else f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}/"
        ready(f"{address}?token={access.token}" if access.token else address)
        # No access log: it would have the token in it.
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=5)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def warning(host: str) -> str | None:
    """What a person should know before others can reach the pages."""
    if is_loopback(host):
        return None
    return "the pages and the token go over the network unencrypted; better: an SSH tunnel, or a TLS proxy and --origin"


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
        listening.listen(128)  # whoever opens the address at once waits a moment and is not refused
    except (OSError, OverflowError) as error:
        listening.close()
        raise BadInput(
            f"--host {host} --port {port}: cannot be bound: {getattr(error, 'strerror', None) or error}; name another "
            f"port, or 0 for any that is free"
        ) from None
    return listening


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "somebody"

"""Python imports this at its start where this folder is on PYTHONPATH: a stages' preloader comes from warm.py instead.

Everything that a preloader does is still selfalign's own code, in a process of its own; only that its libraries were
imported before, once for all runs of a test session. This process stands in for it: it ends as that one does, and that
one ends as this one's standard input does, or this one.
"""

import os
import sys

if (place := os.environ.get("SELFALIGN_TEST_WARM")) and sys.orig_argv[1:] == ["-m", "selfalign.stages.preloader"]:
    import json
    import socket

    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(place)
        about = json.dumps({"folder": os.path.realpath(os.curdir), "environment": dict(os.environ)}).encode()
        socket.send_fds(asked, [len(about).to_bytes(4, "big")], [0, 1])
        asked.sendall(about)
        for handle in (0, 1):
            os.close(handle)
        asked.recv(1)  # nothing ever comes: the other end closes as it ends
    os._exit(0)

"""
A port for a process that is started here and binds it a moment later.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from gcp_emulator.clock import new_id

_FIRST, _COUNT = 20_000, 12_000


def free_port() -> int:
    """
    Return a free loopback port outside of the range from which the system gives ports to processes that ask for any free
    one. So no such process can take it before it is used.
    """
    while True:
        port = _FIRST + int(new_id(), 16) % _COUNT
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port

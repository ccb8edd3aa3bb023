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
    A loopback port that is free now, and not one of those that the system gives to whoever asks for any: between the choice
    and its use, somebody would.
    """
    while True:
        port = _FIRST + int(new_id(), 16) % _COUNT
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port

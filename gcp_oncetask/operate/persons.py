"""
The person who acts by the command line.
"""

from __future__ import annotations

import getpass
import socket

from gcp_oncetask.rules.record import Person


def person_of(claimed: str | None) -> Person:
    """
    Return the person who acts here: *claimed*, else ``user@host``. The name is not proven.
    """
    return Person(claimed or f"{getpass.getuser()}@{socket.gethostname()}", proven=False)

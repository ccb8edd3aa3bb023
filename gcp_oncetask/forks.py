"""
Which process this is: channels, threads and locks do not survive a fork, and asking the system each time is slow.
"""

from __future__ import annotations

import os

_pid = os.getpid()
_forks = 0


def _forked() -> None:
    global _pid, _forks  # noqa: PLW0603 - the one fact that is true of a whole process
    _pid = os.getpid()
    _forks += 1


os.register_at_fork(after_in_child=_forked)


def generation() -> int:
    """
    How many forks lie between the process that imported this and the present one.
    """
    return _forks


def pid() -> int:
    """
    Id of the present process.
    """
    return _pid

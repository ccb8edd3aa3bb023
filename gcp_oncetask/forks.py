"""
Which process this is: channels, threads and locks do not survive a fork, and asking the system each time is slow.

Read as attributes of this module, never imported by name: they change in a child.
"""

from __future__ import annotations

import os

pid = os.getpid()
"""Id of the present process."""
parent = os.getppid()
"""Id of the process that made the present one."""
generation = 0
"""How many forks lie between the process that imported this and the present one."""


def _forked() -> None:
    global pid, parent, generation  # noqa: PLW0603 - facts that are true of a whole process
    pid = os.getpid()
    parent = os.getppid()
    generation += 1


os.register_at_fork(after_in_child=_forked)

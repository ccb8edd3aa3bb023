"""
The identity of the present process. Channels, threads and locks do not survive a fork, and asking the system each time is
slow.

Read the variables as attributes of this module, because they change in a child.
"""

from __future__ import annotations

import os

pid = os.getpid()
"""Id of the present process."""
parent = os.getppid()
"""Id of the process that made the present one."""
generation = 0
"""Number of forks between the process that imported this module and the present one."""


def _forked() -> None:
    global pid, parent, generation  # noqa: PLW0603 - facts that are true of a whole process
    pid = os.getpid()
    parent = os.getppid()
    generation += 1


os.register_at_fork(after_in_child=_forked)

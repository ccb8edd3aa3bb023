"""
Ends what a test run leaves behind when it is interrupted or killed: Java, servers, processes of the simulator.

Every process of the run has a variable in its environment, so it is found whatever became of its parents. This file is also
the program that waits for the end of the run, whose standard input closes then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

VARIABLE = "TESTS_OF_RUN"
GRACE = 5.0
"""Seconds in which the processes of a run that was killed may end by themselves."""


def watch() -> subprocess.Popen[bytes]:
    """
    Mark what this process starts from now on, and start the program that ends it after this process.
    """
    run = uuid.uuid4().hex
    os.environ[VARIABLE] = run
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-I", "-S", __file__, run]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def left_of(run: str) -> list[int]:
    """
    Ids of the processes of *run*.
    """
    mark, found = f"{VARIABLE}={run}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _main(run: str) -> None:
    # Ends when the last process that holds the other end of the pipe has ended.
    sys.stdin.buffer.read()
    import select

    select.select([], [], [], GRACE)
    while left := left_of(run):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        select.select([], [], [], 0.1)


if __name__ == "__main__":
    _main(sys.argv[1])

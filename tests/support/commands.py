"""
A command in a process of its own, whose output is read as it comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Stream:
    """
    The lines of a pipe, as they come.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                with self._more:
                    self.lines.append(line.rstrip("\n"))
                    self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait(self, true: Callable[[list[str]], bool]) -> None:
        """
        Wait until *true* of the lines.
        """
        with self._more:
            self._more.wait_for(lambda: true(self.lines) or self._ended, 60)
            assert true(self.lines), "\n".join(self.lines)

    def close(self) -> None:
        """
        Wait for the end of the pipe.
        """
        self._thread.join(10)


@contextmanager
def running(command: str, folder: Path, environ: dict[str, str]) -> Iterator[tuple[Stream, Stream]]:
    """
    The standard output and error of *command*, which is ended by Ctrl-C.
    """
    process = subprocess.Popen(
        f"exec {command}",
        shell=True,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    streams = Stream(process.stdout), Stream(process.stderr)
    try:
        yield streams
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for stream in streams:
            stream.close()

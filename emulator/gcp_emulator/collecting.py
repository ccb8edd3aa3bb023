"""
The output of a command as log entries, while it still appears where it would.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Literal

from gcp_emulator.clock import Clock, new_id
from gcp_emulator.logging import LoggingServer
from gcp_emulator.run.logs import RunLogs

_MOST = 256 * 1024
_JOIN_SECONDS = 1.0
"""
Seconds for which the output of processes that the command has left behind is read after its end.
"""


class Collected:
    """
    Writes each line of a command's output to the logs ``run.googleapis.com/stdout`` and ``stderr``, as Cloud Run does: a JSON
    object becomes a structured entry.

    Args:
        logging: Server that gets the entries.
        clock: Dates them.
        project: Their project.
        location: In their labels.
        environ: ``K_SERVICE`` and ``K_REVISION`` name the service in their labels; by default it is ``local``.
    """

    def __init__(
        self, logging: LoggingServer, clock: Clock, project: str, location: str, environ: Mapping[str, str]
    ) -> None:
        service = environ.get("K_SERVICE") or "local"
        revision = environ.get("K_REVISION") or f"{service}-00001"
        self._logs = RunLogs(
            logging, clock, project=project, region=location, service=service, revision=revision, delay=None
        )
        self._instance = f"00{new_id()}{new_id()}"
        self._readers: list[threading.Thread] = []

    def read(self, log: Literal["stdout", "stderr"], source: IO[bytes], shown: IO[bytes]) -> None:
        """
        Read *source* to its end in a thread; copy it to *shown* at once.
        """
        thread = threading.Thread(target=self._run, args=(log, source, shown), name=f"collect-{log}", daemon=True)
        self._readers.append(thread)
        thread.start()

    def finish(self) -> None:
        """
        Wait for the end of the output, a few seconds at most: a process that the command left behind may hold it open.
        """
        for reader in self._readers:
            reader.join(_JOIN_SECONDS)

    def _run(self, log: Literal["stdout", "stderr"], source: IO[bytes], shown: IO[bytes]) -> None:
        kept = b""
        with source:
            while chunk := os.read(source.fileno(), 65_536):
                # The reader of the terminal may have gone; the entries are wanted all the same.
                with suppress(OSError, ValueError):
                    shown.write(chunk)
                    shown.flush()
                *lines, kept = (kept + chunk).split(b"\n")
                if len(kept) > _MOST:
                    lines, kept = [*lines, kept], b""
                for line in lines:
                    self._line(log, line)
        self._line(log, kept)

    def _line(self, log: Literal["stdout", "stderr"], line: bytes) -> None:
        if text := line.decode("utf-8", "replace").rstrip("\r"):
            self._logs.line(log, text, self._instance)

"""
The log of one task, for people: read within a budget of its own, so that recovery keeps its share of the project's quota.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gcp_oncetask import forks
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import OncetaskError, RequestLogError, UsageError
from gcp_oncetask.observe.log_filters import MAX_FILTER
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.services.cloud_logging import CloudRequestLog, Findings, RequestLog, exported_line, spend

_FRESH: Final = 60.0
"""An answer is used again for so many seconds."""
_FAILED: Final = 10.0
"""A failure is used again for so many seconds, so that the threads that wait do not all ask a log that is slow."""
_MOST_PAGES: Final = 3
_MOST_KEPT: Final = 30


@dataclass(slots=True)
class _KeptAnswer:
    mutex: threading.Lock = field(default_factory=threading.Lock)
    asked: Mark | None = None
    found: Findings = field(default_factory=lambda: Findings([]))


@dataclass(slots=True)
class _Budget:
    generation: int
    mutex: threading.Lock = field(default_factory=threading.Lock)
    calls: deque[Mark] = field(default_factory=deque)
    answers: dict[str, _KeptAnswer] = field(default_factory=dict)


class TaskLog:
    """
    Cloud Logging, asked by people.

    ``entries.list`` allows 60 calls a minute for the whole project. A process makes at most *per_minute* of them for
    people, beside those of recovery, and an answer about a task is repeated for 60 seconds. The threads that ask about one
    task at the same time share one call.

    Args:
        log: The log of the deployment.
        clock: Measures the budget.
        per_minute: Calls per minute, further pages included.
    """

    def __init__(self, log: RequestLog, clock: Clock, *, per_minute: int = 10) -> None:
        self._log = log
        self._clock = clock
        self._per_minute = per_minute
        self._process = _Budget(forks.generation)

    def lines(self, name: str, wanted: Callable[[], str]) -> Findings:
        """
        Return the lines that fit a filter; of more than 3,000 the newest ones. It never raises an error of the log:
        ``trouble`` of the result names it, and the result has the lines that were read before it.

        Args:
            name: Name under which the answer is kept.
            wanted: Returns the filter.
        """
        if not isinstance(self._log, CloudRequestLog):
            message = "This deployment reads its evidence from a log of its own, which people must read for themselves."
            return Findings([], trouble=RequestLogError(message))
        process = self._here()
        with process.mutex:
            answer = process.answers.setdefault(name, _KeptAnswer())
            while len(process.answers) > _MOST_KEPT:
                del process.answers[next(iter(process.answers))]
        with answer.mutex:
            now = self._clock.mark()
            age = None if answer.asked is None else elapsed(answer.asked, now)
            if age is None or age >= (_FRESH if answer.found.trouble is None else _FAILED):
                answer.asked, age = now, 0.0
                answer.found = self._ask(process, self._log, wanted)
            return Findings(answer.found, age, answer.found.trouble)

    def _ask(self, process: _Budget, log: CloudRequestLog, wanted: Callable[[], str]) -> Findings:
        found = Findings([])
        try:
            asked, token = wanted(), ""
            if len(asked) > MAX_FILTER:
                raise RequestLogError("The path of the document is too long to search the logs for.")
            for _ in range(_MOST_PAGES):
                with process.mutex:
                    spend(process.calls, self._clock.mark(), self._per_minute)
                lines, token = log.page(asked, token)
                found.extend(lines)
                if not token:
                    return found
            raise RequestLogError(f"Cloud Logging has more lines than the {len(found):,} newest, which were read.")
        except RequestLogError as error:
            found.trouble = error
        except OncetaskError as error:
            found.trouble = RequestLogError(f"Cloud Logging was not asked: {error}")
        return found

    def _here(self) -> _Budget:
        if self._process.generation != forks.generation:
            self._process = _Budget(forks.generation)
        return self._process


def exported_lines(text: str) -> list[Line]:
    """
    Return the lines in a file of exported log entries: a JSON array, or one JSON object per line or after the other.

    Raises:
        UsageError: The text is no such file; the message names the place.
    """
    entries = []
    for number, entry in enumerate(_objects(text), 1):
        try:
            entries.append(exported_line(entry))
        except (ValueError, TypeError, AttributeError) as error:
            message = (
                f"Entry {number} of the file is no log entry ({error}); export with gcloud logging read --format=json."
            )
            raise UsageError(message) from None
    return entries


def _objects(text: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.removeprefix("\ufeff")
    while (at := _after_space(text, at)) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            line = text.count("\n", 0, at) + 1
            message = f"The file is no JSON from line {line} on; export with gcloud logging read --format=json."
            raise UsageError(message) from None
        found += value if isinstance(value, list) else [value]
    return found


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at

"""
One task or chain on one screen: the facts by which a person decides, and the commands that decide.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple

from gcp_oncetask.checks.urls import without_data
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli.tables import ShownTimes, cut, span
from gcp_oncetask.finding.searching import since_of
from gcp_oncetask.observe.log_filters import logs_link
from gcp_oncetask.rules import attention, choices
from gcp_oncetask.rules.choices import LastAttempt, Prepared
from gcp_oncetask.rules.evidence import Verdict
from gcp_oncetask.rules.ledger import state_rows
from gcp_oncetask.rules.record import Act, Lock, Status
from gcp_oncetask.rules.verbs import Record, Sort

_LABEL: Final = 13
_LINES: Final = 2
"""Log lines and acts of people that are shown, the last ones."""
_LONGEST: Final = 2
"""Most rows of a text."""
_KEYS: Final = 2
"""Rows of a question about runs, besides one for each run."""
_REASON: Final = 8
"""Rows of a question that tells why a handler could not go on."""
_GOES_ON: Final = "| "
"""Begin of each further row of a text."""
_AFTERWARDS: Final = timedelta(minutes=1)
_NEXT: Final = " (happened: if a step follows, --next URL)"


class Around(NamedTuple):
    """
    The circumstances of a screen.

    Attributes:
        times: Tells times.
        width: Columns of the terminal.
        project: Project of the logs.
        verdict: Verdict on the holder by the present logs; None: they were not read.
        kin: Labels and texts about its parent and children.
        stored: The last entries of its journal (``ledger.state_rows``).
    """

    times: ShownTimes
    width: int
    project: str
    verdict: Verdict | None = None
    kin: tuple[tuple[str, str], ...] = ()
    stored: tuple[bytes, ...] | None = ()


def screen(record: Record, lock: Lock, around: Around) -> list[str]:
    """
    Return the lines of a chain or once-task; params, result and payload are left out. Names, links and commands have one line
    each, however long; all other lines fit the width.
    """
    rows: list[str] = []
    for label, value, most in _facts(record, lock, around):
        rows += _row(label, value, around.width, most)
    last = choices.last_attempt(record.path, lock)
    if last is not None:
        until = max(
            last.lease_ends + _AFTERWARDS, around.times.now if lock.status is Status.LEASED else last.lease_ends
        )
        rows.append(f"{'logs:':<{_LABEL}}{logs_link(around.project, last.holder, last.granted_at, until)}")
    return rows + _commands(record, lock, around.width)


def _facts(record: Record, lock: Lock, around: Around) -> Iterator[tuple[str, str, int | None]]:
    """
    Yield labels, values, and the most rows of each value; None: one row of any length, to be copied as a whole.
    """
    times, last = around.times, choices.last_attempt(record.path, lock)
    yield "document", record.path, None
    if record.task is not None:
        recurs = " (recurring)" if record.sort is Sort.RECURRING else ""
        yield "once-task", f"{record.task.kind} {record.task.id!r}{recurs}", None
    for label, text in around.kin:
        yield label, text, None
    yield "status", _status(lock, times), _LONGEST
    if (asked := choices.question(record.path, lock)) is not None:
        yield "question", asked, _rows_asked(lock)
    if last is not None:
        yield "key", last.key, None
    yield from _verdict(lock, around.verdict)
    attempt = f"attempt {lock.attempts} of {lock.max_attempts}" if lock.attempts else "not attempted yet"
    yield "sequence", f"{lock.sequence} (step {lock.step} of its chain), {attempt}, token {lock.token}", _LONGEST
    if last is not None:
        yield "lease", _lease(lock, last, times), _LONGEST
    if lock.status is Status.SCHEDULED and lock.wait_until is not None:
        yield "waits until", times.both(lock.wait_until), 1
    for label, text in state_rows(lock, around.stored):
        yield label, text, 1
    if lock.url is not None and lock.status is not Status.QUARANTINED:
        yield "target", without_data(lock.url), 1
    if lock.key is not None:
        waits = "" if lock.parked is None else ", and waits for it"
        yield "needs key", f"{lock.key}{waits}", 1
    if lock.paused:
        yield "paused", "it makes no occurrences until it is resumed", 1
    if lock.cancel_requested_at is not None:
        yield "cancelled", times.both(lock.cancel_requested_at), 1
    for error in lock.errors[-1:]:
        more = f" ({len(lock.errors)} failures)" if len(lock.errors) > 1 else ""
        yield "failed", f"attempt {error.attempt}, {times.ago(error.at)}{more}: {error.message}", _LONGEST
    for owed in lock.owed[-1:]:
        yield "owed", f"{owed.event} alert of {times.both(owed.at)}, tried {owed.tries} times: {owed.reason}", _LONGEST
    for act in lock.acts[-_LINES:]:
        said, note = _act(act, times), act.note or ""
        # A note that has no room beside its act is on a row of its own, so that it is not split.
        apart = bool(note) and len(said) + len(printable(note)) + 2 > around.width - _LABEL
        yield "act", f"{said}: {note}" if note and not apart else said, _LONGEST
        if apart:
            yield "note", note, 1


def _rows_asked(lock: Lock) -> int:
    if choices.halted(lock) is not None:
        return _REASON
    return _LONGEST if not lock.open else _KEYS + len(lock.open)


def _status(lock: Lock, times: ShownTimes) -> str:
    reason, since = attention.reason_of(lock), since_of(lock)
    said = str(lock.status)
    if reason is not None and str(reason) != said:
        said = f"{said}, {reason}"
    if since is not None:
        said = f"{said}, {times.both(since)}"
    until = attention.acknowledged_until(lock, times.now)
    if until is not None and lock.acknowledgement is not None:
        said = f"{said} ({lock.acknowledgement.by} until {times.clock(until)})"
    return said


def _verdict(lock: Lock, verdict: Verdict | None) -> Iterator[tuple[str, str, int | None]]:
    if lock.status is not Status.QUARANTINED or verdict is None:
        return
    yield "verdict", verdict.reason, _LONGEST
    for line in verdict.evidence[-_LINES:]:
        yield "log line", line, 1


def _lease(lock: Lock, last: LastAttempt, times: ShownTimes) -> str:
    of = "" if lock.instance is None else f", {lock.instance}"
    if lock.status is Status.LEASED:
        left = last.lease_ends - times.now
        ends = f"ends in {span(left)}" if left >= timedelta(0) else f"ended {span(-left)} ago"
        return f"{ends}, {times.clock(last.lease_ends)}; since {times.clock(last.granted_at)}{of}"
    return f"from {times.clock(last.granted_at)} until {times.clock(last.lease_ends)}{of}"


def _act(act: Act, times: ShownTimes) -> str:
    who = f"{act.person.said}{',' if act.claimed else ''}"
    return f"{times.ago(act.at)} {who} {act.verb}, from {act.status}"


def _row(label: str, value: str, width: int, most: int | None) -> list[str]:
    room = max(20, width - _LABEL)
    text = printable(value)
    if most is None:
        return [f"{label + ':':<{_LABEL}}{text}"]
    # A row that begins with a stored text could be taken for a fact, so it has a mark.
    lines = textwrap.wrap(text, room, subsequent_indent=_GOES_ON, break_on_hyphens=False) or [""]
    if len(lines) > most:
        lines[most - 1 :] = [cut(" ".join([lines[most - 1], *lines[most:]]), room)]
    return [f"{label + ':' if not number else '':<{_LABEL}}{line}" for number, line in enumerate(lines)]


def _commands(record: Record, lock: Lock, width: int) -> list[str]:
    found = choices.prepared(record.path, record.sort, lock)
    if not found:
        return []
    hint = _NEXT if any(one.act == "happened" for one in found) else ""
    lines = textwrap.wrap(f"Commands, for this state only{hint}:", width)
    for one in found:
        lines.append(f"  {_command(record, one)}")
        lines += textwrap.wrap(
            one.effect if one.act in choices.ANSWERS else choices.effect(lock, one.act, end=one.act == "happened"),
            width,
            initial_indent="    ",
            subsequent_indent="    ",
        )
    return lines


def _command(record: Record, one: Prepared) -> str:
    """
    Return the command for a shell in which this command has its settings. A once-task is named by kind and id if that can be
    printed.
    """
    words = list(one.arguments)
    if record.task is not None and record.task.id.isprintable() and not record.task.id.startswith("-"):
        words[1:2] = ["--kind", record.task.kind, record.task.id]
    return f"python -m gcp_oncetask {shlex.join(words)}"

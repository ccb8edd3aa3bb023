"""
The rows of a timeline, not yet in order: those of a record, of the library's lines and of the platform's request log. Pure.

A row is of an attempt, or it has only a time. Lines carry the time of the process that wrote them, and clocks differ. So
that time is shown, but only times of servers are compared: of Firestore (grants, acts, ends), of the platform (requests),
and of Cloud Logging, which notes when it got a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from gcp_oncetask.rules import ledger, waits
from gcp_oncetask.rules.act_lines import ACT, ToldAct
from gcp_oncetask.rules.delivery import path_digest
from gcp_oncetask.rules.evidence import EVENTS, MAX_LINE, OWN_LOGS, Line
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import parse_instant

SLACK: Final = timedelta(seconds=1)
"""A difference of clocks up to this is not told."""
_TOKEN: Final = re.compile(r"\beyJ[\w-]{4,}(?:\.[\w-]*){0,2}")
"""An identity token, or the beginning of one."""


class Phase(StrEnum):
    """
    The phases of an attempt in their causal order, then acts of people and gaps."""

    SCHEDULED = "scheduled"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    REFUSED = "refused"
    GRANTED = "granted"
    RENEWED = "renewed"
    JOURNAL = "journal"
    RETURNED = "returned"
    SETTLED = "settled"
    JUDGED = "judged"
    ACT = "act"
    GAP = "gap"


RANK: Final = {phase: rank for rank, phase in enumerate(Phase)}
_BEFORE_GRANT: Final = (Phase.SCHEDULED, Phase.DISPATCHED, Phase.DELIVERED, Phase.REFUSED)
_BY_EVENT: Final = {
    "started": Phase.GRANTED,
    "returned": Phase.RETURNED,
    "never-started": Phase.RETURNED,
    "evidence.unwritten": Phase.RETURNED,
    "settled": Phase.SETTLED,
    "task.refused": Phase.SETTLED,
    "task.redispatched": Phase.DISPATCHED,
    "task.undispatched": Phase.DISPATCHED,
    "task.left": Phase.DISPATCHED,
}
_TAKEN: Final = frozenset(
    {Outcome.DUPLICATE, Outcome.POSTPONED, Outcome.PARKED, Outcome.LOST_TO_LATER, Outcome.GONE, Outcome.NEWER}
)
"""Outcomes of deliveries that were accepted although no attempt ran."""
_RUN: Final = frozenset(
    {
        *(
            Outcome.COMPLETED,
            Outcome.CONTINUED,
            Outcome.SNOOZED,
            Outcome.SUSPENDED,
            Outcome.CANCELLED,
            Outcome.SETTLED,
            Outcome.RETRYING,
        ),
        *(Outcome.FAILED_ATTEMPT, Outcome.FAILED, Outcome.LOST, Outcome.UNDISPATCHED),
    }
)
"""Outcomes of deliveries in which an attempt ran."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row.

    Attributes:
        phase: The phase.
        said: The event as a sentence.
        source: ``record``, ``trail``, ``log``, ``request log``, or several of them with commas.
        at: Time to show; None: not known.
        server: Time by a server's clock, by which the row is placed; None: there is none.
        sequence: Sequence; None: not known.
        attempt: Number of the attempt; None: it is of none.
        token: Token of the attempt; for rows before its grant, the token that was current.
        floating: Whether only ``server`` tells the place of the row within its sequence.
        of_attempt: Whether the row, though its phase is before the grant, is of the attempt with ``token``.
        note: More, for a person.
    """

    phase: Phase
    said: str
    source: str
    at: datetime | None = None
    server: datetime | None = None
    sequence: int | None = None
    attempt: int | None = None
    token: int | None = None
    floating: bool = False
    of_attempt: bool = False
    note: tuple[str, ...] = field(default=())

    @property
    def round(self) -> int:
        """
        Token of the attempt in whose story the row belongs: rows before a grant belong to the next one.
        """
        token = self.token or 0
        return token + 1 if self.phase in _BEFORE_GRANT and not self.of_attempt else token


def rows_of_record(lock: Lock, created: datetime | None, ended: datetime | None) -> list[Row]:
    """
    Return the rows of a record.

    Args:
        lock: The record.
        created: Server time at which the document was created; None: not known.
        ended: Server time at which the task ended; None: it has not, or the time is not known.
    """
    rows = []
    if created is not None:
        rows.append(Row(Phase.SCHEDULED, "created", "record", created, created, 1, token=0))
    if created is None or lock.sequence > 1:
        made = (f"{lock.dispatches} Cloud Tasks were made for it",) if lock.dispatches else ()
        said = f"scheduled as step {lock.step} of its chain"
        # A sequence that a person has scheduled has no token of its own: it is behind those of the attempts before.
        token = lock.scheduled_token or max(0, lock.token - lock.attempts)
        rows.append(Row(Phase.SCHEDULED, said, "record", sequence=lock.sequence, token=token, note=made))
    rows += _grants(lock)
    for error in lock.errors:
        present = error.sequence == lock.sequence
        rows.append(
            Row(
                Phase.SETTLED,
                f"the attempt failed: {error.message}",
                "record",
                at=error.at,
                server=error.at,
                sequence=error.sequence,
                attempt=error.attempt,
                # Each grant of a sequence raises the token by one.
                token=lock.token - lock.attempts + error.attempt if present else None,
                floating=not present,
            )
        )
    for owed in lock.owed:
        said = f"an alert of {owed.event} is owed: {owed.reason}"
        tried = (f"tried {owed.tries} times",) if owed.tries else ()
        place = (owed.at, owed.at, owed.sequence, owed.attempt or None)
        rows.append(Row(Phase.JUDGED, said, "record", *place, floating=True, note=tried))
    if (needed := _attention(lock)) is not None:
        rows.append(needed)
    rows += _of_journal(lock)
    if lock.cancel_requested_at is not None:
        at = lock.cancel_requested_at
        rows.append(Row(Phase.ACT, "its cancellation was requested", "record", at, at, lock.sequence, floating=True))
    if ended is not None and lock.finished:
        rows.append(Row(Phase.SETTLED, f"ended: {lock.status}", "record", ended, ended, lock.sequence, floating=True))
    return rows


def _grants(lock: Lock) -> list[Row]:
    granted, leased = lock.granted_at, lock.leased_at
    if granted is None or lock.attempts == 0:
        return []
    place = (lock.sequence, lock.attempts, lock.token)
    where = () if lock.instance is None else (f"on {lock.instance}",)
    rows = [Row(Phase.GRANTED, "the lease was granted", "record", granted, granted, *place, note=where)]
    if leased is not None and leased > granted:
        said = "the lease was renewed, for the last time until now"
        if lock.status is not Status.LEASED:
            said = "the lease was renewed for the last time"
        rows.append(Row(Phase.RENEWED, said, "record", leased, leased, *place))
    return rows


def _of_journal(lock: Lock) -> list[Row]:
    rows = [_noted(ledger.entry_line(entry), entry.at, lock) for entry in ledger.of_record(lock)]
    unread = waits.events(lock)[-ledger.SHOWN :]
    rows += [_noted(f"unread: the event {event.name!r}, which no wait has taken", event.at, lock) for event in unread]
    if lock.wait is not None and (waited := ledger.wait_line(lock)) is not None:
        rows.append(_noted(f"it waits for {waited}", lock.wait.since, lock))
    return rows


def _noted(said: str, at: datetime, lock: Lock) -> Row:
    return Row(Phase.JOURNAL, said, "record", at, at, lock.sequence, floating=True)


def _attention(lock: Lock) -> Row | None:
    parts = (lock.attention or "").split("/")
    if len(parts) < 3:
        return None
    try:
        at = parse_instant(parts[-1])
    except ValueError:
        return None
    said = f"a person is needed: {parts[1]}"
    return Row(Phase.JUDGED, said, "record", at, at, lock.sequence, floating=True)


def rows_of_acts(acts: Iterable[ToldAct]) -> list[Row]:
    """
    Return the rows of the acts of people.
    """
    rows = []
    for told in acts:
        act = told.act
        notes = [] if act.note is None else [act.note]
        if told.stage == "intended":
            notes.append("no line says that it was done")
        said = f"{act.verb} by {act.person.said}; it was {act.status}"
        place = (act.at, act.at, act.sequence or None)
        rows.append(Row(Phase.ACT, said, told.source, *place, floating=True, note=tuple(notes)))
    return rows


def rows_of_lines(lines: Iterable[Line], clocks: Mapping[Any, timedelta]) -> list[Row]:
    """
    Return the rows of the library's own lines.

    Args:
        lines: Lines of one document; those of requests and acts are left out.
        clocks: The ``clocks_of`` these lines.
    """
    rows = []
    for line in lines:
        own = own_fields(line)
        event = str(own.get("event", ""))
        if not event or event == ACT:
            continue
        off = clocks.get(clock_of(line))
        granted = granted_at(own) if event == "started" else None
        at = line.at if off is None else line.at - off
        trail = event in EVENTS and line.log in OWN_LOGS
        phase = _phase(event)
        rows.append(
            Row(
                phase=phase,
                said=plain(_message(line, own)),
                source="trail" if trail else "log",
                at=granted or at,
                server=granted or line.received,
                sequence=number(own.get("sequence")) or None,
                attempt=number(own.get("attempt")) or None,
                token=number(own.get("token")),
                floating=event.startswith("delivery."),
                note=() if off is None else (_about_clock(off),),
            )
        )
    return rows


def _phase(event: str) -> Phase:
    outcome = event.removeprefix("delivery.")
    if outcome != event:
        if outcome in _RUN:
            return Phase.SETTLED
        return Phase.DELIVERED if outcome in _TAKEN else Phase.REFUSED
    if event.startswith("task.") and event not in _BY_EVENT:
        return Phase.SCHEDULED
    return _BY_EVENT.get(event, Phase.JUDGED)


def _message(line: Line, own: Mapping[str, Any]) -> str:
    # The message begins with the name of the attempt, which the row has in its other fields.
    said = line.text
    document = str(own.get("document", ""))
    if document and said.startswith(document):
        said = re.sub(r"^ ?\([^()]*\)", "", said.removeprefix(document)).removeprefix(": ")
    event = str(own["event"])
    return said if event in EVENTS else f"{event}: {said}"


def _about_clock(off: timedelta) -> str:
    seconds = off.total_seconds()
    where = "ahead of" if seconds > 0 else "behind"
    return f"the clock of its process is {abs(seconds):.0f} s {where} the server's"


def clocks_of(lines: Iterable[Line]) -> dict[Any, timedelta]:
    """
    Return the differences between clocks of processes and the server's, positive if a process is ahead; by ``clock_of``. A
    clock that may be right is left out.

    A process writes its start line after the grant, and Cloud Logging gets each line after it was written. A process that
    stood still in between does not count as one whose clock is wrong.
    """
    most: dict[Any, timedelta] = {}
    least: dict[Any, timedelta] = {}
    for line in lines:
        own, of = own_fields(line), clock_of(line)
        granted = granted_at(own) if own.get("event") == "started" else None
        if granted is not None:
            most[of] = min(most.get(of, timedelta.max), line.at - granted)
        if line.received is not None:
            least[of] = max(least.get(of, timedelta.min), line.at - line.received)
    behind = {of: off for of, off in most.items() if off < -SLACK}
    return {of: off for of, off in least.items() if off > SLACK} | behind


def clock_of(line: Line) -> Any:
    """
    Return the name of the clock by which *line* is dated: its attempt's, or that of its instance.
    """
    own = own_fields(line)
    # Other lines name the holder that they judge.
    if own.get("event") in EVENTS and own.get("holder"):
        return own["holder"]
    return line.resource, line.instance, line.log


def own_fields(line: Line) -> dict[str, Any]:
    """
    Return the library's own fields of *line*, which are empty in lines of others.
    """
    own = line.payload.get("oncetask")
    return own if isinstance(own, dict) else {}


def granted_at(own: Mapping[str, Any]) -> datetime | None:
    """
    Return the server's time of the grant in the fields of a start line; None: an older release wrote it.
    """
    try:
        return parse_instant(str(own["grantedAt"]))
    except (KeyError, ValueError):
        return None


def lines_of(document: str, env: str, trace: str | None, lines: Iterable[Line]) -> list[Line]:
    """
    Return those of *lines* that are about the document, each once, in an order that does not depend on theirs.
    """
    found = {}
    for line in lines:
        if line.log == "requests":
            named = query_of(line.url).get("oncetask_document")
            about = named in (document, path_digest(document)) or (
                named is None and trace is not None and line.trace == trace
            )
        else:
            own = own_fields(line)
            about = bool(own.get("event")) and own.get("document") == document and own.get("env") == env
        if about:
            found[line.log, line.at, line.insert_id] = line
    return [found[key] for key in sorted(found)]


def merged(rows: Iterable[Row]) -> list[Row]:
    """
    Return *rows*; those that tell of one event by several sources are one.
    """
    found: dict[Any, Row] = {}
    for row in sorted(rows, key=lambda row: (row.source != "record", row.source, row.at is None, str(row.at))):
        # The lines of an attempt are one event each; other lines may be repeated.
        once = None if row.source == "trail" else row.at
        key: Any = (row.phase, row.sequence, row.attempt, row.token, row.said, once)
        settled = row.phase is Phase.SETTLED and row.token is not None and not row.floating
        if settled or row.phase is Phase.GRANTED:
            key = (row.phase, row.token)
        found[key] = row if key not in found else _both(found[key], row)
    return list(found.values())


def _both(first: Row, more: Row) -> Row:
    """
    Return one row for two. Those of records come first: their times are the server's, their words those of every record.
    """
    sources = dict.fromkeys([*first.source.split(", "), *more.source.split(", ")])
    own = first.phase is Phase.SETTLED and first.said != more.said and first.source == "record"
    note = dict.fromkeys([*first.note, *((first.said,) if own else ()), *more.note])
    return replace(
        first,
        said=more.said,
        source=", ".join(sources),
        at=first.at or more.at,
        server=first.server or more.server,
        note=tuple(note),
    )


def plain(text: str) -> str:
    """
    Return *text* on one line and limited in length, without identity tokens.
    """
    said = " ".join(_TOKEN.sub("(token)", text).split())
    return said if len(said) <= MAX_LINE else f"{said[: MAX_LINE - 3]}..."


def number(value: Any) -> int | None:
    """
    Return a logged counter; None: it is none.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def query_of(url: str | None) -> dict[str, str]:
    """
    Return the parameters of a URL; of one that is given twice, the first value.
    """
    try:
        said = parse_qs(urlsplit(url or "").query, max_num_fields=100)
    except ValueError:
        return {}
    return {name: values[0] for name, values in said.items()}

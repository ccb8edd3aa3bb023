"""
The timeline: the life of one task as a list in causal order, from its record, the lines in the logs, and acts of people.
Pure.

The order is that of sequences, of fencing tokens, and of the phases of an attempt. A delivery that became no attempt, and an
act of a person, have no token: they stand where their time, by a server's clock, is between those of other servers.
The clocks of processes are compared with none of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from gcp_oncetask.rules.act_lines import DONE, ToldAct, merged_acts, told_acts
from gcp_oncetask.rules.document_paths import LOCKS, parse_task_path
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.record import Act, Lock
from gcp_oncetask.rules.timeline_requests import rows_of_requests
from gcp_oncetask.rules.timeline_rows import (
    RANK,
    Phase,
    Row,
    clocks_of,
    lines_of,
    merged,
    plain,
    rows_of_acts,
    rows_of_lines,
    rows_of_record,
)
from gcp_oncetask.rules.timestamps import instant

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_KEPT: Final = "the logs keep lines for a limited time: 30 days, unless their bucket has another setting"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """
    One event in the life of a task.

    Attributes:
        at: Its time. That of a server, if one noted it; else that of the process which told it, without the part by which
            its clock is known to be wrong; None: not known.
        sequence: Sequence; None: not known.
        attempt: Number of the attempt within the sequence; None: it is of none.
        token: Fencing token of the attempt; None: it is of none.
        phase: The phase.
        said: The event as a sentence; a text from outside is limited in length.
        source: ``record``, ``trail``, ``log``, ``request log``, or several of them with commas; ``-`` of a gap.
        note: More, for a person; None: there is no more.
    """

    at: datetime | None
    sequence: int | None
    attempt: int | None
    token: int | None
    phase: Phase
    said: str
    source: str
    note: str | None = None

    def as_data(self) -> dict[str, Any]:
        """
        Return the entry as JSON data; times are RFC 3339 in UTC.
        """
        return {
            "at": None if self.at is None else instant(self.at),
            "sequence": self.sequence,
            "attempt": self.attempt,
            "token": self.token,
            "phase": str(self.phase),
            "said": self.said,
            "source": self.source,
            "note": self.note,
        }


def timeline(
    document: str,
    env: str,
    lock: Lock | None,
    acts: Sequence[Act] = (),
    lines: Sequence[Line] = (),
    *,
    created: datetime | None = None,
    ended: datetime | None = None,
) -> tuple[TimelineEntry, ...]:
    """
    Return the life of a task, the first event first. The order of *lines*, and lines that come twice, make no difference.

    Args:
        document: Path of the document.
        env: Environment.
        lock: The record; None: the document is gone, or its record can't be read.
        acts: The acts of people in the record.
        lines: Lines of the logs; those of other documents may be among them.
        created: Time of the document's creation, by the server's clock; None: not known.
        ended: Time of the task's end, by the server's clock; None: it has not ended, or the time is not known.
    """
    about = lines_of(document, env, None if lock is None else lock.trace, lines)
    rows = [*rows_of_lines(about, clocks_of(about)), *rows_of_requests(lock, about)]
    rows += rows_of_acts(merged_acts(told_acts(about), recorded_acts(document, acts)))
    if lock is not None:
        rows += _with_end(lock, rows, rows_of_record(lock, created, ended))
    ordered = _ordered(merged(rows))
    if not document.startswith(f"{LOCKS}/"):
        ordered = _with_gaps(ordered, lock)
    return tuple(_entry(row) for row in ordered)


def recorded_acts(document: str, acts: Sequence[Act]) -> tuple[ToldAct, ...]:
    """
    Return the acts in the record of a document in the form in which the trail has them.
    """
    name = parse_task_path(document)
    kind, task = (None, None) if name is None else (name.kind, name.id)
    return tuple(ToldAct(document, kind, task, act, DONE, "record") for act in acts)


def _with_end(lock: Lock, told: Sequence[Row], recorded: list[Row]) -> list[Row]:
    """
    Return the rows of the record. If the last attempt settled with the status in the record, that is the task's end.
    """
    settled = {row.token for row in told if row.phase is Phase.SETTLED and row.said == f"settled: {lock.status}"}
    if lock.token not in settled:
        return recorded
    said = f"ended: {lock.status}"
    return [
        replace(row, attempt=lock.attempts, token=lock.token, floating=False) if row.said == said else row
        for row in recorded
    ]


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """
    Return *rows* in order: those of attempts by sequence, token and phase, then the others in between, by server time.
    """
    ordered = sorted((row for row in rows if _is_placed(row)), key=_place)
    loose = [row for row in rows if not _is_placed(row)]
    for row in sorted(loose, key=lambda row: (_moment(row), RANK[row.phase], row.said, row.note)):
        ordered.insert(_index(ordered, row), row)
    return ordered


def _is_placed(row: Row) -> bool:
    return not row.floating and row.sequence is not None and row.token is not None


def _place(row: Row) -> tuple[Any, ...]:
    return row.sequence, row.round, RANK[row.phase], _moment(row), row.said, row.note


def _moment(row: Row) -> tuple[bool, datetime]:
    return row.server is None, row.server or _NEVER


def _index(ordered: Sequence[Row], row: Row) -> int:
    """
    Return the place of *row*: within its sequence, before the first row that a server dates later.
    """
    later = len(ordered)
    for index, each in enumerate(ordered):
        if row.sequence is not None and each.sequence is not None and each.sequence != row.sequence:
            if each.sequence > row.sequence:
                return index
            continue
        if row.server is not None and each.server is not None and each.server > row.server:
            return index
    return later


def _with_gaps(ordered: list[Row], lock: Lock | None) -> list[Row]:
    """
    Return the rows with one more for each run of tokens of which neither the logs nor the record tell: each grant raises the
    token by one, so these attempts did happen.
    """
    known = {row.token for row in ordered if row.phase in (Phase.GRANTED, Phase.RETURNED, Phase.SETTLED)}
    tokens = {token for token in known if token}
    last = max([*tokens, 0 if lock is None else lock.token])
    first = 1 if lock is not None else min(tokens, default=1)
    missing: list[list[int]] = []
    for token in range(first, last + 1):
        if token not in tokens:
            if missing and missing[-1][-1] == token - 1:
                missing[-1][1:] = [token]
            else:
                missing.append([token])
    for run in missing:
        here = (index for index, row in enumerate(ordered) if _is_placed(row) and row.round > run[-1])
        ordered.insert(next(here, len(ordered)), _gap(run))
    return ordered


def _gap(run: Sequence[int]) -> Row:
    count = run[-1] - run[0] + 1
    tokens = f"the attempt with token {run[0]}"
    if count > 1:
        tokens = f"{count} attempts, with tokens {run[0]} to {run[-1]}"
    return Row(Phase.GAP, f"nothing is known of {tokens}", "-", note=(_KEPT,))


def _entry(row: Row) -> TimelineEntry:
    before = row.phase in (Phase.SCHEDULED, Phase.DISPATCHED) or row.floating
    note = "; ".join(plain(text) for text in row.note if text)
    return TimelineEntry(
        at=row.at,
        sequence=row.sequence,
        attempt=row.attempt,
        token=None if before or not row.token else row.token,
        phase=row.phase,
        said=plain(row.said),
        source=row.source,
        note=note or None,
    )

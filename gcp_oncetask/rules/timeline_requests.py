"""
The rows of a timeline that the platform's request log gives: deliveries with their answers, refused ones included. Pure.

A delivery's URL names document and sequence. The trace tells which request an attempt was granted in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timeline_rows import Phase, Row, granted_at, number, own_fields, plain, query_of

_NEAR: Final = timedelta(seconds=5)
"""A request's entry and the grant in it may differ by this much more than the request took."""
_TURNED_AWAY: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class _Grant:
    sequence: int | None
    attempt: int | None
    token: int
    trace: str
    at: datetime | None


def rows_of_requests(lock: Lock | None, lines: Sequence[Line]) -> list[Row]:
    """
    Return the rows of the deliveries in the request log: of each attempt the one in which it was granted, and all that
    became no attempt, with their statuses.

    Args:
        lock: The record of the document; None: not known.
        lines: Lines of the document.
    """
    grants: dict[str, list[_Grant]] = defaultdict(list)
    for grant in _known_grants(lock, lines):
        grants[grant.trace].append(grant)
    rows, taken = [], set()
    asked = [line for line in lines if line.log == "requests"]
    # Of the requests that may have got a grant, the latest has got it: those before were answered.
    for line in sorted(asked, key=lambda line: line.at, reverse=True):
        named = query_of(line.url)
        sequence = number(named.get("oncetask_sequence"))
        fitting = [grant for grant in grants[line.trace or ""] if _got(line, sequence, grant)]
        got = next((grant for grant in fitting if grant.token not in taken), None)
        if got is not None:
            taken.add(got.token)
        rows.append(_request(line, named, sequence, got))
    return rows


def _known_grants(lock: Lock | None, lines: Iterable[Line]) -> list[_Grant]:
    found = {}
    for line in lines:
        own = own_fields(line)
        token = number(own.get("token"))
        if own.get("event") == "started" and line.trace and token is not None:
            sequence, attempt = number(own.get("sequence")), number(own.get("attempt"))
            found[token] = _Grant(sequence, attempt, token, line.trace, granted_at(own))
    if lock is not None and lock.trace and lock.attempts and lock.granted_at is not None:
        found[lock.token] = _Grant(lock.sequence, lock.attempts, lock.token, lock.trace, lock.granted_at)
    return list(found.values())


def _got(line: Line, sequence: int | None, grant: _Grant) -> bool:
    """
    Tell whether the request of *line* may have got the *grant*, whose trace it has. Other requests may share the trace.
    """
    if line.status in _TURNED_AWAY or (sequence is not None and sequence != grant.sequence):
        return False
    end = line.at + timedelta(seconds=line.latency or 0)
    return grant.at is None or line.at - _NEAR <= grant.at <= end + _NEAR


def _request(line: Line, named: Mapping[str, str], sequence: int | None, grant: _Grant | None) -> Row:
    status = line.status or 0
    took = "" if line.latency is None else f" after {line.latency:.1f} s"
    answered = f"HTTP {status}" if status else "no status"
    notes = [f"Cloud Task {number} of the sequence" for number in (named.get("oncetask_dispatch"),) if number]
    if not line.instance and status >= 400:
        notes.append("the platform answered in place of the service")
    if line.text:
        notes.append(plain(line.text))
    refused = grant is None and 400 <= status < 500
    return Row(
        phase=Phase.REFUSED if refused else Phase.DELIVERED,
        said=f"a delivery to {_host(line.url)} was answered with {answered}{took}",
        source="request log",
        at=line.at,
        server=line.at,
        sequence=sequence if grant is None else grant.sequence,
        attempt=None if grant is None else grant.attempt,
        token=None if grant is None else grant.token,
        floating=grant is None,
        of_attempt=grant is not None,
        note=tuple(notes),
    )


def _host(url: str | None) -> str:
    try:
        return urlsplit(url or "").hostname or "the service"
    except ValueError:
        return "the service"

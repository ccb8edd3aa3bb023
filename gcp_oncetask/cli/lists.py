"""
``list`` prints the records that need a person, or those of a status; ``running`` prints those that are leased now.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from gcp_oncetask.checks import values
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import tables, watching
from gcp_oncetask.cli.options import add_filters, age, wanted_of
from gcp_oncetask.cli.tables import Cell, Colour, Column, ShownTimes, span
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.execution.takeover import judge_all
from gcp_oncetask.finding import searching
from gcp_oncetask.finding.criteria import Criteria, criteria
from gcp_oncetask.finding.searching import FoundRecord, Page
from gcp_oncetask.rules import expires_at
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.evidence import Verdict
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime import requirements
from gcp_oncetask.store.snapshot import Snapshot

_COLUMNS: Final = (
    Column("task", 60),
    Column("reason"),
    Column("status"),
    Column("since"),
    Column("step", right=True),
    Column("attempts", right=True),
    Column("last error", 80),
    Column("key", 30),
)
_RUNNING: Final = (
    Column("task", 60),
    Column("step", right=True),
    Column("attempt", right=True),
    Column("instance", 40),
    Column("running for"),
    Column("lease"),
    Column("run limit"),
)
_SORTED: Final = 10_000
"""Most records that are read to sort them."""
_SORTS: Final[Mapping[str, Callable[[FoundRecord], Any]]] = {
    "since": lambda row: (row.since is None, row.since),
    "newest": lambda row: (row.since is None, 0 if row.since is None else -row.since.timestamp()),
    "task": lambda row: (row.kind or "", row.id if row.kind else row.path),
    "reason": lambda row: (row.reason is None, str(row.reason)),
    "status": lambda row: row.status,
    "attempts": lambda row: -row.attempts,
    "key": lambda row: (row.key is None, row.key or ""),
}
"""Orders of a list."""
_GRAVE: Final = frozenset({Reason.FAILED, Reason.QUARANTINED, Reason.STUCK, Reason.DAMAGED})
_SUSPENDED: Final = 0.5
"""Part of a lease after which its renewal is overdue: it is renewed after a third of its length."""


def add_to(commands: Any) -> None:
    """
    Add the commands to the parser's *commands*.
    """
    one = commands.add_parser(
        "list",
        help="print the records that need a person, the oldest first; with --status those of a status",
        description="Without --status and --key: the records that need a person, the oldest first. An index serves the "
        "search: lock.attention, lock.due, state or resource. Without one, --scan reads all documents, one read each.",
    )
    add_filters(one)
    one.add_argument("--scan", action="store_true", help="read all documents if no index serves the search")
    one.add_argument(
        "--sort",
        choices=tuple(_SORTS),
        default="since",
        help=f"order of the rows (default: since, the oldest first); for another order up to {_SORTED:,} records are read",
    )
    one.add_argument("--watch", action="store_true", help="show the list again and again, until Ctrl-C")
    one.add_argument("--every", type=age, metavar="TIME", help="with --watch: from 2s to 60s (default: 5s)")
    _add_output(one)
    one.set_defaults(run=_list, needs=requirements.STORE)
    one = commands.add_parser(
        "running", help="print the records that are leased now, the one with the least lease first"
    )
    one.add_argument("--kind", help="once-tasks of this kind")
    one.add_argument("--collection", metavar="PATH", help="records of this collection or template (default: all)")
    one.add_argument(
        "--evidence",
        action="store_true",
        help="add what the logs show of each holder so far, by one query for all of them",
    )
    _add_output(one)
    one.set_defaults(run=_running, needs=requirements.STORE)


def _add_output(one: argparse.ArgumentParser) -> None:
    one.add_argument("--limit", type=int, default=50, help="most records (default: %(default)s)")
    one.add_argument("--all", action="store_true", help="all records, page by page")
    one.add_argument("--json", action="store_true", help="one JSON object a line, with its schema")
    tables.add_tz(one)


class _ListedRows(NamedTuple):
    # The rows of a list, in the order that was asked for, and sentences beside them.
    rows: Iterator[FoundRecord]
    read: datetime
    left_out: str
    more: str


def _list(locker: Locker, chosen: argparse.Namespace) -> int:
    wanted = wanted_of(chosen)
    if chosen.watch:
        if chosen.json:
            raise UsageError("--watch is for people; a program calls list --json again and again.")
        return watching.watch(runtime_of(locker), lambda: _screen(locker, wanted, chosen), chosen.every, chosen.tz)
    if chosen.every is not None:
        raise UsageError("--every is the time between two reads of --watch; give both, or neither.")
    found = _read(locker, wanted, chosen)
    if found.left_out:
        tables.aside(found.left_out)
    row = next(found.rows, None)
    if row is None:
        tables.aside(_nothing(locker, wanted))
        return 0
    rows = itertools.chain([row], found.rows)
    if chosen.json:
        tables.out(tables.json_line("oncetask.record/1", _data(each)) for each in rows)
        return 0
    times = ShownTimes(found.read, chosen.tz)
    tables.out(tables.table(_COLUMNS, (_cells(each, times) for each in rows), colours=tables.coloured(sys.stdout)))
    if found.more:
        tables.aside(found.more)
    return 0


def _read(locker: Locker, wanted: Criteria, chosen: argparse.Namespace) -> _ListedRows:
    pages = _pages(locker, wanted, chosen)
    first = next(pages)
    read = first.read or runtime_of(locker).store.estimate()
    items = itertools.chain(first.items, (row for page in pages for row in page.items))
    more = f"There are more than {chosen.limit}: add --all, or a greater --limit."
    if chosen.sort == "since":
        return _ListedRows(items, read, first.left_out, "" if first.next is None or chosen.all else more)
    found = list(itertools.islice(items, _SORTED + 1))
    rows = sorted(found[:_SORTED], key=lambda row: (_SORTS[chosen.sort](row), row.path))
    most = len(rows) if chosen.all else chosen.limit
    more = more if most < len(rows) else ""
    if len(found) > _SORTED:
        more = f"There are more than {_SORTED:,} records, and the oldest of them were sorted: add filters."
    return _ListedRows(iter(rows[:most]), read, first.left_out, more)


def _screen(locker: Locker, wanted: Criteria, chosen: argparse.Namespace) -> tuple[list[str], datetime]:
    """
    Return the lines of one view of a list that is watched, and the time of its read.
    """
    found = _read(locker, wanted, chosen)
    rows, times = list(found.rows), ShownTimes(found.read, chosen.tz)
    lines = [printable(_nothing(locker, wanted))]
    if rows:
        lines = tables.table(_COLUMNS, (_cells(each, times) for each in rows), colours=tables.coloured(sys.stdout))
    return [*lines, *map(printable, filter(None, (found.more, found.left_out)))], found.read


def _pages(locker: Locker, wanted: Criteria, chosen: argparse.Namespace) -> Iterator[Page]:
    limit = values.whole(chosen.limit, "--limit", most=searching.MOST)
    whole = chosen.all or getattr(chosen, "sort", "since") != "since"
    limit = searching.MOST if whole else limit
    page = searching.find(runtime_of(locker), wanted, limit=limit)
    yield page
    while whole and page.next is not None:
        page = searching.find(runtime_of(locker), wanted, limit=limit, after=page.next)
        yield page


def _nothing(locker: Locker, wanted: Criteria) -> str:
    which = f"is {wanted.status}" if wanted.status is not None else "needs a person"
    if wanted.dismissed:
        which = "is dismissed"
    narrow = any((wanted.kind, wanted.collection, wanted.key, wanted.reason, wanted.older_than, wanted.newer_than))
    return f"No record of environment {locker.config.env} {which}{' and fits the filters' if narrow else ''}."


def _name(row: FoundRecord) -> str:
    return row.path if row.kind is None else f"{row.kind} {row.id}"


def _cells(row: FoundRecord, times: ShownTimes) -> list[str | Cell | None]:
    reason = None if row.reason is None else str(row.reason)
    if row.acknowledged_until is not None:
        reason = f"{reason} ({row.acknowledged_by or 'a program'} until {times.clock(row.acknowledged_until)})"
    colour = Colour.RED if row.reason in _GRAVE else None
    return [
        _name(row),
        None if reason is None else Cell(reason, colour),
        row.status,
        None if row.since is None else times.both(row.since),
        str(row.step) if row.lock is not None else None,
        f"{row.attempts}/{row.max_attempts}" if row.lock is not None else None,
        row.last_error,
        row.key,
    ]


def _data(row: FoundRecord) -> dict[str, Any]:
    """
    Return a row for programs: the attributes of ``FoundRecord`` but the lock; times are in UTC.
    """
    found = {each.name: getattr(row, each.name) for each in dataclasses.fields(row) if each.name != "lock"}
    for name in ("since", "acknowledged_until"):
        found[name] = None if found[name] is None else instant(found[name])
    return found


# --- running ----------------------------------------------------------------------------------------------------------


def _running(locker: Locker, chosen: argparse.Namespace) -> int:
    wanted = criteria(status="leased", kind=chosen.kind, collection=chosen.collection)
    pages = list(_pages(locker, wanted, chosen))
    rows = [(row, row.lock) for page in pages for row in page.items if row.lock is not None]
    if not rows:
        tables.aside(f"No record of environment {locker.config.env} is leased.")
        return 0
    rows.sort(key=lambda pair: (expires_at(pair[1]), pair[0].path))
    verdicts: list[Verdict | None] = [None] * len(rows)
    if chosen.evidence:
        leased = [Snapshot(row.path, None, None, lock, pages[-1].read) for row, lock in rows]
        verdicts = [each.verdict for each in judge_all(runtime_of(locker), leased)]
    if chosen.json:
        tables.out(
            tables.json_line(
                "oncetask.running/1",
                _data(row)
                | {"instance": lock.instance, "holder": lock.holder, "token": lock.token}
                | {"lease_ends": instant(expires_at(lock))}
                | _evidence(verdict),
            )
            for (row, lock), verdict in zip(rows, verdicts, strict=True)
        )
        return 0
    times = ShownTimes(pages[-1].read or runtime_of(locker).store.estimate(), chosen.tz)
    columns = (*_RUNNING, Column("evidence so far", 80)) if chosen.evidence else _RUNNING
    cells = [
        _running_cells(row, lock, times) + ([] if verdict is None else [verdict.reason])
        for (row, lock), verdict in zip(rows, verdicts, strict=True)
    ]
    tables.out(tables.table(columns, cells, colours=tables.coloured(sys.stdout)))
    if pages[-1].next is not None:
        tables.aside(f"There are more than {chosen.limit}: add --all, or a greater --limit.")
    return 0


def _evidence(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    return {"finding": str(verdict.finding), "reason_of_finding": verdict.reason, "evidence": list(verdict.evidence)}


def _running_cells(row: FoundRecord, lock: Lock, times: ShownTimes) -> list[str | Cell | None]:
    assert lock.granted_at is not None
    assert lock.leased_at is not None
    ends, quiet = expires_at(lock), (times.now - lock.leased_at).total_seconds()
    lease: Cell | str = f"ends {times.ago(ends)}"
    if ends <= times.now:
        lease = Cell(f"late: ended {times.ago(ends)}", Colour.RED)
    elif quiet > lock.lease_seconds * _SUSPENDED:
        lease = Cell(f"{lease}, suspended? renewed {times.ago(lock.leased_at)}", Colour.YELLOW)
    left = lock.run_limit_seconds - (times.now - lock.granted_at).total_seconds()
    limit = "passed" if left <= 0 else f"in {int(left)} s"
    return [
        _name(row),
        str(row.step),
        f"{row.attempts}/{row.max_attempts}",
        lock.instance,
        span(times.now - lock.granted_at),
        lease,
        limit,
    ]

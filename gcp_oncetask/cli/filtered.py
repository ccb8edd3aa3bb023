"""
An act on all records that fit a filter: the question before it, a report for each record, and the sum.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, tables
from gcp_oncetask.cli.options import FILTERS, add_filters, filters_of, wanted_of
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.operate import many
from gcp_oncetask.operate.acts import Decision
from gcp_oncetask.operate.many import ActReport
from gcp_oncetask.operate.persons import person_of
from gcp_oncetask.rules.timestamps import instant, parse_instant

_PROGRESS: Final = 2.0
"""Seconds between two lines of progress."""
_OPTIONS: Final = ("cut_off", "rate", "report", "dry_run", "json")
_DRY: Final = "Nothing was done. To do it to these records alone:"


def add_options(one: argparse.ArgumentParser) -> None:
    """
    Add the filters and the options of an act on many records.
    """
    add_filters(one, of_kind=False)
    one.add_argument("--scan", action="store_true", help="read all documents if no index serves the search")
    one.add_argument(
        "--dry-run", action="store_true", help="count the records, and print the command for them; do nothing"
    )
    one.add_argument(
        "--cut-off",
        type=_time,
        metavar="TIME",
        help="leave out records that fit only since then; a dry run prints it (default: now)",
    )
    one.add_argument("--rate", type=_rate, metavar="N/s", help="most acts per second, like 50/s (default: no limit)")
    one.add_argument("--report", type=Path, metavar="FILE", help="append the reports to a file, as JSON lines")
    one.add_argument("--json", action="store_true", help="print the reports as JSON lines")


def _time(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-01-31T03:00:00.000000Z") from None


def _rate(text: str) -> float:
    try:
        found = float(text.removesuffix("/s"))
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate like 50/s")
    return found


def check_one(chosen: argparse.Namespace) -> None:
    """
    Check that no option of many records is given with a document.

    Raises:
        UsageError: One is.
    """
    names = [name for name in (*FILTERS, *_OPTIONS) if name != "kind" and getattr(chosen, name, None)]
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(f"{options}: for all records that fit, leave the document out. Nothing was done.")


def run(locker: Locker, chosen: argparse.Namespace, decision: Decision) -> int:
    """
    Ask, act and report.

    Returns:
        Exit code: 0 all done or skipped, 1 a record was refused, or the run was stopped, or a person said no.

    Raises:
        UsageError: No filter is set; or standard input is no terminal, and ``--yes`` is not given.
    """
    if not filters_of(chosen):
        raise UsageError(f"{chosen.verb}: give a document, or a filter such as --reason or --kind. Nothing was done.")
    if chosen.if_version is not None:
        raise UsageError("--if-version is for one document. Nothing was done.")
    wanted, cut = wanted_of(chosen), chosen.cut_off or runtime_of(locker).store.estimate()
    if chosen.dry_run or not chosen.yes:
        counts, first = many.count(many.fitting(locker, wanted, cut))
        told, number = _told(counts, [each.path for each in first], cut), counts.total()
        if chosen.dry_run or not number:
            asking.say_place(locker)
            for line in [*told, *([_DRY, _command(chosen, cut)] if number else [])]:
                print(printable(line))
            return 0
        typed = number if number > many.TYPED or decision.verb == "delete" else None
        if not asking.asked(locker, told, f"{decision.verb.capitalize()} {_number(number)}?", number=typed):
            return 1
    else:
        asking.say_place(locker)
    with _stopping() as stopped, _reports(chosen, locker, decision) as report:
        tally = Counter[str]()
        mark = runtime_of(locker).clock.mark()
        found = many.fitting(locker, wanted, cut)
        for each in many.perform_all(
            locker, found, decision, person_of(locker, chosen.by), rate=chosen.rate, stopped=lambda: bool(stopped)
        ):
            report(each)
            tally[each.outcome] += 1
            mark = _progress(locker, tally, mark)
    _sum(chosen, tally, cut, ended=not stopped)
    return 1 if tally[many.REFUSED] or stopped else 0


def _told(counts: Counter[tuple[str, str]], first: list[str], cut: datetime) -> list[str]:
    if not counts:
        return [f"No record fits the filters at {instant(cut)}."]
    more = " or more" if counts.total() == many.COUNTED else ""
    lines = [f"{_number(counts.total())}{more} fit at {instant(cut)}:"]
    lines += [f"  {number} {kind}, {reason}" for (kind, reason), number in sorted(counts.items())]
    return [*lines, f"the oldest: {', '.join(first)}"]


def _number(count: int) -> str:
    return f"{count} record{'s' * (count != 1)}"


def _command(chosen: argparse.Namespace, cut: datetime) -> str:
    words = ["python", "-m", "gcp_oncetask", chosen.verb]
    if chosen.verb == "resolve":
        words.append(chosen.how)
    for name, value in filters_of(chosen).items():
        if value is True:
            words.append(f"--{name}")
        else:
            seconds = None if isinstance(value, str) else f"{int(value.total_seconds())}s"
            words += [f"--{name.replace('_', '-')}", seconds or value]
    words += ["--scan"] * chosen.scan + ["--keep-errors"] * getattr(chosen, "keep_errors", False)
    return shlex.join([*words, "--cut-off", instant(cut), "--yes"])


# --- while it acts ----------------------------------------------------------------------------------------------------


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """
    Collect Ctrl-C instead of raising it: the record at which it comes is finished.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _reports(chosen: argparse.Namespace, locker: Locker, decision: Decision) -> Iterator[Any]:
    file: TextIO | None = None if chosen.report is None else chosen.report.open("a")

    def report(each: ActReport) -> None:
        facts = {"schema": "oncetask.act/1", "verb": decision.verb, **each._asdict()}
        line = json.dumps(facts | {"at": instant(runtime_of(locker).store.estimate())}, ensure_ascii=True)
        if file is not None:
            print(line, file=file, flush=True)
        if chosen.json:
            print(line, flush=True)
        else:
            print(printable(f"{each.outcome:<8} {each.said}"), flush=True)

    try:
        yield report
    finally:
        if file is not None:
            file.close()


def _progress(locker: Locker, tally: Counter[str], mark: Mark) -> Mark:
    now = runtime_of(locker).clock.mark()
    if not sys.stderr.isatty() or elapsed(mark, now) < _PROGRESS:
        return mark
    tables.aside(f"... {_sums(tally)}")
    return now


def _sum(chosen: argparse.Namespace, tally: Counter[str], cut: datetime, *, ended: bool) -> None:
    tables.aside(f"{chosen.verb}: {_sums(tally)}.")
    if not ended:
        tables.aside("It was stopped; the other records are as they were. To go on:")
        tables.aside(_command(chosen, cut))


def _sums(tally: Counter[str]) -> str:
    return ", ".join(f"{tally[each]} {each}" for each in (many.DONE, many.SKIPPED, many.REFUSED))

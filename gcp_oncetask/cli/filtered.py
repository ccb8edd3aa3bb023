"""
An act on all records that fit a filter: the question before it, a report for each record, and the sum.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gcp_oncetask.checks import values
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, tables
from gcp_oncetask.cli.options import FILTERS, add_filters, filters_of, rate, wanted_of
from gcp_oncetask.cli.stopping import INTERRUPTED, stoppable
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import OncetaskError, UsageError
from gcp_oncetask.finding.searching import FoundRecord
from gcp_oncetask.operate import many
from gcp_oncetask.operate.acts import Decision, consequence
from gcp_oncetask.operate.many import ActReport, Counted, Pace
from gcp_oncetask.operate.persons import person_of
from gcp_oncetask.rules.record import Person
from gcp_oncetask.rules.timestamps import instant, parse_instant

_PROGRESS: Final = (2.0, 30.0)
"""Seconds between two lines of progress: on a terminal, and elsewhere."""
_OPTIONS: Final = ("cut_off", "limit", "rate", "report")
SCHEMA: Final = "oncetask.act/1"
_DRY: Final = "Nothing was done. To do it to these records alone:"


def add_options(one: argparse.ArgumentParser) -> None:
    """
    Add the filters and the options of an act on many records.
    """
    add_filters(one, of_kind=False)
    one.add_argument("--scan", action="store_true", help="read all documents if no index serves the search")
    one.add_argument(
        "--dry-run",
        action="store_true",
        help="do nothing: say the effect, and of many records the number and the command",
    )
    one.add_argument(
        "--cut-off",
        type=_time,
        metavar="TIME",
        help="leave out records that fit only since then; a dry run prints it (default: now)",
    )
    one.add_argument("--limit", type=int, metavar="N", help="most records (default: all that fit)")
    one.add_argument("--rate", type=rate, metavar="N/s", help="most acts per second, like 50/s (default: no limit)")
    one.add_argument("--report", type=Path, metavar="FILE", help="append the reports to a file, as JSON lines")


def _time(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-01-31T03:00:00.000000Z") from None


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
        Exit code: 0 all done; 1 some were refused, or a person said no; 3 some have changed since they were found; 130
        stopped by Ctrl-C.

    Raises:
        UsageError: No filter is set; or standard input is no terminal, and ``--yes`` is not given.
    """
    decision.check()
    if not filters_of(chosen) and chosen.cut_off is None and not chosen.dry_run:
        raise UsageError(
            f"{chosen.verb}: give a document, or a filter such as --reason or --kind; for all records that need a person, begin "
            "with --dry-run. Nothing was done."
        )
    if chosen.if_version is not None:
        raise UsageError("--if-version is for one document. Nothing was done.")
    limit = None if chosen.limit is None else values.whole(chosen.limit, "--limit")
    wanted, cut = wanted_of(chosen), chosen.cut_off or runtime_of(locker).store.estimate()
    person = None if chosen.dry_run else person_of(locker, chosen.by)
    if person is not None and chosen.yes:
        asking.say_place(locker)
    else:
        most = many.COUNTED if limit is None else min(limit, many.COUNTED)
        counted = many.count(locker, many.fitting(locker, wanted, cut), decision, most)
        told = _told(locker, counted, decision, cut)
        if person is None or not counted.number:
            return _dry(locker, chosen, counted, told, cut)
        typed = counted.number if counted.number > many.TYPED or decision.verb == "delete" else None
        question = f"{decision.verb.capitalize()} {_number(counted.number)}?"
        if not asking.asked(locker, told, question, number=typed):
            return 1
    return _act(locker, chosen, decision, person, islice(many.fitting(locker, wanted, cut), limit), cut)


def _act(
    locker: Locker,
    chosen: argparse.Namespace,
    decision: Decision,
    person: Person,
    found: Iterator[FoundRecord],
    cut: datetime,
) -> int:
    clock = runtime_of(locker).clock
    tally, mark = Counter[str](), clock.mark()
    with _reports(chosen, locker, decision) as report, stoppable() as stop:
        try:
            for each in many.perform_all(locker, found, decision, person, Pace(clock, chosen.rate, stop)):
                tally[each.outcome] += 1
                if not report(each):
                    # The reports have no reader any more.
                    stop.set()
                mark = _progress(locker, tally, mark)
        finally:
            _sum(chosen, tally, cut, ended=not stop.is_set())
    if stop.is_set():
        return INTERRUPTED
    return 1 if tally[many.REFUSED] else 3 if tally[many.SKIPPED] else 0


def _dry(locker: Locker, chosen: argparse.Namespace, counted: Counted, told: list[str], cut: datetime) -> int:
    asking.say_place(locker)
    command = _command(chosen, cut)
    if not chosen.json:
        tables.out(map(printable, [*told, *([_DRY, command] if counted.number else [])]))
        return 0
    said = {
        "verb": chosen.verb,
        "cut_off": instant(cut),
        "count": counted.number,
        "more": counted.more,
        "oldest": [each.path for each in counted.oldest],
        "refused": [{"count": number, "example": example} for number, example in counted.refused],
        "command": command,
    }
    tables.out([tables.json_line("oncetask.dry-run/1", said)])
    return 0


def _told(locker: Locker, counted: Counted, decision: Decision, cut: datetime) -> list[str]:
    if not counted.number:
        return [f"No record fits the filters at {instant(cut)}."]
    more = " or more" if counted.more else ""
    fit = "fits" if counted.number == 1 and not more else "fit"
    lines = [f"{_number(counted.number)}{more} {fit} at {instant(cut)}; later ones are left alone:"]
    lines += [f"  {number} {kind}, {reason}" for (kind, reason), number in sorted(counted.by_kind.items())]
    lines += [f"the oldest: {', '.join(each.path for each in counted.oldest)}"]
    lines += [f"going to be refused: {number}, such as {example}" for number, example in counted.refused]
    try:
        return [*lines, f"of the oldest: {consequence(locker, counted.oldest[0].path, decision)}"]
    except OncetaskError as error:
        return [*lines, f"of the oldest: {error}"]


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
    for name in ("limit", "report", "step", "note", "by"):
        if (value := getattr(chosen, name, None)) is not None:
            words += [f"--{'as' if name == 'by' else name}", str(value)]
    words += [] if chosen.rate is None else ["--rate", f"{chosen.rate:g}/s"]
    if getattr(chosen, "result", None) is not None:
        words += ["--result", json.dumps(chosen.result)]
    words += [
        f"--{name.replace('_', '-')}"
        for name in ("scan", "keep_errors", "new_key", "open_runs", "json")
        if getattr(chosen, name, None)
    ]
    return shlex.join([*words, "--cut-off", instant(cut), "--yes"])


# --- while it acts ----------------------------------------------------------------------------------------------------


@contextmanager
def _reports(chosen: argparse.Namespace, locker: Locker, decision: Decision) -> Iterator[Callable[[ActReport], bool]]:
    """
    Yield a function that reports an act, and returns False if the reader has closed the pipe.
    """
    try:
        file = None if chosen.report is None else chosen.report.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The report can't be written to {chosen.report}: {error}. Nothing was done.") from None

    def report(each: ActReport) -> bool:
        at = instant(runtime_of(locker).store.estimate())
        line = tables.json_line(SCHEMA, {"verb": decision.verb, **each._asdict(), "at": at})
        if file is not None:
            print(line, file=file, flush=True)
        return tables.out([line if chosen.json else printable(f"{each.outcome:<8} {each.said}")])

    try:
        yield report
    finally:
        if file is not None:
            file.close()


def _progress(locker: Locker, tally: Counter[str], mark: Mark) -> Mark:
    now = runtime_of(locker).clock.mark()
    if elapsed(mark, now) < _PROGRESS[not sys.stderr.isatty()]:
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

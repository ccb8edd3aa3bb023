"""
``attention rebuild``: after an upgrade, make the lists complete.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, tables
from gcp_oncetask.clock import elapsed
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.finding import rebuilding
from gcp_oncetask.rules.document_paths import TASKS
from gcp_oncetask.runtime import requirements
from gcp_oncetask.store.queries import Area

_PROGRESS: Final = 2.0
"""Seconds between two lines of progress."""


def add_to(commands: Any) -> None:
    """
    Add the command to the parser's *commands*.
    """
    group: argparse.ArgumentParser = commands.add_parser(
        "attention", help="the index of the records that need a person"
    )
    one = group.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "rebuild",
        help="write the entries of records that an older release has changed",
        description="Write lock.attention of records that a release without it has failed or quarantined, and remove entries "
        "that contradict a status. Once after an upgrade; safe to repeat. Once-tasks are found by their state. Of entities all "
        "documents are read, at one read each.",
    )
    one.add_argument("--collection", metavar="PATH", help="only this collection or template (default: all)")
    one.add_argument("--dry-run", action="store_true", help="read and count; write nothing")
    asking.add_yes(one)
    one.set_defaults(run=_rebuild, needs=requirements.STORE)


def _rebuild(locker: Locker, chosen: argparse.Namespace) -> int:
    runtime = runtime_of(locker)
    areas = rebuilding.areas(runtime, chosen.collection)
    prices = [_price(area, rebuilding.price(runtime, area)) for area in areas]
    doing = "Count the wrong entries?" if chosen.dry_run else "Mend the wrong entries?"
    if not asking.asked(locker, prices, doing, yes=chosen.yes):
        return 1
    for area in areas:
        read = wrong = 0
        mark = runtime.clock.mark()
        for each in rebuilding.examine(runtime, area, write=not chosen.dry_run):
            read, wrong = read + 1, wrong + each.wrong
            if sys.stderr.isatty() and elapsed(mark, runtime.clock.mark()) >= _PROGRESS:
                mark = runtime.clock.mark()
                tables.aside(f"... {area}: {read} read, {wrong} wrong")
        done = "" if chosen.dry_run or not wrong else ", mended"
        print(printable(f"{area}: {read} read, {wrong} wrong{done}"))
    return 0


def _price(area: Area, price: int | None) -> str:
    if str(area) == TASKS:
        return f"{area}: those that have failed or are quarantined are read."
    number = "all" if price is None else f"{price:,}"
    return f"{area}: {number} documents are read, at one read each."

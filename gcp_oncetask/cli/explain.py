"""
``explain``: print the next runs of a recurrence, with notes where clocks change. Needs no configuration.
"""

from __future__ import annotations

import argparse
from typing import Any

from gcp_oncetask.checks.values import printable
from gcp_oncetask.clock import SystemClock
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence import Recurrence, cron, explain
from gcp_oncetask.tasks.recurrence.zones import read_time


def add_to(commands: Any) -> None:
    """
    Add the command to the parser's.
    """
    one = commands.add_parser("explain", help="print the next runs of a recurrence, with the effect of clock changes")
    one.add_argument("rule", help="a rule like FREQ=DAILY;BYHOUR=9, or five fields of cron")
    one.add_argument("--dtstart", metavar="TIME", help="start, like 20260131T090000 with --tz, or 20260131T080000Z")
    one.add_argument("--tz", metavar="ZONE", help="IANA name, like Europe/Berlin")
    one.add_argument(
        "--exdate", action="append", default=[], metavar="TIME", help="a run that is left out (repeatable)"
    )
    one.add_argument(
        "--rdate", action="append", default=[], metavar="TIME", help="a run beside the rule's (repeatable)"
    )
    one.add_argument("--after", metavar="TIME", help="runs after this instant, like 20260301T000000Z (default: now)")
    one.add_argument("-n", type=int, default=10, help="runs to print (default: %(default)s)")
    one.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """
    Print the runs.

    Returns:
        Exit code 0.
    """
    after = SystemClock().now() if chosen.after is None else read_time(chosen.after, "after")
    print("\n".join(map(printable, explain(_recurrence(chosen), chosen.n, after))))
    return 0


def _recurrence(chosen: argparse.Namespace) -> Recurrence:
    if "=" in chosen.rule:
        return Recurrence(chosen.rule, chosen.dtstart or "", chosen.exdate, chosen.rdate, chosen.tz)
    if chosen.dtstart:
        raise RecurrenceError("A cron line has no --dtstart; leave it out, or write a rule.", field="dtstart")
    return cron(chosen.rule, tz=chosen.tz or "UTC", exdates=chosen.exdate, rdates=chosen.rdate)

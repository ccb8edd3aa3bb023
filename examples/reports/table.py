"""
Compare the runs that every night of every customer owes with those that the warehouses have seen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from examples.reports.app import CUSTOMERS, NightlyReport
from examples.reports.promise import END, OUTAGE, Night, Owed, nights
from examples.reports.warehouses import READING, Reading
from examples.reports.year import Year

RUNS = {Owed.ON_TIME: 1, Owed.CAUGHT_UP: 1, Owed.LEFT_OUT: 0, Owed.GAP: 0}
SOON = timedelta(hours=2)
"""Longest time after the outage in which everything is caught up: the queue's longest pause between two tries."""


@dataclass(frozen=True)
class Row:
    """
    A customer's year.

    Attributes:
        report: The customer's report.
        nights: The nights, each with the runs that it owes.
        runs: Number of runs.
        wrong: Nights that did not have exactly the runs they owe, in words.
    """

    report: NightlyReport
    nights: list[Night]
    runs: int
    wrong: list[str]

    def count(self, owed: Owed) -> int:
        """
        Count the nights that owe *owed*.
        """
        return sum(night.owed is owed for night in self.nights)

    @property
    def policy(self) -> str:
        """
        The policy for nights missed in the outage.
        """
        one = self.report
        return f"all, up to {one.limit}" if one.after_outage == "all" else one.after_outage

    @property
    def decisions(self) -> str:
        """
        The results of the nights in which the clocks change.
        """
        found = [f"{n.day:%d %b} gap: no run" for n in self.nights if n.owed is Owed.GAP]
        found += [f"{n.day:%d %b} fold: first only" for n in self.nights if n.fold]
        return ", ".join(found) or "-"


def compare(report: NightlyReport, owed: list[Night], readings: Sequence[Reading], neighbours: int) -> Row:
    """
    Compare the runs that one customer's nights owe with its readings. *neighbours* is the number of customers that share
    its warehouse, itself included.
    """
    own = [reading for reading in readings if reading.customer == report.customer]
    runs: dict[datetime, list[Reading]] = {}
    for reading in own:
        runs.setdefault(reading.night, []).append(reading)
    wrong = []
    for night in owed:
        found = runs.pop(night.instant, []) if night.owed is not Owed.GAP else []
        if len(found) != RUNS[night.owed]:
            wrong.append(f"{report.customer}, night of {night.day}: {night.owed}, but there were {len(found)}")
        elif found and not _in_time(night, found[0].began, neighbours):
            wrong.append(f"{report.customer}, night of {night.day}: {night.owed}, but it began at {found[0].began}")
    wrong += [f"{report.customer}: a run for {when}, which is no night's time" for when in runs]
    return Row(report, owed, len(own), wrong)


def _in_time(night: Night, began: datetime, neighbours: int) -> bool:
    if night.owed is Owed.CAUGHT_UP:
        return OUTAGE[1] <= began < OUTAGE[1] + SOON
    return night.instant <= began <= night.instant + READING * (neighbours - 1) + timedelta(seconds=10)


def rows(year: Year) -> list[Row]:
    """
    Return the year of each customer.
    """
    sharing = Counter(report.warehouse for report in year.customers)
    return [
        compare(report, nights(report, year.end), year.warehouses.readings, sharing[report.warehouse])
        for report in year.customers
    ]


def table(found: Sequence[Row]) -> str:
    """
    Return the rows as text, in columns.
    """
    heads = ["customer", "zone", "at", "nights", "missed", "policy", "caught up", "left out", "runs", "wrong", "clocks"]
    lines = [heads]
    for row in found:
        up, out = row.count(Owed.CAUGHT_UP), row.count(Owed.LEFT_OUT)
        numbers = [len(row.nights), up + out, row.policy, up, out, row.runs, len(row.wrong)]
        lines.append(
            [row.report.customer, row.report.zone, row.report.time, *(str(each) for each in numbers), row.decisions]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def summary(year: Year, wrong: Sequence[str], seconds: float) -> str:
    """
    Return the other counts, and the verdict.
    """
    deliveries = year.cloud.tasks.dispatches
    outcomes = Counter(_outcome(record.body) for record in deliveries)
    facts = [
        ("deliveries", len(deliveries)),
        ("answered 500 in the outage", outcomes["down"]),
        ("duplicate deliveries refused", outcomes["duplicate"] + outcomes["busy"]),
        ("repeated creations refused", year.refused),
        ("reports that waited for their warehouse", outcomes["parked"]),
        ("readers that met in one warehouse", len(year.warehouses.clashes)),
        ("nights without exactly what they owe", len(wrong)),
    ]
    lines = [f"  {name:<42}{value}" for name, value in facts]
    faults = [*wrong, *year.warehouses.clashes]
    if faults:
        more = [f"and {len(faults) - 10} more"] if len(faults) > 10 else []
        verdict = "FAILED:\n" + "\n".join(f"  {fault}" for fault in [*faults[:10], *more])
    elif not all((outcomes["down"], outcomes["duplicate"], year.refused, outcomes["parked"])):
        verdict = "FAILED to prove anything: outage, duplicates and busy warehouses must all have happened."
    else:
        verdict = f"Every night had exactly what it owes: a year in {seconds:.0f} s."
    return "\n".join([*lines, "", verdict])


def _outcome(body: bytes) -> str:
    text = body.decode(errors="replace")
    return text.split('"outcome":"')[1].split('"')[0] if '"outcome":"' in text else text


def main(customers: tuple[NightlyReport, ...] = CUSTOMERS, end: datetime = END) -> int:
    """
    Play the year; the exit code is 0 only if every night had exactly the runs it owes, and all failures happened.
    """
    print(f"a year of nights; the application is down from {OUTAGE[0]:%d %B %H:%M} to {OUTAGE[1]:%d %B %H:%M} UTC")
    began = time.monotonic()
    year = Year(customers, end)
    year.run()
    found = rows(year)
    said = summary(year, [text for row in found for text in row.wrong], time.monotonic() - began)
    print(f"\n{table(found)}\n\n{said}")
    return 0 if said.splitlines()[-1].startswith("Every night") else 1

"""
The year of nightly reports: its exit status is its verdict.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples.reports.app import CUSTOMERS, NightlyReport
from examples.reports.promise import Owed, nights
from examples.reports.table import main
from gcp_oncetask.tasks import Recurrence, every

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_every_night_of_a_year_has_exactly_what_it_owes() -> None:
    """
    Four customers through outage, duplicates and clock changes: exit status 0, and the numbers are those of the policies.
    """
    done = subprocess.run(
        [sys.executable, "-m", "examples.reports"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    columns = r"^  (\w+) +\S+/\S+ +\S+ +(\d+) +(\d+) +(\S.*?)  +(\d+) +(\d+) +(\d+) +(\d+) +(\S.*)$"
    found = {row[0]: row[1:] for row in re.findall(columns, done.stdout, re.MULTILINE)}
    assert found == {
        "ackermann": ("364", "4", "latest", "1", "3", "360", "0", "29 Mar gap: no run, 25 Oct fold: first only"),
        "botha": ("364", "4", "all, up to 3", "3", "1", "363", "0", "-"),
        "carter": ("364", "4", "skip", "0", "4", "360", "0", "01 Nov fold: first only"),
        "ellis": ("365", "5", "latest", "1", "4", "360", "0", "04 Oct gap: no run, 05 Apr fold: first only"),
    }, done.stdout
    facts = dict(re.findall(r"^  ([a-z0-9][^\n]*?)  +(\d+)$", done.stdout, re.MULTILINE))
    # Berlin's summer is Johannesburg's time: the one warehouse of both is wanted twice in every one of its nights.
    assert int(facts["reports that waited for their warehouse"]) >= 200, done.stdout
    assert int(facts["duplicate deliveries refused"]) > 100, done.stdout
    assert facts["repeated creations refused"] == "44", done.stdout


def by_the_day(report: NightlyReport) -> Recurrence:
    """
    What goes without saying, and wrong: the next night is 24 hours after the last one.
    """
    first = nights(report)[0].instant
    return every(timedelta(days=1), start=first, misfire=report.after_outage)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("method", "mistake", "customers", "said"),
    [
        (
            "recurrence",
            by_the_day,
            CUSTOMERS[:1],
            "ackermann, night of 2026-03-30: one run, on time, but there were 0",
        ),
        (
            "resource_key",
            lambda _: None,
            CUSTOMERS[:2],
            "ackermann and botha read 'eu' at once at 2026-03-30 00:30 UTC",
        ),
    ],
    ids=["24 hours later", "no resource key"],
)
def test_a_mistake_in_the_application_is_found(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    mistake: object,
    customers: tuple[NightlyReport, ...],
    said: str,
) -> None:
    """
    Exit status 1, with the nights, if the application counts 24 hours, or forgets the key of the warehouse.
    """
    monkeypatch.setattr(NightlyReport, method, mistake)

    status = main(customers, datetime(2026, 4, 10, tzinfo=UTC))

    out = capsys.readouterr().out
    assert status == 1, out
    assert "FAILED" in out
    assert said in out


def test_the_promise_is_that_of_the_time_zones() -> None:
    """
    What a night owes comes from the zone alone: written down by hand for the nights in which clocks change.
    """
    owed = {(report.customer, night.day.isoformat()): night for report in CUSTOMERS for night in nights(report)}

    assert owed["ackermann", "2026-03-29"].owed is Owed.GAP
    assert owed["ackermann", "2026-10-25"].instant == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert owed["carter", "2026-11-01"].instant == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert owed["ellis", "2026-04-05"].instant == datetime(2026, 4, 4, 15, 30, tzinfo=UTC)
    assert owed["ellis", "2026-10-04"].owed is Owed.GAP
    assert {night.day.isoformat() for night in owed.values() if night.fold} == {
        "2026-04-05",
        "2026-10-25",
        "2026-11-01",
    }

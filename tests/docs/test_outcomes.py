"""
The table of outcomes is that of the code.
"""

from __future__ import annotations

import logging
import re

from gcp_oncetask.execution import endpoint
from gcp_oncetask.execution.endpoint import OUTCOME_STATUS
from gcp_oncetask.rules.outcome import Outcome
from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "reference" / "outcomes.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (\d+)([^|]*) \| ?(\w*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "": None}


def test_every_outcome_has_a_row_with_its_statuses() -> None:
    """
    In the order of the code; a status that changes with the retries is said as well.
    """
    rows = ROW.findall(PAGE.read_text())

    assert [name for name, *_ in rows] == [str(each) for each in Outcome]
    for name, status, later, *_ in rows:
        outcome = Outcome(name)
        assert int(status) == OUTCOME_STATUS[outcome], name
        last = endpoint.status_of(outcome, 1000)
        assert bool(later) == (last != OUTCOME_STATUS[outcome]), name
        assert not later or str(last) in later, name
    assert endpoint.status_of(Outcome.BUSY, 4) == 409
    assert endpoint.status_of(Outcome.BUSY, 5) == 200


def test_every_row_has_the_level_of_its_line() -> None:
    """
    Errors, and the warnings about callers.
    """
    for name, _, _, level, *_ in ROW.findall(PAGE.read_text()):
        outcome = Outcome(name)
        warned = outcome in (Outcome.UNAUTHORISED, Outcome.FORBIDDEN)
        expected = logging.ERROR if outcome in endpoint._ERRORS else logging.WARNING if warned else None
        assert LEVELS[level] == expected, name

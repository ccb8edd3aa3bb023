"""
The writes that may share a call with those of other callers.
"""

from __future__ import annotations

import pytest

from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.sharing import may_share

WAITS = Lock.of({"env": "E", "sequence": 1, "status": Status.SCHEDULED})
FIRST = WAITS.but(status=Status.LEASED, token=1, attempts=1)
SECOND = WAITS.but(status=Status.LEASED, token=2, attempts=2)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        pytest.param(None, WAITS, True, id="created"),
        pytest.param(WAITS, FIRST, True, id="claimed for the first time"),
        pytest.param(WAITS.but(attempts=1), SECOND, False, id="claimed for the second time"),
        pytest.param(FIRST, FIRST.but(settled_by="n"), False, id="renewed, or saved"),
        pytest.param(FIRST, SECOND, False, id="taken over and granted"),
        *(
            pytest.param(FIRST, FIRST.but(status=status), True, id=f"ended: {status}")
            for status in Status
            if status is not Status.LEASED
        ),
        pytest.param(WAITS, WAITS.but(status=Status.CANCELLED), False, id="cancelled while it waits"),
        pytest.param(WAITS, WAITS.but(dispatches=2), False, id="dispatched again"),
        pytest.param(WAITS.but(status=Status.COMPLETED), WAITS, False, id="scheduled again"),
    ],
)
def test_may_share_as_the_table_says(before: Lock | None, after: Lock, may: bool) -> None:
    assert may_share(before, after) is may

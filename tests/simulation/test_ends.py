"""
The check that a step whose end line was visible is not run again, on small histories.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.simulation.checks.ends import Ends
from tests.simulation.checks.wire import Record
from tests.simulation.hub import SECOND

_TEXT, _NUMBER = "", 0
_EMPTY: dict[str, Any] = {"alert_on": (), "owed": ()}


def record(status: str, token: int, **changes: Any) -> Record:
    """
    A record of sequence 2; its lease, if it has one, begins at 0.
    """
    texts = {"settled_by", "scheduled_by", "url", "queue", "due", "attention"}
    rest = {name: _TEXT if name in texts else _NUMBER for name in Record._fields}
    given = {"status": status, "sequence": 2, "token": token, "holder": f"h{token}"}
    return Record(**{**rest, **_EMPTY, "lease": 60 * SECOND, "run_limit": 600 * SECOND, **given, **changes})


@pytest.mark.parametrize(
    ("waits", "newer", "right"),
    [
        pytest.param(record("scheduled", 2), None, False, id="it is run again"),
        pytest.param(record("scheduled", 2), record("scheduled", 2, wanted=1), True, id="with a newer payload"),
        pytest.param(
            record("scheduled", 2, cancelling=True),
            record("scheduled", 2, wanted=1),
            True,
            id="with a newer payload that takes back a cancellation",
        ),
        pytest.param(
            record("scheduled", 2, wanted=1), record("scheduled", 2, wanted=1), False, id="the payload was newer before"
        ),
    ],
)
def test_step_is_not_run_again(waits: Record, newer: Record | None, *, right: bool) -> None:
    """
    A newer payload that comes while the step waits is another task.
    """
    told: list[str] = []
    refusals = SimpleNamespace(was_large=lambda path: False)
    world: Any = SimpleNamespace(hub=SimpleNamespace(now=SECOND), refusals=refusals)
    ends = Ends(world, lambda _, sentence: told.append(sentence))
    process: Any = SimpleNamespace(skew=0)
    line = {"event": "returned", "holder": "h2", "settlement": json.dumps({"kind": "complete"})}

    ends.line(process, line, 0.0)
    ends.changed("a", 0, record("leased", 2), waits)
    if newer is not None:
        ends.changed("a", 0, waits, newer)
    ends.begins("a", 0, 2, 3, cleans=False)

    assert bool(told) is not right

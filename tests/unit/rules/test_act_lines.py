"""
Acts of people as lines of the trail, and back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask.rules.act_lines import act_fields, act_line_id, merged_acts, told_acts
from gcp_oncetask.rules.evidence import Line
from gcp_oncetask.rules.record import Act
from gcp_oncetask.rules.timeline import recorded_acts

AT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
PATH = "onceTasks/ab:E:charge:42"
ACT = Act(AT, "reset", "ops-sa", True, "ann", "failed", 7, "asked")
PLAIN = Act(AT + timedelta(seconds=1), "cancel", "bob", False, None, "scheduled", 7, None)


def line(act: Act, stage: str = "done", log: str = "oncetask", **changes: Any) -> Line:
    own = {"event": "act", "document": PATH, "kind": "charge", "task": "42", "sequence": str(act.sequence)}
    own |= act_fields(act, stage) | changes
    return Line(act.at, log, "INFO", "x", {"oncetask": own}, None, "", None, None, None, None, "id")


def test_acts_come_back_as_they_were() -> None:
    """
    Oldest first, each once, with kind and id of the task.
    """
    first, second = told_acts([line(PLAIN), line(ACT), line(PLAIN)])

    assert (first.act, second.act) == (ACT, PLAIN)
    assert (first.document, first.kind, first.task, first.stage, first.source) == (
        PATH,
        "charge",
        "42",
        "done",
        "trail",
    )


def test_intended_act_that_was_done_counts_once() -> None:
    """
    In any order; alone it is told as intended.
    """
    both = [line(ACT, "intended"), line(ACT, "done")]

    assert [each.stage for each in told_acts(both)] == ["done"]
    assert [each.stage for each in told_acts(both[::-1])] == ["done"]
    assert [each.stage for each in told_acts(both[:1])] == ["intended"]


@pytest.mark.parametrize(
    "changed",
    [{"at": "yesterday"}, {"sequence": "x"}, {"event": "started"}],
)
def test_lines_that_are_no_acts_are_left_out(changed: dict[str, str]) -> None:
    """
    Damaged ones and other events; lines of other logs, in which any program writes.
    """
    assert told_acts([line(ACT, **changed), line(ACT, log="stderr")]) == ()


def test_acts_of_record_and_trail_are_one() -> None:
    """
    An act in both has both sources; an act in the record is done.
    """
    trail = told_acts([line(ACT, "intended")])
    first, second = merged_acts(trail, recorded_acts(PATH, [PLAIN, ACT]))

    assert (first.source, first.stage, first.kind) == ("record, trail", "done", "charge")
    assert (second.source, second.act) == ("record", PLAIN)
    assert recorded_acts("orders/1", [ACT])[0].kind is None


def test_id_of_a_line_is_that_of_its_act() -> None:
    """
    The same for the same act, another one for each other act, document and stage.
    """
    ids = {
        act_line_id(PATH, ACT, "done"),
        act_line_id(PATH, replace(ACT), "done"),
        act_line_id(PATH, ACT, "intended"),
        act_line_id("orders/1", ACT, "done"),
        act_line_id(PATH, replace(ACT, note="other"), "done"),
        act_line_id(PATH, replace(ACT, sequence=8), "done"),
    }

    assert len(ids) == 5
    assert all(len(each) < 100 for each in ids)

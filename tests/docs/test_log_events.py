"""
The table of events in "Logs and OpenTelemetry" has the names that the library writes into its lines.
"""

from __future__ import annotations

import ast
import re

from gcp_oncetask.logs import ContextFilter
from gcp_oncetask.rules.act_lines import ACT
from tests.support.readme import ROOT
from tests.unit.observe.test_events import EVENTS

PAGE = (ROOT / "docs" / "how-to" / "telemetry.md").read_text()


def table() -> set[str]:
    _, _, below = PAGE.partition("| event | meaning |\n")
    return {
        name for row in below.split("\n\n")[0].splitlines()[1:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    }


def test_events_are_those_of_the_library() -> None:
    """
    Those of the reporter, of calls that create tasks, of acts and of alerts that are logged.
    """
    names = {name for _, trail, _ in EVENTS.values() for name in trail}
    names |= {one.removeprefix("told ") for _, _, seen in EVENTS.values() for one in seen if one.startswith("told ")}
    manager = ast.parse((ROOT / "gcp_oncetask" / "tasks" / "manager.py").read_text())
    said = {
        call.args[0].value
        for call in ast.walk(manager)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "_say"
        if isinstance(call.args[0], ast.Constant)
    }
    written = {re.sub(r"^delivery\..*", "delivery.OUTCOME", name) for name in names}

    assert len(said) >= 2
    assert table() == written | said | {ACT, "alert.EVENT"}


def test_fields_that_the_filter_sets_are_told() -> None:
    """
    The page names two of them as the filter does.
    """
    named = set(re.findall(r"`(oncetask_\w+)`", PAGE))

    assert named
    assert named <= set(re.findall(r"``(oncetask_\w+)``", ContextFilter.__doc__ or ""))

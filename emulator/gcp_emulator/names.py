"""
Names that a user gives: of the project, the location and the queues.
"""

from __future__ import annotations

import re
from typing import Final

_QUEUE_ID: Final = "[A-Za-z0-9-]{1,100}"
_RULES: Final = {
    "project": (
        re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:_-]{0,98}[A-Za-z0-9])?"),
        "a project id has 1 to 100 letters, digits and '-', and begins and ends with a letter or digit, such as demo-local",
    ),
    "location": (
        re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"),
        "a location has 1 to 63 letters, digits and '-', such as us-central1",
    ),
    "queue": (
        re.compile(rf"(?:projects/[^/\s]+/locations/[^/\s]+/queues/)?{_QUEUE_ID}"),
        "a queue has 1 to 100 letters, digits and '-', such as mail-2, or is projects/PROJECT/locations/LOCATION/queues/QUEUE",
    ),
}


def problem(kind: str, name: object) -> str:
    """
    Return a sentence if *name* can't be the name of a ``project``, ``location`` or ``queue``, else nothing.
    """
    pattern, rule = _RULES[kind]
    if isinstance(name, str) and pattern.fullmatch(name):
        return ""
    shown = repr(name)
    return f"{shown if len(shown) <= 120 else f'{shown[:117]}...'} is no {kind}: {rule}"


def check_name(kind: str, name: object) -> None:
    """
    Check a name.

    Raises:
        ValueError: There is a ``problem``.
    """
    if sentence := problem(kind, name):
        raise ValueError(f"{sentence}.")

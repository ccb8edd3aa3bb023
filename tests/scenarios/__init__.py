"""
What each ancestor's users expect, row by row; ``python -m tests.scenarios`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Row:
    """
    One row of an ancestor's behaviour.

    Attributes:
        id: Its name.
        then: What the ancestor does.
        deviation: What this library does instead, and why; empty if the same.
    """

    id: str
    then: str
    deviation: str = ""


ROWS: dict[str, Row] = {}


def row(id_: str, then: str, deviation: str = "") -> Callable[[F], F]:
    """
    Declare the row that a test shows; the test's name begins with it.
    """

    def mark(test: F) -> F:
        expected = f"test_{id_.lower().replace('-', '_')}_"
        assert test.__name__.startswith(expected), f"{test.__name__} does not begin with {expected}"
        ROWS[id_] = Row(id_, then, deviation)
        return test

    return mark

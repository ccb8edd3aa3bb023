"""
Things that a test makes as it needs them, closed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def made_and_closed(make: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """
    The body of a fixture: a maker with the arguments of *make*, and the end of all that it has made.
    """
    made = []

    def kept(**settings: Any) -> Any:
        made.append(make(**settings))
        return made[-1]

    yield kept
    for each in made:
        each.close()

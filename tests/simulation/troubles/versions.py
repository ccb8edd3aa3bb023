"""
Two versions of the library at once: some processes are of the release before.

One task runs at a time, so the library is made that of its process before the task goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.hub import Owner
from tests.support.released import replacements


class Versions:
    """
    Which version the library is at the moment.
    """

    def __init__(self) -> None:
        self._old = replacements()
        self._new = tuple((module, name, vars(module)[name]) for module, name, _ in self._old)
        self._released = False

    def be(self, owner: Owner) -> None:
        """
        Make the library that of *owner*.
        """
        self._turn(released=getattr(owner, "released", False))

    def _turn(self, *, released: bool) -> None:
        if released is self._released:
            return
        self._released = released
        values: Any = self._old if released else self._new
        for module, name, value in values:
            setattr(module, name, value)

    @contextmanager
    def newest(self) -> Iterator[None]:
        """
        The checker reads all that is written.
        """
        before = self._released
        self._turn(released=False)
        try:
            yield
        finally:
            self._turn(released=before)

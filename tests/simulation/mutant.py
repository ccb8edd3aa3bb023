"""
One mistake in the library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """
    A text of one file replaced by another.

    Attributes:
        mistake: What it does wrong.
        file: Below the package.
        old: Occurs once.
        new: Stands in its place.
        kind: Kind of the histories that must catch it.
    """

    mistake: str
    file: str
    old: str
    new: str
    kind: str = "chains"

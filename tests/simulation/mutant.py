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
        also: File, old and new text of a second place, where two checks make good for each other.
        test: The test that must catch it instead of histories, by its pytest name.
        check: Histories are played until one trips this check, by its name in ``named_checks``; None: any check.
    """

    mistake: str
    file: str
    old: str
    new: str
    kind: str = "chains"
    also: tuple[str, str, str] | None = None
    test: str | None = None
    check: str | None = None

    @property
    def edits(self) -> list[tuple[str, str, str]]:
        """
        File, old and new text of each place.
        """
        return [(self.file, self.old, self.new), *([] if self.also is None else [self.also])]

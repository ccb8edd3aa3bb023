"""
The page of errors has every class, below the heading of its group.
"""

from __future__ import annotations

import re

from gcp_oncetask import errors
from gcp_oncetask.errors import OncetaskError
from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `(\w+Error)` \| (.*) \|$", re.MULTILINE)


def test_every_error_has_one_row() -> None:
    """
    With a cell for its cause, its catcher and the remedy.
    """
    rows = ROW.findall(PAGE.read_text())

    assert sorted(name for name, _ in rows) == sorted(errors.__all__)
    assert [name for name, cells in rows if [bool(cell.strip()) for cell in cells.split(" | ")] != [True] * 3] == []


def test_every_error_stands_below_its_base() -> None:
    """
    A chapter with a class in its heading has this class and all of its subclasses; a row names the other bases.
    """
    for chapter in PAGE.read_text().split("\n## ")[1:]:
        heading, _, body = chapter.partition("\n")
        rows = dict(ROW.findall(body))
        if found := re.match(r"`(\w+)`", heading):
            base = getattr(errors, found[1])
            assert set(rows) == {name for name in errors.__all__ if issubclass(getattr(errors, name), base)}
        for name, cells in rows.items():
            others = {each.__name__ for each in getattr(errors, name).__bases__ if not issubclass(each, OncetaskError)}
            assert others - {"Exception"} == set(re.findall(r"[Aa]lso a `(\w+)`", cells)) - {"StoreError"}, name

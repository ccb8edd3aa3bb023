"""
The tables of ``docs/reference/rules.md``, and every combination of what their columns can hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rules.md"


def table(heading: str) -> list[dict[str, str]]:
    """
    The rows of the table under the heading that names *heading*.
    """
    section = PAGE.read_text().split(f"(`{heading}`)")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def first_match(rows: list[dict[str, str]], case: dict[str, str]) -> int:
    """
    Index of the row that decides *case*.
    """
    for index, row in enumerate(rows):
        if all(row[name] in ("*", value) for name, value in case.items()):
            return index
    raise AssertionError(f"no row for {case}")


def combinations(**values: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """
    Every combination of column values.
    """
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))

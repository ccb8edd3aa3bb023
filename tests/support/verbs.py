"""
The documented table of verbs.
"""

from __future__ import annotations

from pathlib import Path

_PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text()
_ROWS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in _PAGE.split("<!-- verbs -->\n")[1].split("<!-- /verbs -->")[0].splitlines()
]
TABLE = {
    verb: {sort: {"yes": True, "no": False}[cell] for sort, cell in zip(_ROWS[0][1:], cells, strict=True)}
    for verb, *cells in _ROWS[2:]
}
"""Verb -> sort of record -> whether it has the verb."""

"""
The words of each symptom are those that the code says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "how-to" / "troubleshooting.md"
HEAD = "| words | cause | remedy |\n|---|---|---|\n"
HOLE = "\0"
PYTHONS = {"takes 1 positional argument but 2 were given"}
"""Words of Python itself."""


def test_words_of_each_symptom_are_said_by_the_code() -> None:
    """
    Each text in backticks stands in one message of the code, in which anything may stand for the three dots.
    """
    rows = symptoms()
    said = messages()
    lost = [
        text
        for row in rows
        for text in re.findall(r"`([^`]+)`", row[0])
        if text not in PYTHONS and not row[0].startswith("no words") and not any(found(text, one) for one in said)
    ]

    assert len(rows) >= 25
    assert lost == []


def test_each_symptom_has_a_cause_and_a_remedy() -> None:
    """
    And no two rows have the same words.
    """
    rows = symptoms()

    assert [row for row in rows if len(row) != 3 or not all(row)] == []
    assert len({row[0] for row in rows}) == len(rows)


def test_other_words_are_not_found() -> None:
    """
    A part of a message is found in its order only, and within one message.
    """
    assert found("a ... c", f"x a {HOLE} c")
    assert not found("c ... a", f"x a {HOLE} c")
    assert not found("b", f"x a {HOLE} c")


def symptoms() -> list[list[str]]:
    """
    The rows of the page's tables.
    """
    tables = [part.split("\n\n")[0] for part in PAGE.read_text().split(HEAD)[1:]]
    return [
        [cell.strip() for cell in row.strip("|").split(" | ")] for table in tables for row in table.strip().splitlines()
    ]


def found(text: str, message: str) -> bool:
    """
    Whether *message* has the *text*, whose dots stand for anything.
    """
    pattern = ".*".join(re.escape(part.strip()) for part in text.split("..."))
    return re.search(pattern, message, re.DOTALL) is not None


def messages() -> list[str]:
    """
    All texts in the code; what a text is filled with is a hole.
    """
    return [
        text
        for folder in ("gcp_oncetask", "emulator/gcp_emulator")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in texts(path)
    ]


def texts(path: Path) -> Iterator[str]:
    """
    The texts of a module, without its docstrings.
    """
    tree = ast.parse(path.read_text())
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)

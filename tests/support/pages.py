"""
The pages for users, and the code blocks in them.

A comment in the line above a block says how the block is tried:

====================================  ==================================================================================
``<!-- file: app.py -->``             The block is this file in the page's folder.
``<!-- output -->``                   The commands above, or the Python of the page, print this.
``<!-- output of test_x -->``         The test ``test_x`` of the page prints this.
``<!-- server until: Listening -->``  The command runs beside the later ones, which wait until it has printed this text.
``<!-- server output -->``            The server prints these lines, perhaps with others between them.
``<!-- not run: REASON -->``          The block is not tried.
``<!-- local cloud -->``              Once in a page: its commands find a local Google Cloud in their environment.
====================================  ==================================================================================

Python without a comment is part of the page's program. ``console`` without a comment is a session: a line that begins with ``$ ``
is a command, the lines below it are the output. In an output ``...`` stands for any text, and alone in a line for any lines. All
other blocks need a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.readme import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "emulator" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(
    r"^(?:<!-- (?P<how>[^>]*?) -->\n)?```(?P<language>[\w-]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
HOW = re.compile(
    r"file: (?P<file>\S+)|output(?: of (?P<test>test_\w+))?|server until: (?P<until>.+)|(?P<server>server output)"
    r"|not run: (?P<reason>.+)"
)


@dataclass(frozen=True)
class Block:
    """
    A code block: its language, its text, its comment, and the line of its first line in the page.
    """

    language: str
    text: str
    how: str
    line: int

    @property
    def asked(self) -> re.Match[str] | None:
        """
        The comment, taken apart.
        """
        return HOW.fullmatch(self.how)

    @property
    def program(self) -> bool:
        """
        Whether the block is part of the page's program.
        """
        return self.language == "python" and not self.how

    @property
    def session(self) -> bool:
        """
        Whether the block is a session of commands that end.
        """
        return self.language == "console" and not self.how


def parse(text: str) -> list[Block]:
    """
    The code blocks of a page. Blocks in braces belong to the generator of the site, not to readers.
    """
    return [
        Block(
            found["language"], found["text"], (found["how"] or "").strip(), text[: found.start("text")].count("\n") + 1
        )
        for found in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """
    Each command of a session, with the lines that it prints. A command that ends with a backslash goes on in the next line.
    """
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"line {block.line}: a session begins with a command: $ {line}")
    return found


def shows(expected: list[str], printed: list[str], *, among: bool = False) -> bool:
    """
    Whether *printed* is *expected*, or has its lines *among* others in this order.
    """
    between = "(?:.*\n)*?" if among else ""
    pattern = "".join(
        between
        + ("(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + " *\n")
        for line in expected
    )
    text = "".join(f"{line}\n" for line in printed)
    return re.fullmatch(pattern + ("(?:.*\n)*" if among else ""), text) is not None


def check(command: str, expected: list[str], code: int, printed: list[str]) -> None:
    """
    Compare the exit code and the output of *command* with the *expected* lines. Without such a line the command only has to
    succeed; the line ``exit code 1`` stands for that code.
    """
    stated = [line for line in expected if line.startswith("exit code ")]
    said = "\n".join([command, *printed])
    assert code == (int(stated[0].split()[-1]) if stated else 0), said
    shown = [line for line in expected if line not in stated]
    assert not shown or shows(shown, printed), said


def place(block: Block, folder: Path) -> None:
    """
    Write the file that *block* is into *folder*.
    """
    assert block.asked is not None
    path = folder / block.asked["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)


def name_of(page: Path) -> str:
    """
    The page's place in the project.
    """
    return str(page.relative_to(ROOT))

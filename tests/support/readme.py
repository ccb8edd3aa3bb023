"""
The code blocks of the README and of ``docs/``. ``python -m tests.support.readme`` writes the Python ones for the type checkers.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = ROOT / "build" / "typing"
"""One Python file per page that has Python blocks; a line has the number that it has in the page."""


def blocks(text: str, language: str) -> list[str]:
    """
    The contents of the blocks in *language*.
    """
    return [code for name, code in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) if name == language]


def program(text: str) -> str:
    """
    The Python blocks of a page as one program, every line at its number in the page; empty if it has none.
    """
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fence = line.startswith("```")
        fenced = line == "```python" if fence else fenced
        lines.append(line if fenced and not fence else "")
    return "\n".join(lines).rstrip() + "\n" if blocks(text, "python") else ""


def programs() -> dict[Path, str]:
    """
    What belongs into ``PROGRAMS``, by path.
    """
    pages = [ROOT / "README.md", ROOT / "emulator" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {page: program(page.read_text()) for page in pages}
    names = {page: re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")).lower()) for page in pages}
    return {PROGRAMS / f"{names[page]}.py": code for page, code in found.items() if code}


if __name__ == "__main__":
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    wanted = programs()
    for stale in set(PROGRAMS.glob("*.py")) - set(wanted):
        stale.unlink()
    for path, code in wanted.items():
        # A file that stays as it is keeps the checkers' caches warm.
        if not path.exists() or path.read_text() != code:
            path.write_text(code)

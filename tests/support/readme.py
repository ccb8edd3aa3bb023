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


COMMENT = re.compile(r"<!-- (file: (?P<file>\S+)|not run: .*|.*) -->")


def parts(text: str) -> dict[str, str]:
    """
    The Python of a page by the name of its file, "" for the page's program. Every line has its number in the page. Blocks that
    are not run are left out, and so are files that import another file of the page.
    """
    found: dict[str, list[str]] = {}
    lines = text.splitlines()
    into: str | None = None
    fenced = False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            comment = COMMENT.fullmatch(lines[number - 1]) if number else None
            fenced, into = line == "```python" and not fenced, None
            if fenced and (comment is None or comment["file"]):
                into = "" if comment is None else comment["file"]
        elif fenced and into is not None:
            found.setdefault(into, [""] * len(lines))[number] = line
    texts = {name: "\n".join(code).rstrip() + "\n" for name, code in found.items()}
    modules = "|".join(re.escape(name.removesuffix(".py")) for name in texts if name) or "-"
    return {
        name: code
        for name, code in texts.items()
        if not re.search(rf"^(?:from|import) (?:{modules})\b", code, re.MULTILINE)
    }


def programs() -> dict[Path, str]:
    """
    What belongs into ``PROGRAMS``, by path.
    """
    pages = [ROOT / "README.md", ROOT / "emulator" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = {page: re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")).lower()) for page in pages}
    return {
        PROGRAMS
        / f"{names[page]}{'_' if file else ''}{re.sub(r'[^a-z0-9]', '_', file.lower().removesuffix('.py'))}.py": code
        for page in pages
        for file, code in parts(page.read_text()).items()
    }


if __name__ == "__main__":
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    wanted = programs()
    for stale in set(PROGRAMS.glob("*.py")) - set(wanted):
        stale.unlink()
    for path, code in wanted.items():
        # A file that stays as it is keeps the checkers' caches warm.
        if not path.exists() or path.read_text() != code:
            path.write_text(code)

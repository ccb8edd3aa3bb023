"""
The checks of the simulator by name. Each call of ``broken`` in its source is a check, named by the file's place and by the
sentence, with ``…`` for each part that differs from one violation to the next.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

FOLDER = Path(__file__).parent
ESCAPED = "an error of the library or of the checker's decoder ends the history"
"""The check that is no call of ``broken``."""


class Check(NamedTuple):
    """
    One call of ``broken``.

    Attributes:
        file: Its source file.
        first: Its first line.
        last: Its last line.
        name: Its name; calls with the same sentence in one file have the same name.
    """

    file: str
    first: int
    last: int
    name: str


@cache
def checks(file: Path) -> tuple[Check, ...]:
    """
    The checks in one source file.
    """
    found = []
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if named in ("broken", "_broken") and len(call.args) == 2:
            around = [f.name for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
            if around[-1] == "_broken":
                # It only passes on what it is told.
                continue
            said = _sentence(call.args[1]) or around[-1]
            found.append(Check(str(file), call.lineno, call.end_lineno or call.lineno, f"{_place(file)}: {said}"))
    return tuple(sorted(found))


def names() -> list[str]:
    """
    The names of all checks.
    """
    files = [file for file in sorted(FOLDER.rglob("*.py")) if not file.name.startswith("test_")]
    return [*dict.fromkeys(check.name for file in files for check in checks(file)), ESCAPED]


def name_of(frame: FrameType | None) -> str:
    """
    The name of the check that *frame*, the caller of ``broken``, is in; or one of its callers, if that one passes a
    sentence on.

    Raises:
        LookupError: None of them is a check.
    """
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        for check in checks(file) if file.is_relative_to(FOLDER) else ():
            if check.first <= frame.f_lineno <= check.last:
                return check.name
        frame = frame.f_back
    raise LookupError("A violation was noted by no call of broken() in tests/simulation.")


def _place(file: Path) -> str:
    return re.sub(r"[/_](checker|history)$", "", file.relative_to(FOLDER).with_suffix("").as_posix())


def _sentence(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return None
    said = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return said if re.search(r"\w", said) else None

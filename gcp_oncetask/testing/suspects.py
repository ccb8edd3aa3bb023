"""
The source of a handler: places that make its attempts differ. Reads code, and runs nothing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final

_ORDERING: Final = frozenset({"enumerate", "list", "tuple", "zip", "iter", "next"})
_BROAD: Final = frozenset({"Exception", "BaseException"})


class HandlerSource:
    """
    The source of a handler.

    Attributes:
        file: Its file; empty: it has no source.
        tree: Its syntax tree, with the line numbers of the file; None: it has no source.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.file = ""
        self.tree: ast.AST | None = None
        try:
            lines, first = inspect.getsourcelines(fn)
            tree = ast.parse(textwrap.dedent("".join(lines)))
            self.file = inspect.getsourcefile(fn) or ""
        except (OSError, TypeError, SyntaxError):
            return
        ast.increment_lineno(tree, max(first, 1) - 1)
        self.tree = tree

    def _nodes(self) -> Iterator[ast.AST]:
        return iter(()) if self.tree is None else ast.walk(self.tree)

    def _subject(self) -> str | None:
        found = next((node for node in self._nodes() if isinstance(node, ast.FunctionDef | ast.Lambda)), None)
        return None if found is None or not found.args.args else found.args.args[0].arg

    def in_finally(self, line: int) -> bool:
        """
        Tell whether *line* lies in a ``finally``.
        """
        tries = (node for node in self._nodes() if isinstance(node, ast.Try))
        return any(_spans(node.finalbody, line) for node in tries)

    def catching(self, line: int) -> int | None:
        """
        Return the line of the ``except`` or ``finally`` that may swallow an error that is raised at *line*.
        """
        for node in reversed([node for node in self._nodes() if isinstance(node, ast.Try)]):
            if not _spans(node.body, line):
                continue
            for handler in node.handlers:
                names = (
                    {name.id for name in ast.walk(handler.type) if isinstance(name, ast.Name)}
                    if handler.type
                    else _BROAD
                )
                if names & _BROAD or "LeaseLostError" in names or "Suspended" in names:
                    return handler.lineno
            for inner in node.finalbody:
                for found in ast.walk(inner):
                    if isinstance(found, ast.Return | ast.Break | ast.Continue):
                        return found.lineno
        return None

    def assigned(self) -> list[int]:
        """
        Return the lines that change a field of the handler's subject.
        """
        subject, found = self._subject(), []
        for node in self._nodes():
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AugAssign) and any(_is_field(each, subject) for each in targets):
                found.append(node.lineno)
        return found

    def branches(self) -> list[int]:
        """
        Return the lines of branches that read the handler's subject.
        """
        subject = self._subject()
        tests = [
            (node.lineno, node.test if not isinstance(node, ast.Match) else node.subject)
            for node in self._nodes()
            if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Match)
        ]
        return [line for line, test in tests if any(_is_field(each, subject) for each in ast.walk(test))]

    def set_orders(self) -> list[int]:
        """
        Return the lines that number or list the items of a set.
        """
        sets = {
            target.id
            for node in self._nodes()
            if isinstance(node, ast.Assign) and _is_set(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        return [
            node.lineno
            for node in self._nodes()
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _ORDERING
            and any(_is_set(each, sets) for each in node.args)
        ]


def _spans(body: list[ast.stmt], line: int) -> bool:
    return bool(body) and body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _is_field(node: ast.AST | None, subject: str | None) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == subject


def _is_set(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return called or isinstance(node, ast.Set | ast.SetComp)

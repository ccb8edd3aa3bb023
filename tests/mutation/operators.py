"""
Small changes of a source file, one at a time, made on its syntax tree. They are made inside functions alone: texts for people,
annotations, defaults and assertions stay.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TypeVar

_Node = TypeVar("_Node", bound=ast.AST)
_BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_OPPOSITE = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
_TOLD = ("Refused", "CallRefused", "Lost", "Verdict", "_Facts", "instant")
"""Calls whose texts are for people; those that make errors are told by their names."""


@dataclass(frozen=True)
class Change:
    """
    One change of one file.

    Attributes:
        file: The source file.
        function: Qualified name of the outermost function around it.
        line: Line of the node that changes.
        number: Place of the node among all nodes of the file, and which of its changes this is.
        before: The text of the changed node.
        after: Its text afterwards.
        id: The same change of the same function has the same id, wherever the function stands.
    """

    file: Path
    function: str
    line: int
    number: tuple[int, int]
    before: str
    after: str
    id: str

    def code(self) -> CodeType:
        """
        Compile the whole file with the change.
        """
        tree = ast.parse(self.file.read_text())
        node = _numbered(tree)[self.number[0]]
        changed = list(_changes_of(node))[self.number[1]]
        _replace(tree, node, changed)
        return compile(ast.fix_missing_locations(tree), str(self.file), "exec", dont_inherit=True)


def changes(file: Path) -> list[Change]:
    """
    All changes of a file.
    """
    text = file.read_text()
    tree = ast.parse(text)
    numbers = {id(node): number for number, node in enumerate(_numbered(tree))}
    found = []
    for name, function in _functions(tree):
        source = ast.get_source_segment(text, function) or ""
        for place, node in enumerate(_mutable(function)):
            for variant, changed in enumerate(_changes_of(node)):
                key = f"{file.name}\n{name}\n{source}\n{place}\n{variant}"
                found.append(
                    Change(
                        file,
                        name,
                        node.lineno,
                        (numbers[id(node)], variant),
                        _short(node),
                        _short(changed),
                        hashlib.sha256(key.encode()).hexdigest()[:12],
                    )
                )
    return found


def marked(file: Path, name: str) -> CodeType:
    """
    Compile a file so that each of its functions says that it runs: it calls the built-in *name* with the file and its qualified
    name.
    """
    tree = ast.parse(file.read_text())
    for function, node in _functions(tree):
        said = ast.parse(f"{name}(({str(file)!r}, {function!r}))").body[0]
        node.body.insert(0, ast.copy_location(said, node.body[0]))
    return compile(ast.fix_missing_locations(tree), str(file), "exec", dont_inherit=True)


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.match_case):
        guard = f" if {ast.unparse(node.guard)}" if node.guard else ""
        return f"case {ast.unparse(node.pattern)}{guard}"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 110 else f"{text[:107]}..."


def _numbered(tree: ast.AST) -> list[ast.AST]:
    return list(ast.walk(tree))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """
    The outermost functions and the methods of classes, with their qualified names.
    """
    todo: list[tuple[str, ast.stmt]] = [("", statement) for statement in tree.body]
    for prefix, node in todo:
        if isinstance(node, ast.ClassDef):
            todo += [(f"{prefix}{node.name}.", statement) for statement in node.body]
        elif isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node


def _mutable(function: ast.FunctionDef) -> Iterator[ast.expr | ast.stmt]:
    """
    The nodes of its body that may change, the outer ones first.
    """
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop(0)
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                continue
            case ast.Raise():
                yield node
                continue
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _TOLD or name.endswith("Error"):
                todo += [one for one in [*node.args, *(k.value for k in node.keywords)] if not _is_text(one)]
                continue
            case ast.Call() if _is_typing(node):
                continue
            case ast.AnnAssign(value=value):
                todo += [] if value is None else [value]
                continue
            case ast.FunctionDef():
                todo += node.body
                continue
            case ast.match_case():
                todo += [node.pattern, *([node.guard] if node.guard else []), *node.body]
                continue
        if isinstance(node, ast.expr | ast.stmt):
            yield node
        todo += ast.iter_child_nodes(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_typing(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in ("cast", "TypeVar")


def _changes_of(node: ast.AST) -> Iterator[ast.AST]:  # one table of operators
    match node:
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                for table in (_BOUNDARY, _OPPOSITE):
                    if type(operator) in table:
                        yield _with(node, ops=[*node.ops[:at], table[type(operator)](), *node.ops[at + 1 :]])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for at in range(len(node.values)):
                kept = [*node.values[:at], *node.values[at + 1 :]]
                yield kept[0] if len(kept) == 1 else _with(node, values=kept)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(node.op)]())
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.If():
            yield _with(node, test=ast.Constant(False))
            yield _with(node, test=ast.Constant(True))
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Constant(value=str()) if node.value:
            yield ast.Constant(node.value + "~")
        case ast.Return(value=ast.expr()) if not _is_none(node.value):
            yield _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Call():
            if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
                other = "max" if node.func.id == "min" else "min"
                yield _with(node, func=ast.Name(other, ast.Load()))
            for at, keyword in enumerate(node.keywords):
                if keyword.arg is not None:
                    yield _with(node, keywords=[*node.keywords[:at], *node.keywords[at + 1 :]])
        case ast.Match():
            for at, case in enumerate(node.cases):
                if case.guard is not None:
                    yield _with(node, cases=[*node.cases[:at], _with(case, guard=None), *node.cases[at + 1 :]])
                if len(node.cases) > 1:
                    yield _with(node, cases=[*node.cases[:at], *node.cases[at + 1 :]])
        case _:
            pass


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: _Node, **fields: object) -> _Node:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, ast.copy_location(new, old))
                return
            if isinstance(value, list) and any(one is old for one in value):
                value[next(at for at, one in enumerate(value) if one is old)] = ast.copy_location(new, old)
                return
    raise AssertionError("The node is not in the tree.")

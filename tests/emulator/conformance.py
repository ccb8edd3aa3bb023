"""
The shape of the conformance tables: what the local Google Cloud does with each RPC and each field of a service.

A module ``conformance_NAME.py`` beside this one has a ``SERVICE``; the page shows every such module, by the order of its title.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

HERE = Path(__file__).parent
Verdict = Literal["supported", "refused", "differs"]
VERDICTS = get_args(Verdict)


class Row(NamedTuple):
    """
    One line of a table.

    Attributes:
        rpc: Name of the RPC, such as ``Commit``, or of a message that several RPCs share, such as ``StructuredQuery``.
        field: Path of a field of the request or message, such as ``writes`` or ``structured_query.limit``; empty for the RPC
            itself.
        verdict: What the local cloud does with it.
        why: For ``refused`` and ``differs`` what is done instead and why; for ``supported`` a remark, or nothing.
        test: ``test_firestore_writes.py::test_name``, a file of this folder and a test in it, without parameters.
    """

    rpc: str
    field: str
    verdict: Verdict
    why: str
    test: str


@dataclass(frozen=True)
class Service:
    """
    One service's table.

    Attributes:
        title: Heading of its section.
        name: Full name, such as ``google.firestore.v1.Firestore``.
        rows: The table.
        asked: What must have a row: fields by RPC or message, as ``requests_of`` and ``fields_of`` find them.
        about: Sentences below the heading.
        clients: Fixtures that are the real clients; each named test uses one of them. Empty: that is not checked.
    """

    title: str
    name: str
    rows: Sequence[Row]
    asked: Mapping[str, Sequence[str]]
    about: str = ""
    clients: frozenset[str] = field(default_factory=frozenset)


def requests_of(types: ModuleType, *, file: str = "") -> dict[str, list[str]]:
    """
    Return the fields of every request message of a client's *types* by the name of the RPC, which is the message's without
    ``Request``.

    Args:
        types: Such as ``google.cloud.firestore_v1.types``.
        file: Only messages of this proto file, such as ``google/logging/v2/logging.proto``; empty for all.
    """
    found = {}
    for name in sorted(dir(types)):
        if name.endswith("Request"):
            descriptor = getattr(types, name).pb().DESCRIPTOR
            if file in ("", descriptor.file.name):
                found[name.removesuffix("Request")] = [each.name for each in descriptor.fields]
    return found


def fields_of(*messages: Any) -> dict[str, list[str]]:
    """
    Return the fields of messages that several RPCs share, by the message's name.
    """
    descriptors = [message.pb().DESCRIPTOR for message in messages]
    return {descriptor.name: [each.name for each in descriptor.fields] for descriptor in descriptors}


def services() -> list[Service]:
    """
    Return the services of all modules of this folder, by title.
    """
    names = sorted(path.stem for path in HERE.glob("conformance_*.py"))
    found = [importlib.import_module(f"tests.emulator.{name}").SERVICE for name in names]
    return sorted(found, key=lambda service: service.title)


def faults(service: Service) -> Iterator[str]:
    """
    Yield a sentence for each thing that is wrong with a table.
    """
    known = [(row.rpc, row.field) for row in service.rows]
    for rpc, fields in service.asked.items():
        yield from (f"{rpc}: {each or 'the RPC'} has no row" for each in ("", *fields) if (rpc, each) not in known)
    for row in service.rows:
        of = f"{row.rpc} {row.field}".strip()
        if row.rpc not in service.asked or row.field.split(".")[0] not in ("", *service.asked[row.rpc]):
            yield f"{of}: the client has no such RPC or field"
        if known.count((row.rpc, row.field)) > 1:
            yield f"{of}: has two rows"
        if row.verdict not in VERDICTS:
            yield f"{of}: {row.verdict} is no verdict"
        if row.verdict != "supported" and not row.why:
            yield f"{of}: lacks the reason why it is {row.verdict}"
        arguments = tests_of(row.test.partition("::")[0]).get(row.test.partition("::")[2])
        if arguments is None:
            yield f"{of}: there is no test {row.test}"
        elif service.clients and not service.clients & arguments:
            yield f"{of}: {row.test} uses none of the clients {sorted(service.clients)}"


@cache
def tests_of(file: str) -> Mapping[str, frozenset[str]]:
    """
    Return the names of the arguments of every test in a *file* of this folder, by the test's name.
    """
    path = HERE / file
    if not file or not path.is_file():
        return {}
    return {
        node.name: frozenset(argument.arg for argument in node.args.args)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


HEAD = """\
# Conformance of the local cloud

Each RPC and each field of its request, as the protobuf descriptors of Google's Python clients have them. `supported` does
as Google's service is documented to do; `refused` answers with an error that says so; `differs` does something else, for
the reason given. Each row names a test that shows this through Google's own client. The tests lie in `tests/emulator`.
"""


def page() -> str:
    """
    Return the text of the page.
    """
    return "\n".join([HEAD, *(section(service) for service in services())])


def section(service: Service) -> str:
    """
    Return the heading, the sums and the table of one service.
    """
    sums = ", ".join(f"{sum(row.verdict == each for row in service.rows)} {each}" for each in VERDICTS)
    lines = [f"## {service.title}", "", f"`{service.name}`: {sums}."]
    lines += [service.about.strip()] if service.about else []
    lines += ["", "| RPC or message | fields | verdict | remark | test |", "|---|---|---|---|---|"]
    for (rpc, verdict, why, test), rows in groupby(service.rows, lambda row: (row.rpc, row.verdict, row.why, row.test)):
        shown = ", ".join(f"`{row.field}`" if row.field else "(itself)" for row in rows)
        lines.append(f"| `{rpc}` | {shown} | {verdict} | {why} | `{test}` |")
    return "\n".join([*lines, ""])

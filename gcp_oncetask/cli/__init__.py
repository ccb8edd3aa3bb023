"""
The command line: sweep, and commands for a person on call. Configured by the environment, like the library.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gcp_oncetask import ConfigError, Locker, OncetaskError, __version__, sweep
from gcp_oncetask.checks import values
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import (
    durable,
    explain,
    imported,
    index_file,
    lists,
    named,
    rebuilt,
    registered,
    replayed,
    resolving,
    show,
    timeline,
)
from gcp_oncetask.cli.options import kind
from gcp_oncetask.errors import StoreError, TaskNotFoundError, UsageError
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.runtime import requirements

_MOVED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        Exit code: 0 done, 1 failed (the reason is on standard error), 2 wrong use, 3 the document has changed since
        the person decided.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        if chosen.run is explain.run:
            return int(explain.run(chosen))
        config = requirements.checked(None, chosen.needs, also=chosen.also)
        return int(chosen.run(Locker(config=config), chosen))
    except UsageError as error:
        _complain(error)
        # A damaged file is no wrong use of the command.
        return 1 if chosen.run is index_file.write and not isinstance(error, ConfigError) else 2
    except TaskNotFoundError as error:
        hint = " A once-task is given by its id, with --kind." if getattr(chosen, "kind", "") is None else ""
        _complain(error, hint)
        return 1
    except OncetaskError as error:
        _complain(error)
        return _MOVED if error.facts.get("refusal") == Refusal.MOVED else 1


def _complain(error: OncetaskError, hint: str = "") -> None:
    # Only an error that lists several problems has several lines; other texts are kept on one line.
    lines = str(error).split("\n") if "problems" in error.facts else [str(error)]
    print("\n".join(map(printable, [f"gcp_oncetask: {lines[0]}", *lines[1:]])) + hint, file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """
    An argument parser whose messages have no control characters.

    Args:
        intermixed: Whether options may stand between the positional arguments, the first of which may be missing.
    """

    def __init__(self, *args: Any, intermixed: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._intermixed = intermixed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = True

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="python -m gcp_oncetask",
        description="Look after locked documents. Configured by the environment (ONCE_TASK_ENV, GOOGLE_CLOUD_PROJECT, ...).",
    )
    parser.add_argument("--version", action="version", version=f"gcp-oncetask {__version__}")
    parser.set_defaults(needs=(), also=())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("sweep", help="dispatch again, judge expired leases, send owed alerts, remind people")
    one.add_argument(
        "--collection",
        action="append",
        default=[],
        metavar="PATH",
        help="a collection to look at, like orders or customers/{customer}/orders (repeatable; else those of once-tasks, "
        "those in which this environment has scheduled, and ONCETASK_COLLECTIONS)",
    )
    one.add_argument("--limit", type=int, default=10_000, help="documents at most (default: %(default)s)")
    one.set_defaults(run=_sweep, needs=requirements.STORE, also=requirements.DISPATCH)
    show.add_options(_on_document(commands, "show", "print the lock of a document", show.run, requirements.STORE))
    resolving.add_to(commands, _on_document)
    durable.add_to(commands, _on_document)
    lists.add_to(commands)
    rebuilt.add_to(commands)
    imported.add_to(commands)
    timeline.add_options(
        _on_document(commands, "timeline", "print the life of a task in causal order", timeline.run, ())
    )
    timeline.add_acts(
        _on_document(commands, "acts", "print the acts of people", timeline.run_acts, requirements.STORE, optional=True)
    )
    replayed.add_to(commands)
    explain.add_to(commands)
    registered.add_to(commands)
    named.add_to(commands)
    index_file.add_to(commands)
    return parser


def _on_document(
    commands: Any,
    name: str,
    help_: str,
    run: Any,
    needs: Sequence[requirements.Need],
    *,
    optional: bool = False,
    **more: Any,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_, description=f"{help_.capitalize()}.", **more
    )
    count = "?" if optional else None
    parser.add_argument(
        "document", nargs=count, help="path of the document, like orders/42; with --kind the id of a once-task"
    )
    parser.add_argument("--kind", type=kind, help="kind of the once-task, like charge-card")
    parser.set_defaults(run=lambda locker, chosen: run(locker, _located(locker, chosen)), needs=needs)
    return parser


def _located(locker: Locker, chosen: argparse.Namespace) -> argparse.Namespace:
    """
    Return *chosen*, with the path of a once-task in place of its id.
    """
    if "prepare" in chosen:
        chosen.prepare(chosen)
    if chosen.kind is not None and chosen.document is not None:
        id_ = values.name(chosen.document, "the id")
        chosen.document = TaskName(locker.config.env, chosen.kind, id_).path
    return chosen


def _sweep(locker: Locker, chosen: argparse.Namespace) -> int:
    try:
        swept = sweep(locker, collections=tuple(chosen.collection), limit=chosen.limit)
    except StoreError as error:
        if "swept" in error.facts:
            print(printable(str(error.swept)))
        raise
    print(printable(str(swept)))
    return 1 if swept.failed or swept.damaged or swept.newer else 0

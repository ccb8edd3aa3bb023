"""
``import go``: take over the tasks of the Go library oncetask.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from gcp_oncetask.checks import values
from gcp_oncetask.checks.told import text_of
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, tables
from gcp_oncetask.cli.options import kind, rate
from gcp_oncetask.cli.stopping import INTERRUPTED, stoppable
from gcp_oncetask.clock import Mark, elapsed
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.importing.go_oncetask import (
    LEFT,
    REFUSED,
    GoImport,
    ImportPlan,
    ImportReport,
    price,
    summed,
)
from gcp_oncetask.operate.many import Pace
from gcp_oncetask.runtime import requirements
from gcp_oncetask.tasks.manager import TaskManager

SCHEMA: Final = "oncetask.import/1"
_PROGRESS: Final = (2.0, 30.0)
"""Seconds between two lines of progress: on a terminal, and elsewhere."""
_LATER: Final = 3
"""Exit code: documents were left for a later call."""


def add_to(commands: Any) -> None:
    """
    Add the command to the parser's *commands*.
    """
    group: argparse.ArgumentParser = commands.add_parser("import", help="take over the tasks of another system")
    one = group.add_subparsers(required=True, metavar="SYSTEM").add_parser(
        "go",
        help="the documents of the Go library oncetask",
        description="Make once-tasks of the documents of the Go library oncetask, each in its present state. Safe to interrupt "
        "and to repeat: an id that exists is not created again. The documents are only read, unless --delete-imported is given.",
    )
    one.add_argument("collection", metavar="COLLECTION", help="collection of the old documents, like onceTasks")
    one.add_argument(
        "--manager",
        required=True,
        metavar="MODULE:NAME",
        help="your task manager, like app:tasks; its handlers give the models of the kinds",
    )
    one.add_argument(
        "--kind",
        dest="kinds",
        action="append",
        type=_renamed,
        default=[],
        metavar="TYPE[=KIND]",
        help="take only documents of this type, as tasks of this kind (repeatable; default: all types, each as the kind of "
        "its name)",
    )
    one.add_argument(
        "--from-env", metavar="ENV", help="environment of the old documents (default: that of the manager)"
    )
    one.add_argument(
        "--workers-stopped",
        action="store_true",
        help="all old workers are stopped: take tasks that have not ended, too",
    )
    one.add_argument(
        "--delete-imported",
        action="store_true",
        help="delete each old document in the commit that creates its task; safe while old workers run",
    )
    one.add_argument(
        "--as-stored",
        action="store_true",
        help="take tasks whose model computes another id or resource key than the document has",
    )
    one.add_argument("--dry-run", action="store_true", help="read, and say what would become of each document")
    one.add_argument(
        "--rate", type=rate, metavar="N/s", help="most documents per second, like 50/s (default: no limit)"
    )
    one.add_argument("--json", action="store_true", help="print one JSON object for each document")
    asking.add_yes(one)
    one.set_defaults(run=_import, needs=requirements.STORE, also=requirements.DISPATCH)


def _renamed(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    return old, kind(new or old)


def manager_named(text: str, option: str = "--manager") -> TaskManager:
    """
    Return the task manager that *text*, the value of *option*, names.

    Raises:
        UsageError: There is none.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise UsageError(f"{option} is {text!r}; it is a module and a name in it, like app:tasks.")
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{option} {text}: {text_of(error)}. The folder of your app must be the current one."
        ) from error
    if not isinstance(found, TaskManager):
        raise UsageError(f"{option} {text}: {name} of {module} is {values.shown(found)}, and no TaskManager.")
    return found


def _import(_locker: Locker, chosen: argparse.Namespace) -> int:
    manager = manager_named(chosen.manager)
    values.collection(chosen.collection, "COLLECTION")
    locker = manager.locker
    plan = ImportPlan(
        chosen.collection,
        chosen.from_env or locker.config.env,
        dict(chosen.kinds),
        stopped=chosen.workers_stopped,
        delete=chosen.delete_imported,
        as_stored=chosen.as_stored,
        write=not chosen.dry_run,
    )
    if chosen.dry_run:
        asking.say_place(locker)
    elif not asking.asked(locker, _consequences(manager, plan), "Import them?", yes=chosen.yes):
        return 1
    return _run(manager, plan, chosen)


def _consequences(manager: TaskManager, plan: ImportPlan) -> Sequence[str]:
    number = price(manager, plan.collection)
    then = "each is deleted with its import" if plan.delete else "they are only read"
    return [f"{plan.collection}: {number:,} documents are read, at one read each; {then}."]


def _run(manager: TaskManager, plan: ImportPlan, chosen: argparse.Namespace) -> int:
    clock = runtime_of(manager.locker).clock
    tally, mark = Counter[str](), clock.mark()
    with stoppable() as stop:
        work = GoImport(manager, plan, Pace(clock, chosen.rate, stop))
        try:
            for each in work.run():
                tally[each.outcome] += 1
                if not tables.out([_line(each, chosen)]):
                    # The reports have no reader any more.
                    stop.set()
                mark = _progress(manager, work, tally, mark)
        finally:
            tables.aside(f"import: {summed(tally, work.passed_over)}.")
            if stop.is_set():
                tables.aside("It was stopped. The same command goes on.")
    if stop.is_set():
        return INTERRUPTED
    if tally[LEFT] and not (plan.delete or plan.stopped):
        tables.aside(
            "Tasks that have not ended are taken with --workers-stopped, or from running workers with --delete-imported."
        )
    return 1 if tally[REFUSED] else _LATER if tally[LEFT] else 0


def _line(each: ImportReport, chosen: argparse.Namespace) -> str:
    if chosen.json:
        return tables.json_line(SCHEMA, each._asdict())
    deleted = ", deleted" if each.deleted else ""
    return printable(f"{each.outcome:<8} {each.path}: {each.said}{deleted}")


def _progress(manager: TaskManager, work: GoImport, tally: Counter[str], mark: Mark) -> Mark:
    now = runtime_of(manager.locker).clock.mark()
    if elapsed(mark, now) < _PROGRESS[not sys.stderr.isatty()]:
        return mark
    tables.aside(f"... {summed(tally, work.passed_over)}")
    return now

"""
``replay``: today's code over stored journals, before it is deployed. Nothing is called, and nothing is written.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Self

from gcp_oncetask.checks import values
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import tables
from gcp_oncetask.cli.options import kind
from gcp_oncetask.entities.chains import checked, runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import TaskNotFoundError, UsageError
from gcp_oncetask.execution.replaying import FITS, ReplayVerdict
from gcp_oncetask.finding.criteria import criteria
from gcp_oncetask.finding.searching import find_each
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime import requirements
from gcp_oncetask.store import journals
from gcp_oncetask.store.snapshot import Snapshot, contents_of, version_of

SCHEMA: Final = "oncetask.replay/1"
_LIMIT: Final = 100
_EVERY: Final = 20
"""Records between two lines of progress."""


def add_to(commands: Any) -> None:
    """
    Add the command to the parser's *commands*.
    """
    one: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="run today's code over the journals of tasks under way, without calling anything",
        description="Run today's code over the journals of durable tasks under way, in a process that refuses remote calls, and "
        "say for each task what would happen next. Nothing is written. Exit code 1: the code does not fit a journal, or has an "
        "effect outside a run.",
        intermixed=True,
    )
    one.add_argument("manager", metavar="MODULE:NAME", help="your task manager, like app:tasks")
    one.add_argument(
        "document", nargs="?", help="path of one document; with --kind the id of a once-task (default: all of --kind)"
    )
    one.add_argument("--kind", type=kind, help="kind of the once-tasks, like charge-card")
    one.add_argument("--limit", type=int, default=_LIMIT, metavar="N", help="most tasks (default: %(default)s)")
    one.add_argument("--json", action="store_true", help="print one JSON object for each task")
    one.set_defaults(run=run, needs=requirements.STORE)


def run(locker: Locker, chosen: argparse.Namespace) -> int:
    """
    Replay the journals.

    Returns:
        Exit code: 0 the code fits all of them, 1 it does not.

    Raises:
        UsageError: Neither a document nor a kind is given, or there is no such manager.
        TaskNotFoundError: The document is missing or has no record.
        StoreError: Firestore was unreachable or refused.
    """
    if chosen.document is None and chosen.kind is None:
        raise UsageError("replay: give the path of a document, or --kind.")
    limit = values.whole(chosen.limit, "--limit")
    tally = Counter[str]()
    with Replayer(chosen.manager) as child:
        for snapshot in _chosen(locker, chosen, limit):
            found = child.play(locker, snapshot)
            tally[found["verdict"]] += 1
            if not tables.out([_line(snapshot.path, found, as_json=chosen.json)]):
                break
            if tally.total() % _EVERY == 0:
                tables.aside(f"... {tally.total()} replayed")
    told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(tally.items()))
    tables.aside(f"replay: {tally.total()} tasks with a journal{': ' if told else ''}{told}.")
    return 0 if all(ReplayVerdict(each) in FITS for each in tally) else 1


def _chosen(locker: Locker, chosen: argparse.Namespace, limit: int) -> Iterator[Snapshot]:
    """
    Yield the documents with a journal.
    """
    store = runtime_of(locker).store
    if chosen.document is not None:
        path = chosen.document
        if chosen.kind is not None:
            path = TaskName(locker.config.env, chosen.kind, values.name(path, "the id")).path
        snapshot = store.read(checked(path))
        if snapshot.lock is None:
            raise TaskNotFoundError(f"{path} is missing, or has no record.", document=path)
        yield snapshot
        return
    number = 0
    for status in (Status.SCHEDULED, Status.LEASED):
        for row in find_each(runtime_of(locker), criteria(kind=chosen.kind, status=status)):
            if number >= limit:
                return
            if row.lock is None or not _is_durable(row.lock):
                continue
            snapshot = store.read(row.path)
            if snapshot.lock is not None and _is_durable(snapshot.lock):
                number += 1
                yield snapshot


def _is_durable(lock: Lock) -> bool:
    return bool(lock.journal or lock.chunks or lock.wait)


def _line(path: str, found: dict[str, Any], *, as_json: bool) -> str:
    if as_json:
        return tables.json_line(SCHEMA, {"path": path, **found})
    name = f" at {found['name']}" if found["verdict"] == ReplayVerdict.GOES_ON and found["name"] else ""
    if found["verdict"] == ReplayVerdict.WAITS:
        name = f" for {found['name']}" + (f" until {found['until']}" if found["until"] else "")
    said = f": {found['said']}" if found["said"] else ""
    at = f" ({found['line']})" if found["line"] and ReplayVerdict(found["verdict"]) not in FITS else ""
    unmet = f"; not met: {', '.join(found['unmet'])}" if found["unmet"] else ""
    notes = "".join(f"; {note}" for note in found["notes"])
    return printable(f"{path}: {found['verdict']}{name}{said}{at}{unmet}{notes}")


class Replayer:
    """
    The process that replays. A handler that ends it costs its own task alone.
    """

    def __init__(self, manager: str) -> None:
        self._manager = manager
        self._process = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gcp_oncetask.cli.replay_child", self._manager]
        process = subprocess.Popen(  # noqa: S603 - this very program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        told = json.loads(first) if first else {"wrong": "the process that replays has ended; its words are above"}
        if "wrong" in told:
            process.communicate()
            raise UsageError(str(told["wrong"]))
        return process

    def play(self, locker: Locker, snapshot: Snapshot) -> dict[str, Any]:
        """
        Return the forecast for a document, as JSON data.

        Raises:
            StoreError: A sealed part of its journal can't be read.
        """
        lock = snapshot.lock
        assert lock is not None
        store = runtime_of(locker).store
        asked = {
            "path": snapshot.path,
            "version": version_of(snapshot.version),
            "contents": base64.b64encode(contents_of(snapshot)).decode(),
            "rows": [base64.b64encode(row).decode() for row in journals.read(store, snapshot.path, lock)],
            "now": instant(store.estimate()),
        }
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        process.communicate()
        self._process = self._started()
        said = f"the handler has ended its process, with {process.returncode}"
        return {"verdict": str(ReplayVerdict.RAISES), "said": said, "unmet": [], "notes": []} | dict.fromkeys(
            ("name", "until", "line")
        )

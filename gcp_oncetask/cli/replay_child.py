"""
The process that replays journals: remote calls are refused, sockets are closed. ``replayed`` starts it.

Shape:
    Standard input has one JSON object a line: {path, version, contents, rows, now}; standard output answers each by one line.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any, Final, TextIO

from gcp_oncetask.checks.told import text_of
from gcp_oncetask.cli.imported import manager_named
from gcp_oncetask.entities.chains import executor_of, runtime_of
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.execution.replaying import Forecast, NoStore, Refusals, ReplayVerdict, forecast
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.timestamps import instant, parse_instant
from gcp_oncetask.store.refused_calls import refuse_calls
from gcp_oncetask.store.snapshot import trusted
from gcp_oncetask.tasks.batch import Batch
from gcp_oncetask.tasks.manager import TaskManager, registry_of

_OUTSIDE: Final = {
    "socket.connect": "it opens a connection",
    "socket.sendto": "it sends to a socket",
    "socket.getaddrinfo": "it looks up a host",
    "subprocess.Popen": "it starts a process",
    "os.system": "it starts a process",
    "os.remove": "it deletes a file",
    "os.rename": "it renames a file",
}
"""Actions that are refused outside a run, by the name of their audit event."""


def main(manager: str) -> None:
    """
    Answer the requests on standard input, until it ends.
    """
    # A handler that prints must not disturb the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        tasks = manager_named(manager, "the manager")
    except OncetaskError as error:
        _answer(answers, {"wrong": str(error)})
        return
    except Exception as error:  # noqa: BLE001 - the user's module may raise anything
        _answer(answers, {"wrong": f"{manager} can't be imported: {type(error).__name__}: {text_of(error)}"})
        return
    refusals = Refusals()
    _close(refusals)
    _answer(answers, {"kinds": list(registry_of(tasks).kinds())})
    for line in sys.stdin:
        _answer(answers, _told(_of(tasks, refusals, json.loads(line))))


def _close(refusals: Refusals) -> None:
    refuse_calls(refusals.refuse)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if not refusals.on:
            return
        if event in _OUTSIDE:
            refusals.refuse(_OUTSIDE[event])
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            refusals.refuse(f"it writes the file {arguments[0]!r:.200}")

    sys.addaudithook(hear)


def _answer(answers: TextIO, told: dict[str, Any]) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()


def _told(found: Forecast) -> dict[str, Any]:
    until = None if found.until is None else instant(found.until)
    return {**found._asdict(), "verdict": str(found.verdict), "until": until}


def _of(tasks: TaskManager, refusals: Refusals, asked: dict[str, Any]) -> Forecast:
    name = parse_task_path(asked["path"])
    handler = None if name is None else registry_of(tasks).get(name.kind)
    if handler is None:
        kind = asked["path"] if name is None else f"the kind {name.kind!r}"
        return Forecast(ReplayVerdict.MISFIT, said=f"no handler is registered for {kind}")
    now = parse_instant(asked["now"])
    runtime_of(tasks.locker).__dict__["store"] = NoStore(refusals, now)
    snapshot = trusted(asked["path"], asked["version"], base64.b64decode(asked["contents"]))
    if isinstance(handler.spec.run, Batch):
        return Forecast(ReplayVerdict.ENDS, said="not replayed: the handler takes several tasks at once")
    rows = tuple(base64.b64decode(row) for row in asked["rows"])
    return forecast(executor_of(tasks.locker), handler.spec, snapshot, rows, now, refusals)


if __name__ == "__main__":
    main(sys.argv[1])

"""
``cancel``, ``reset``, ``resolve``, ``delete``, ``dismiss`` and ``ack``: the acts of a person on one record, or on all that fit a
filter.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, filtered, tables
from gcp_oncetask.cli.options import add_acting, age
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import DamagedError, UsageError
from gcp_oncetask.operate import many
from gcp_oncetask.operate.acts import RESOLUTIONS, Decision, consequence, perform
from gcp_oncetask.operate.persons import person_of
from gcp_oncetask.runtime import requirements

Adder = Callable[..., argparse.ArgumentParser]


def add_to(commands: Any, on_document: Adder) -> None:
    """
    Add the commands to the parser's *commands*; *on_document* adds one that is about a document.
    """
    store, dispatch = requirements.STORE, requirements.DISPATCH
    one = _verb(
        commands,
        on_document,
        "cancel",
        "stop a chain: at once while it waits, at its next settling while it runs",
        store,
    )
    _add_many(one)
    one = _verb(commands, on_document, "reset", "run an ended or damaged step again, as a new sequence", dispatch)
    one.add_argument("--keep-errors", action="store_true", help="keep the record of failed attempts")
    one.add_argument(
        "--new-key", action="store_true", help="of a damaged record whose idempotency key can't be read: use a new one"
    )
    one.add_argument("--fresh", action="store_true", help="of a durable handler: a new key, and an empty journal")
    one.add_argument(
        "--from",
        dest="from_name",
        metavar="NAME",
        help="of a durable handler: forget this entry of the journal and all after it",
    )
    one.add_argument("--step", type=int, help="of a damaged record whose step can't be read: the step to run")
    _add_many(one)
    one = _verb(commands, on_document, "resolve", "decide how a quarantined step goes on", dispatch, intermixed=True)
    one.add_argument(
        "how",
        nargs="?",
        choices=RESOLUTIONS,
        help="run: run it again, with the same idempotency key; happened: the step has happened, so the chain goes on "
        "(--next) or ends (--end); complete, fail: hold the chain completed or failed",
    )
    one.add_argument(
        "--run",
        dest="of_run",
        metavar="NAME",
        help="in place of run, happened, ...: the run that was begun once, and whose result is not known",
    )
    one.add_argument(
        "--not-done", action="store_true", help="with --run: it did not happen, so it is called again with the same key"
    )
    one.add_argument(
        "--result",
        type=json.loads,
        metavar="JSON",
        default=argparse.SUPPRESS,
        help="with complete, happened or --run: the result; this command does not load the types of your code, so they do not "
        "check it",
    )
    one.add_argument("--next", metavar="URL", help="with happened: URL or path of the next step; . is the same target")
    one.add_argument(
        "--params", type=json.loads, metavar="JSON", help="with --next: its parameters (default: the result)"
    )
    one.add_argument("--end", action="store_true", help="with happened: the chain ends here")
    one.set_defaults(prepare=_told_apart)
    _add_many(one)
    one = _verb(commands, on_document, "delete", "delete once-tasks, with payload, result and history", store)
    one.add_argument(
        "--open-runs",
        action="store_true",
        help="also those that have begun a run once whose result is not known: their records alone tell of that effect",
    )
    _add_many(one)
    one = _verb(commands, on_document, "dismiss", "take a failed record off the list", store)
    _add_many(one)
    one = _verb(commands, on_document, "ack", "let no reminder name a record for a time", store, optional=False)
    one.add_argument("--for", dest="until", type=age, required=True, metavar="AGE", help="time, like 90m, 4h or 2d")


def _verb(
    commands: Any, on_document: Adder, name: str, help_: str, needs: Sequence[requirements.Need], **more: Any
) -> argparse.ArgumentParser:
    one = on_document(commands, name, help_, _run, needs, **{"optional": True} | more)
    one.set_defaults(verb=name)
    add_acting(one)
    one.add_argument("--json", action="store_true", help="print one JSON object for each record")
    asking.add_yes(one)
    one.add_argument(
        "--if-version", metavar="VERSION", help="act only if the document still has this version; else exit code 3"
    )
    return one


def _add_many(one: argparse.ArgumentParser) -> None:
    one.description = f"{one.description or ''} Without a document: all records that fit the filters."
    filtered.add_options(one)


def _told_apart(chosen: argparse.Namespace) -> None:
    """
    Take the only word for the resolution, where there is no document: no path of a document is one word.
    """
    if chosen.how is None and chosen.of_run is None and chosen.document in RESOLUTIONS:
        chosen.how, chosen.document = chosen.document, None


def _run(locker: Locker, chosen: argparse.Namespace) -> int:
    decision = _decision(chosen)
    if chosen.document is None:
        return filtered.run(locker, chosen, decision)
    filtered.check_one(chosen)
    decision.check()
    path = chosen.document
    told = _effect(locker, path, decision)
    if getattr(chosen, "dry_run", False):
        asking.say_place(locker)
        tables.out([printable(told)])
        return 0
    person = person_of(locker, chosen.by)
    # A script or a pasted command names the document, so only a deletion needs the yes of a person there.
    yes = (
        chosen.yes
        or chosen.verb == "ack"
        or (chosen.verb != "delete" and not decision.fresh and not sys.stdin.isatty())
    )
    if not asking.asked(locker, [told], f"{decision.verb.capitalize()}?", yes=yes):
        return 1
    done = perform(locker, path, decision, person, chosen.if_version)
    outcome = many.DONE if done.done else many.SKIPPED
    data = {"verb": decision.verb, "path": path, "outcome": outcome, "said": done.said}
    tables.out([tables.json_line(filtered.SCHEMA, data) if chosen.json else printable(done.said.removesuffix("."))])
    if done.warning is not None:
        tables.aside(done.warning)
    return 0


def _effect(locker: Locker, path: str, decision: Decision) -> str:
    try:
        return consequence(locker, path, decision)
    except DamagedError as error:
        if decision.verb != "reset":
            raise
        return f"{error} Its record is written anew, as a new sequence, with all values that can be read."


def _decision(chosen: argparse.Namespace) -> Decision:
    """
    Return the decision in the arguments.

    Raises:
        UsageError: A part is missing, or is of another act.
    """
    parts = (
        "result",
        "next",
        "params",
        "end",
        "note",
        "keep_errors",
        "new_key",
        "step",
        "until",
        "fresh",
        "from_name",
        "open_runs",
    )
    given = {name: getattr(chosen, name) for name in parts if getattr(chosen, name, None) is not None}
    if getattr(chosen, "of_run", None) is not None:
        given["run"] = chosen.of_run
    verb = _resolution(chosen) if chosen.verb == "resolve" else chosen.verb
    if chosen.document is None and (given.get("fresh") or "from_name" in given):
        raise UsageError("--fresh and --from are for the journal of one task: give one document.")
    if chosen.document is None and verb == "happened":
        raise UsageError("happened has a result and a next step of its own for each record: give one document.")
    return Decision(verb, **given)


def _resolution(chosen: argparse.Namespace) -> str:
    how: str | None = chosen.how
    if chosen.of_run is None:
        if chosen.not_done:
            raise UsageError("--not-done is about a run: name it by --run.")
        if how is None:
            raise UsageError(f"Say how to resolve it: one of {', '.join(RESOLUTIONS)}, or --run NAME with its answer.")
        return how
    if how is not None or chosen.document is None:
        raise UsageError(
            "--run NAME answers the question about one run of one document: give the document, and no other word."
        )
    if hasattr(chosen, "result") is chosen.not_done:
        raise UsageError("A run has a result (--result JSON), or was not done (--not-done): give one of both.")
    return "not-done" if chosen.not_done else "answer"

"""
``timeline`` prints the life of a task, ``acts`` the acts of people.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli.options import age
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.history import acts_of, timeline_of
from gcp_oncetask.rules.act_lines import ToldAct, act_fields
from gcp_oncetask.rules.timeline import TimelineEntry
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime.requirements import STORE
from gcp_oncetask.services.task_log import exported_lines


def add_options(one: argparse.ArgumentParser) -> None:
    """
    Add the options of ``timeline`` to its parser.
    """
    one.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: schema, document, entries, unread; times are RFC 3339 in UTC",
    )
    one.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="log entries that gcloud logging read --format=json has exported, as an array or one per line, in place of a "
        "query; - is the standard input",
    )
    one.add_argument(
        "--since",
        type=age,
        metavar="AGE",
        help="no older lines than this, like 90m or 2d (default: all of the document)",
    )


def add_acts(one: argparse.ArgumentParser) -> None:
    """
    Add the options of ``acts`` to its parser.
    """
    one.add_argument("--json", action="store_true", help="one JSON object per act; times are RFC 3339 in UTC")
    one.add_argument("--by", metavar="NAME", help="acts of one person, as proved or as claimed")
    one.add_argument("--since", type=age, metavar="AGE", help="no older acts than this, like 90m or 2d (default: 30d)")


def run(locker: Locker, chosen: argparse.Namespace) -> int:
    """
    Print the timeline, and the sources that failed.

    Returns:
        Exit code 0.
    """
    runtime = runtime_of(locker)
    exported = None
    if chosen.file is None:
        runtime.require(STORE)
    else:
        exported = exported_lines(_text(chosen.file))
    found = timeline_of(runtime, chosen.document, since=chosen.since, exported=exported)
    if chosen.json:
        entries = [entry.as_data() for entry in found.entries]
        said = {"schema": 1, "document": found.document, "entries": entries, "unread": found.unread}
        print(json.dumps(said, indent=2, allow_nan=False))
    else:
        print(printable(f"{found.document}: {_state(found.lock is None, found.entries)}"))
        for label, text in () if found.kin is None else found.kin.rows():
            print(printable(f"{label}: {text}"))
        print("\n".join(printable(line) for line in map(_line, found.entries)))
    _say(found.unread)
    return 0


def run_acts(locker: Locker, chosen: argparse.Namespace) -> int:
    """
    Print the acts of people, oldest first, and the sources that failed.

    Returns:
        Exit code 0.
    """
    if chosen.kind is not None and chosen.document is None:
        raise UsageError("--kind is of one once-task: give its id too, or neither.")
    found = acts_of(runtime_of(locker), chosen.document, by=chosen.by, since=chosen.since)
    for told in found.items:
        print(json.dumps(_act_data(told)) if chosen.json else printable(_act_line(told)))
    _say(found.unread)
    if not found.items:
        _say(["No act of a person was found."])
    return 0


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"The file {name} can't be read: {error}.") from None


def _state(gone: bool, entries: tuple[TimelineEntry, ...]) -> str:
    events = f"{len(entries)} events" if len(entries) != 1 else "1 event"
    return f"{events}, without its record" if gone else events


def _line(entry: TimelineEntry) -> str:
    numbers = (entry.sequence, entry.attempt, entry.token)
    place = "/".join("-" if each is None else str(each) for each in numbers)
    note = "" if entry.note is None else f" ({entry.note})"
    return f"{_moment(entry.at):<24} {place:<9} {entry.phase:<10} {entry.said}{note} [{entry.source}]"


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{instant(at)[:23]}Z"


def _act_line(told: ToldAct) -> str:
    act = told.act
    which = told.document if told.kind is None else f"{told.kind} {told.task!r}"
    who = f"{act.by}{'' if act.proven else ' (unproven)'}{f' as {act.claimed}' if act.claimed else ''}"
    note = "" if act.note is None else f": {act.note}"
    stage = "" if told.stage == "done" else f" ({told.stage}, not known to be done)"
    return f"{_moment(act.at)} {who}  {act.verb}{stage}  {which}, sequence {act.sequence}, it was {act.status}{note}"


def _act_data(told: ToldAct) -> dict[str, object]:
    act = told.act
    fields: dict[str, object] = {**act_fields(act, told.stage), "proven": act.proven, "sequence": act.sequence}
    name = {"kind": told.kind, "id": told.task}
    return {
        "schema": 1,
        "document": told.document,
        **name,
        "claimed": None,
        "note": None,
        **fields,
        "source": told.source,
    }


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(printable(sentence), file=sys.stderr)

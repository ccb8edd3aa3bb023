"""
The sorts of records, and the verbs of people that each of them has. Pure.

The table ``VERBS`` decides; ``docs/reference/command-line.md`` prints it. A verb that a record does not
have is refused in a sentence that names the sort of the record and says what to do instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.document_paths import LOCKS, TaskName, is_digest, is_task, parse_task_path
from gcp_oncetask.rules.named import ends_at
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant


class Sort(StrEnum):
    """
    The sorts of documents with a lock.
    """

    CHAIN = "chain"
    """A document of the user's own, whose chain runs step by step."""
    ONCE_TASK = "once-task"
    """A once-task: pushed, pulled, newest-wins, an occurrence, or part of a batch; all have the same verbs."""
    RECURRING = "recurring task"
    """A once-task that makes occurrences and runs no handler itself."""
    NAMED_LOCK = "named lock"
    ONCE_KEY = "@once key"
    """A key of a function that runs once per key."""
    RESOURCE_KEY = "resource key"


CHAINS: Final = frozenset({Sort.CHAIN, Sort.ONCE_TASK, Sort.RECURRING})
"""The sorts that run step by step."""
VERBS: Final[dict[str, frozenset[Sort]]] = {
    "show": frozenset(Sort),
    "cancel": CHAINS,
    "reset": CHAINS,
    "resolve": frozenset({Sort.CHAIN, Sort.ONCE_TASK}),
    "dismiss": CHAINS,
    "ack": CHAINS,
    "pause": frozenset({Sort.RECURRING}),
    "resume": frozenset({Sort.RECURRING}),
    "delete": frozenset({Sort.ONCE_TASK, Sort.RECURRING}),
}
"""Verb -> the sorts of record that have it."""

_SORTS: Final = {"lock": Sort.NAMED_LOCK, "once": Sort.ONCE_KEY, "key": Sort.RESOURCE_KEY}
_ID: Final = re.compile(r"[0-9a-f]{2}:[\w-]+:(lock|once|key):.+", re.ASCII | re.DOTALL)

_LONGEST_SAID: Final = 500
"""Characters of a name that are repeated in a command."""


@dataclass(frozen=True, slots=True)
class Record:
    """
    A document with a lock, and its sort.

    Attributes:
        path: Its path.
        sort: Its sort.
        task: Kind and id of a once-task; None: the record is no once-task.
        name: Name of a named lock, name of a function that runs once, or text of a resource key; None: the record has no
            name, or the name is not stored.
        key: Key of a function that runs once per key; None: the record has none, or it is not stored.
    """

    path: str
    sort: Sort
    task: TaskName | None = None
    name: str | None = None
    key: str | None = None

    @property
    def said(self) -> str:
        """
        Return the record in words, such as ``the named lock 'graph'``.
        """
        if self.task is not None:
            return f"the {self.sort} {self.task.id!r} of kind {self.task.kind}"
        match self.sort:
            case Sort.ONCE_KEY:
                return f"the key {self.key!r} of the @once function {self.name or '(its name is not stored)'}"
            case Sort.NAMED_LOCK | Sort.RESOURCE_KEY:
                return f"the {self.sort} {self.name or '(its name is not stored)'!r}"
        return f"a {self.sort}"


def record_of(path: str, lock: Lock | None, fields: Mapping[str, Any]) -> Record:
    """
    Return the record of the document at *path*, by its path, its lock (None: it can't be read) and its decoded *fields*.
    """
    if is_task(path):
        return Record(path, Sort.RECURRING if "recurrence" in fields else Sort.ONCE_TASK, task=parse_task_path(path))
    collection, _, id_ = path.rpartition("/")
    found = _ID.fullmatch(id_)
    # Locks may be in any collection, keys may not. But a document that was ever scheduled in a user's collection is a chain,
    # even if its id looks like a lock's.
    chain = found is not None and (found[1] == "key" or lock is None or lock.scheduled_by is not None)
    if found is None or (collection != LOCKS and chain):
        return Record(path, Sort.CHAIN)
    sort = _SORTS[found[1]]
    name, key = _text(fields.get("name")), _text(fields.get("key"))
    return Record(path, sort, name=key) if sort is Sort.RESOURCE_KEY else Record(path, sort, name=name, key=key)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def refusal_of(verb: str, record: Record, lock: Lock) -> CallRefused | None:
    """
    Return the refusal of a *verb* that *record* does not have, with sentences about what to do instead; None if it has the
    verb.
    """
    if is_digest(record.path) and verb != "show":
        return CallRefused(
            Refusal.NO_VERB,
            f"{record.path} is a digest of alerts, which has no {verb}. Look at the documents that it names, and {verb} those. "
            "Nothing was written.",
        )
    if record.sort in VERBS[verb]:
        return None
    return CallRefused(
        Refusal.NO_VERB,
        f"{record.path} is {record.said}, which has no {verb}. {_instead(verb, record, lock)} Nothing was written.",
    )


def _instead(verb: str, record: Record, lock: Lock) -> str:
    match record.sort:
        case Sort.CHAIN if verb == "delete":
            return (
                "Delete the document with your own Firestore client; an attempt that runs then can write nothing more."
            )
        case Sort.CHAIN:
            return "Only a recurring task is paused and resumed; cancel this one, and reset it when it may run."
        case Sort.ONCE_TASK:
            return "It does not recur, and only a recurring task is paused and resumed; cancel it, and reset it when it may run."
        case Sort.RECURRING:
            return "It runs nothing itself, so it is never quarantined; resolve the occurrence that is."
        case Sort.NAMED_LOCK:
            return _of_lock(record, lock)
        case Sort.ONCE_KEY:
            return _of_key(record, lock)
        case Sort.RESOURCE_KEY if lock.status is Status.LEASED:
            return (
                f"The task at {lock.holder} has it, and gives it back when its run ends: {verb} that task. "
                "To let another one have it at once, delete the document: that frees it, and its task runs on without it."
            )
        case Sort.RESOURCE_KEY:
            return f"No task has it, so there is nothing to free; {verb} the task that you mean."


def _of_lock(record: Record, lock: Lock) -> str:
    if lock.status is not Status.LEASED:
        return "It has no holder, so there is nothing to free."
    end = ends_at(lock)
    ends = (
        "it has no ttl and ends with its release alone"
        if end is None
        else f"its ttl ends at {instant(end)} by the server's clock, unless it is refreshed"
    )
    return (
        f"{lock.instance or 'Somebody'} holds it with token {lock.token}: its holder frees it with release(), and {ends}. "
        f"If its holder is gone for good, free it at once ({_command('locks release', record, record.name)})."
    )


def _of_key(record: Record, lock: Lock) -> str:
    match lock.status:
        case Status.LEASED:
            end = ends_at(lock)
            until = "" if end is None else f" until {instant(end)} by the server's clock, unless it is renewed"
            return (
                f"The function runs on {lock.instance or 'some machine'}, and its lease lasts{until}; "
                "if its process has died, the next call after that runs it again."
            )
        case Status.COMPLETED:
            names = (record.name,) if record.key is None else (record.name, record.key)
            command = _command("once forget", record, *names)
            return f"The function has run. To let it run again for this key, have its result forgotten ({command})."
        case _:
            return "The function raised when it ran last; the next call runs it again."


def _command(command: str, record: Record, *names: str | None) -> str:
    """
    Return a command of the command line, with the names as a shell reads them. A name that is not stored, not printable or
    long is left to the person.
    """
    collection = record.path.rpartition("/")[0]
    where = "" if collection == LOCKS else f" --collection {shlex.quote(collection)}"
    said = [
        shlex.quote(name) if name and name.isprintable() and len(name) <= _LONGEST_SAID else instead
        for name, instead in zip(names, ("NAME", "KEY"), strict=False)
    ]
    apart = " --" if any(name.startswith("-") for name in said) else ""
    return f"python -m gcp_oncetask {command}{where}{apart} {' '.join(said)}"

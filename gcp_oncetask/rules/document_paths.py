"""
Paths of once-tasks, resource keys and other documents of the library, and the strings by which they are found. Pure.

Ids begin with two hexadecimal digits of a hash, so that sequential ids make no hot spot.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from gcp_oncetask.checks.paths import LONGEST_ID
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules import waits
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant

OWN: Final = "once"
"""Beginning of the names of all collections of the library."""
TASKS: Final = "onceTasks"
"""Collection of the once-tasks."""
_BELOW_TASKS: Final = f"{TASKS}/"
"""Beginning of the paths of once-tasks."""
LOCKS: Final = "onceLocks"
"""Collection of named locks and resource keys."""
JOURNALS: Final = "onceJournals"
"""Collection of the sealed parts of journals."""
DATA_HASH: Final = "dataHash"
"""Field of a once-task, and of an ``@once`` key: hash of its payload."""
_BELOW_LOCKS: Final = f"{LOCKS}/"
_DIGEST: Final = "digest"
AFTER: Final = "0"
"""The character after "/": a prefix with it sorts behind all strings that begin with the prefix and a slash."""
PUSH: Final = "push"
"""Lane of the documents that Cloud Tasks delivers."""
KEY: Final = "key"
"""Lane of the resource keys for which tasks wait."""
PULL: Final = "pull."
"""Beginning of the lanes of workers."""
_SAFE: Final = " !$&'()*+,;=@"
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_INSTANT: Final = len("2026-01-01T00:00:00.000000Z")
_HOLE: Final = re.compile(r"\{[^{}/]+\}")


@dataclass(frozen=True, slots=True)
class TaskName:
    """
    The name of a once-task, unique in a database.
    """

    env: str
    kind: str
    id: str

    @property
    def path(self) -> str:
        """
        Path of the task's document.

        Raises:
            UsageError: The id is no text, is empty or too long.
        """
        escaped = _bounded("task id", self.id, LONGEST_ID - len(f"xx:{self.env}:{self.kind}:"))
        digest = hashlib.sha256(f"{self.env}\n{self.kind}\n{self.id}".encode()).hexdigest()[:2]
        return f"{TASKS}/{digest}:{self.env}:{self.kind}:{escaped}"


def is_task(path: str) -> bool:
    """
    Tell whether the document at *path* is in the collection of the once-tasks. Collections below it, and collections of
    that name below another document, do not count.
    """
    return path.startswith(_BELOW_TASKS) and path.count("/") == 1


def parse_task_path(path: str) -> TaskName | None:
    """
    Return the name of the once-task at *path*; None if *path* is no once-task's.
    """
    if not is_task(path):
        return None
    parts = path.removeprefix(_BELOW_TASKS).split(":")
    return TaskName(parts[1], parts[2], unquote(parts[3])) if len(parts) == 4 else None


def key_path(env: str, key: str) -> str:
    """
    Return the path of the document of the resource key *key*.

    Raises:
        UsageError: The key is no text, is empty or too long.
    """
    escaped = _bounded("resource key", key, LONGEST_ID - len(f"xx:{env}:key:"))
    digest = hashlib.sha256(f"{env}\n{key}".encode()).hexdigest()[:2]
    return f"{LOCKS}/{digest}:{env}:key:{escaped}"


def queue_path(env: str, queue: str) -> str:
    """
    Return the path of the document that records a standstill of *queue*, given by its full name.
    """
    digest = hashlib.sha256(f"{env}\n{queue}".encode()).hexdigest()[:2]
    return f"{LOCKS}/{digest}:{env}:queue:{_escaped(queue, 'queue')}"


def reminder_path(env: str) -> str:
    """
    Return the path of the document about the reminders of an environment.
    """
    return f"{LOCKS}/{hashlib.sha256(env.encode()).hexdigest()[:2]}:{env}:reminder"


def windows_path(env: str, event: str, kind: str) -> str:
    """
    Return the path of the document of the windows in which alerts of *event* wait, for a kind of once-task or a collection.
    """
    digest = hashlib.sha256(f"{env}\n{event}\n{kind}".encode()).hexdigest()
    return f"{LOCKS}/{digest[:2]}:{env}:windows:{digest[:40]}"


def digest_path(env: str, id_: str) -> str:
    """
    Return the path of the document that owes the digest *id_* of alerts.
    """
    return f"{LOCKS}/{hashlib.sha256(id_.encode()).hexdigest()[:2]}:{env}:{_DIGEST}:{id_}"


def is_digest(path: str) -> bool:
    """
    Tell whether the document at *path* owes a digest of alerts.
    """
    return path.startswith(_BELOW_LOCKS) and path.split(":", 3)[2:3] == [_DIGEST]


def collection_path(env: str, collection: str) -> str:
    """
    Return the path of the document that registers *collection*, a path or a template. If the id would be too long, it has a
    hash of the collection.

    Raises:
        UsageError: The collection is no text.
    """
    return _registry_path(env, "collection", collection)


def origin_path(env: str, origin: str) -> str:
    """
    Return the path of the document that registers *origin*, in the form of ``collection_path``.
    """
    return _registry_path(env, "origin", origin)


def _registry_path(env: str, what: str, name: str) -> str:
    escaped = _escaped(name, what)
    digest = hashlib.sha256(f"{env}\n{name}".encode()).hexdigest()
    if len(escaped) > LONGEST_ID - len(f"xx:{env}:{what}:"):
        # An escaped name has no ":" in it.
        escaped = f"sha256:{digest}"
    return f"{LOCKS}/{digest[:2]}:{env}:{what}:{escaped}"


@lru_cache
def fitting(template: str) -> re.Pattern[str]:
    """
    Return the pattern of the paths of documents that fit *template*, a collection or a template such as
    ``customers/{customer_id}/orders``. Documents in subcollections do not fit.
    """
    parts = (re.escape(part) for part in _HOLE.split(template))
    return re.compile("[^/]+".join(parts) + "/[^/]+")


def is_key(path: str) -> bool:
    """
    Tell whether the document at *path* is that of a resource key.
    """
    return path.startswith(_BELOW_LOCKS) and path.count("/") == 1 and path.split(":", 3)[2:3] == ["key"]


def check_resource_key(env: str, kind: str, key: str) -> None:
    """
    Refuse a resource key that is too long: the id of its document, and the indexed texts that hold the key, have limits.

    Raises:
        UsageError: The key is no text, is empty or too long.
    """
    around = max(
        len(f"xx:{env}:key:"),
        len(f"{env}/{kind}//live/") + _INSTANT,
        len(f"{env}///") + 2 * _INSTANT,
    )
    _bounded("resource key", key, LONGEST_ID - around)


def pull_lane(kind: str) -> str:
    """
    Return the lane of the tasks that the workers of a kind claim.
    """
    return PULL + kind


def _escaped(text: str, what: str = "resource key") -> str:
    if not isinstance(text, str):
        raise UsageError(f"The {what} is {text!r:.80}; it must be a text.")
    try:
        return quote(text, safe=_SAFE)
    except UnicodeEncodeError:
        raise UsageError(f"The {what} {text!r:.80} holds half a surrogate pair; Firestore can't store it.") from None


def _bounded(what: str, text: str, limit: int) -> str:
    """
    Escape *text*, and check that the result has at most *limit* bytes.
    """
    escaped = _escaped(text, what)
    if not escaped:
        raise UsageError(f"The {what} is empty; it is a text of at least one character.")
    if len(escaped) > limit:
        raise UsageError(
            f"The {what} {text[:40]!r}... is too long: it takes {len(escaped):,} bytes as it is stored, percent-encoded, and "
            f"at most {limit:,} fit. Use a hash of it."
        )
    return escaped


def resource_prefix(env: str, kind: str, key: str, *, live: bool | None = None) -> str:
    """
    Return the beginning of the ``resource`` strings of a kind and a resource key, before the slash; *live*: of tasks that
    have not ended (True) or have ended (False).
    """
    prefix = f"{env}/{kind}/{_escaped(key)}"
    return prefix if live is None else f"{prefix}/{'live' if live else 'done'}"


def resource_of(kind: str, lock: Lock, key: str) -> str:
    """
    Return the stored string by which a task of a resource key is found; it sorts tasks by the time from which they may run.
    """
    since = "0" if lock.wait_until is None else instant(lock.wait_until)
    return f"{resource_prefix(lock.env, kind, key, live=not lock.finished)}/{since}"


def parked_prefix(env: str, key: str) -> str:
    """
    Return the beginning of the ``parked`` strings of all tasks that wait for *key*, before the slash.
    """
    return f"{env}/{_escaped(key)}"


def parked_place(env: str, key: str, wait_until: datetime | None, created: datetime) -> str:
    """
    Return the ``parked`` string of a task that waits for *key*; it sorts by due time, then by creation.
    """
    return f"{parked_prefix(env, key)}/{instant(wait_until or created)}/{instant(created)}"


def parked_key(place: str) -> str | None:
    """
    Return the resource key in the ``parked`` string *place*; None if a person has written the string by hand.
    """
    env, *parts = place.split("/")
    if len(parts) != 3:
        return None
    key = unquote(parts[0])
    try:
        key_path(env, key)
    except UsageError:
        return None
    return key if _escaped(key) == parts[0] else None


CANCELLING: Final = "cancelling"
"""State of a task whose cancellation was asked for and is not done."""


def state_prefix(env: str, kind: str, state: str | None = None) -> str:
    """
    Return the beginning of the ``state`` strings of a kind, in one state or in any, before the slash.
    """
    return f"{env}/{kind}" if state is None else f"{env}/{kind}/{state}"


def state_of(kind: str, lock: Lock) -> str:
    """
    Return the stored string by which the tasks of a kind are counted: the task's state, and the time from which it may run.
    """
    state = str(lock.status)
    if lock.cancel_requested_at is not None and lock.status in (Status.SCHEDULED, Status.LEASED):
        state = CANCELLING
    since = "0" if lock.wait_until is None else instant(lock.wait_until)
    if lock.wait is not None and lock.wait_until is None and waits.waits(lock, _BEGINNING):
        # The wait has no time, so the task is never due; a letter sorts behind all times.
        since = "waiting"
    return f"{state_prefix(lock.env, kind, state)}/{since}"

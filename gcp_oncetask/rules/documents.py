"""
Where once-tasks and resource keys are stored, and the strings by which they are found. Pure.

Ids begin with two hexadecimal digits of a hash, so that sequential ids make no hot spot.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from gcp_oncetask.checks.paths import LONGEST_ID
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.timestamps import instant

TASKS: Final = "onceTasks"
"""Collection of the once-tasks."""
_BELOW_TASKS: Final = f"{TASKS}/"
"""What the paths of the once-tasks begin with."""
LOCKS: Final = "onceLocks"
"""Collection of named locks and resource keys."""
DATA_HASH: Final = "dataHash"
"""Field of a once-task: hash of its payload."""
_BELOW_LOCKS: Final = f"{LOCKS}/"
_DIGEST: Final = "digest"
AFTER: Final = "0"
"""The character after "/": sorts behind everything that begins with a prefix and a slash."""
PUSH: Final = "push"
"""Lane of what Cloud Tasks delivers."""
KEY: Final = "key"
"""Lane of the resource keys that somebody waits for."""
PULL: Final = "pull."
"""What the lanes of workers begin with."""
_SAFE: Final = " !$&'()*+,;=@"
_INSTANT: Final = len("2026-01-01T00:00:00.000000Z")
_HOLE: Final = re.compile(r"\{[^{}/]+\}")


@dataclass(frozen=True, slots=True)
class TaskName:
    """
    What tells one once-task from all others.
    """

    env: str
    kind: str
    id: str

    @property
    def path(self) -> str:
        """
        Its document.

        Raises:
            UsageError: The id is no text, is empty or too long.
        """
        escaped = _bounded("task id", self.id, LONGEST_ID - len(f"xx:{self.env}:{self.kind}:"))
        digest = hashlib.sha256(f"{self.env}\n{self.kind}\n{self.id}".encode()).hexdigest()[:2]
        return f"{TASKS}/{digest}:{self.env}:{self.kind}:{escaped}"


def is_task(path: str) -> bool:
    """
    Whether the document at *path* is in the collection of the once-tasks: not in one below it, or of its name elsewhere.
    """
    return path.startswith(_BELOW_TASKS) and path.count("/") == 1


def task_name(path: str) -> TaskName | None:
    """
    The once-task whose document is at *path*; None if it is none.
    """
    if not is_task(path):
        return None
    parts = path.removeprefix(_BELOW_TASKS).split(":")
    return TaskName(parts[1], parts[2], unquote(parts[3])) if len(parts) == 4 else None


def key_path(env: str, key: str) -> str:
    """
    Document of the resource key *key*.

    Raises:
        UsageError: The key is no text, is empty or too long.
    """
    escaped = _bounded("resource key", key, LONGEST_ID - len(f"xx:{env}:key:"))
    digest = hashlib.sha256(f"{env}\n{key}".encode()).hexdigest()[:2]
    return f"{LOCKS}/{digest}:{env}:key:{escaped}"


def queue_path(env: str, queue: str) -> str:
    """
    Document that remembers that tasks of *queue*, by its full name, stand still.
    """
    digest = hashlib.sha256(f"{env}\n{queue}".encode()).hexdigest()[:2]
    return f"{LOCKS}/{digest}:{env}:queue:{_escaped(queue, 'queue')}"


def windows_path(env: str, event: str, kind: str) -> str:
    """
    Document of the windows in which alerts of *event* wait, of a kind of once-task or a collection.
    """
    digest = hashlib.sha256(f"{env}\n{event}\n{kind}".encode()).hexdigest()
    return f"{LOCKS}/{digest[:2]}:{env}:windows:{digest[:40]}"


def digest_path(env: str, id_: str) -> str:
    """
    Document that owes the digest *id_* of alerts.
    """
    return f"{LOCKS}/{hashlib.sha256(id_.encode()).hexdigest()[:2]}:{env}:{_DIGEST}:{id_}"


def is_digest(path: str) -> bool:
    """
    Whether the document at *path* owes a digest of alerts.
    """
    return path.startswith(_BELOW_LOCKS) and path.split(":", 3)[2:3] == [_DIGEST]


def collection_path(env: str, collection: str) -> str:
    """
    Document that registers *collection*, a path or a template. One whose id would be too long is known by its hash.

    Raises:
        UsageError: The collection is no text.
    """
    return _registry_path(env, "collection", collection)


def origin_path(env: str, origin: str) -> str:
    """
    Document that registers *origin*, as ``collection_path``.
    """
    return _registry_path(env, "origin", origin)


def _registry_path(env: str, what: str, name: str) -> str:
    escaped = _escaped(name, what)
    digest = hashlib.sha256(f"{env}\n{name}".encode()).hexdigest()
    if len(escaped) > LONGEST_ID - len(f"xx:{env}:{what}:"):
        # No escaped name has a ":" in it.
        escaped = f"sha256:{digest}"
    return f"{LOCKS}/{digest[:2]}:{env}:{what}:{escaped}"


@lru_cache
def fitting(template: str) -> re.Pattern[str]:
    """
    Which paths of documents fit a *template*, such as ``customers/{customer_id}/orders``; of a collection, those of its own
    documents.
    """
    parts = (re.escape(part) for part in _HOLE.split(template))
    return re.compile("[^/]+".join(parts) + "/[^/]+")


def is_key(path: str) -> bool:
    """
    Whether the document at *path* is that of a resource key.
    """
    return path.startswith(_BELOW_LOCKS) and path.count("/") == 1 and path.split(":", 3)[2:3] == ["key"]


def check_resource_key(env: str, kind: str, key: str) -> None:
    """
    Refuse a resource key by which tasks could not be found: its document's id, and the indexed texts that hold it, have limits.

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
    Lane of what the workers of a kind claim.
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
    *text*, escaped, of at most *limit* bytes.
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
    What the ``resource`` strings of a kind and a resource key (that have not ended; that have) begin with, before the slash.
    """
    prefix = f"{env}/{kind}/{_escaped(key)}"
    return prefix if live is None else f"{prefix}/{'live' if live else 'done'}"


def resource_of(kind: str, lock: Lock, key: str) -> str:
    """
    The stored string by which the tasks of a resource key are found: those that have not ended by their due time.
    """
    since = "0" if lock.wait_until is None else instant(lock.wait_until)
    return f"{resource_prefix(lock.env, kind, key, live=not lock.finished)}/{since}"


def parked_prefix(env: str, key: str) -> str:
    """
    What the ``parked`` strings of all that wait for *key* begin with, before the slash.
    """
    return f"{env}/{_escaped(key)}"


def parked_place(env: str, key: str, wait_until: datetime | None, created: datetime) -> str:
    """
    The place of a task among those that wait for *key*: by due time, then by creation.
    """
    return f"{parked_prefix(env, key)}/{instant(wait_until or created)}/{instant(created)}"


CANCELLING: Final = "cancelling"
"""State of a task whose cancellation was asked for and is not done."""


def state_prefix(env: str, kind: str, state: str | None = None) -> str:
    """
    What the ``state`` strings of a kind (in one state) begin with, before the slash.
    """
    return f"{env}/{kind}" if state is None else f"{env}/{kind}/{state}"


def state_of(kind: str, lock: Lock) -> str:
    """
    The stored string by which the tasks of a kind are counted: its state, and from when it may run.
    """
    state = str(lock.status)
    if lock.cancel_requested_at is not None and lock.status in (Status.SCHEDULED, Status.LEASED):
        state = CANCELLING
    since = "0" if lock.wait_until is None else instant(lock.wait_until)
    return f"{state_prefix(lock.env, kind, state)}/{since}"

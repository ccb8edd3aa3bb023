"""
Where once-tasks and resource keys are stored, and the strings by which they are found. Pure.

Ids begin with two hexadecimal digits of a hash, so that sequential ids make no hot spot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, unquote

from gcp_oncetask.delivery import instant, valid_path
from gcp_oncetask.errors import UsageError
from gcp_oncetask.record import Lock, Status

TASKS: Final = "onceTasks"
"""Collection of the once-tasks."""
BELOW_TASKS: Final = f"{TASKS}/"
"""What the paths of the once-tasks begin with."""
LOCKS: Final = "onceLocks"
"""Collection of named locks and resource keys."""
AFTER: Final = "0"
"""The character after "/": sorts behind everything that begins with a prefix and a slash."""
PUSH: Final = "push"
"""Lane of what Cloud Tasks delivers."""
KEY: Final = "key"
"""Lane of the resource keys that somebody waits for."""
PULL: Final = "pull."
"""What the lanes of workers begin with."""
_SAFE: Final = " !$&'()*+,;=@"


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
            UsageError: The id is empty or too long.
        """
        digest = hashlib.sha256(f"{self.env}\n{self.kind}\n{self.id}".encode()).hexdigest()[:2]
        return _checked(f"{TASKS}/{digest}:{self.env}:{self.kind}:{_escaped(self.id)}", "task id", self.id)


def task_name(path: str) -> TaskName | None:
    """
    The once-task whose document is at *path*; None if it is none.
    """
    if not path.startswith(BELOW_TASKS):
        return None
    parts = path.removeprefix(BELOW_TASKS).split(":")
    return TaskName(parts[1], parts[2], unquote(parts[3])) if len(parts) == 4 else None


def key_path(env: str, key: str) -> str:
    """
    Document of the resource key *key*.

    Raises:
        UsageError: The key is empty or too long.
    """
    digest = hashlib.sha256(f"{env}\n{key}".encode()).hexdigest()[:2]
    return _checked(f"{LOCKS}/{digest}:{env}:key:{_escaped(key)}", "resource key", key)


def pull_lane(kind: str) -> str:
    """
    Lane of what the workers of a kind claim.
    """
    return PULL + kind


def _escaped(text: str) -> str:
    return quote(text, safe=_SAFE)


def _checked(path: str, what: str, text: str) -> str:
    if not text or not valid_path(path):
        raise UsageError(
            f"The {what} {text[:60]!r} can't name a document: it is {'empty' if not text else 'too long'}; "
            "up to about 1,400 bytes are. Hash long ones."
        )
    return path


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

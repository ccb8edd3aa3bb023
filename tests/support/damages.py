"""
Changes by hand that damage a stored record: of each attribute a wrong type or value, in each status.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.cloud.firestore import DELETE_FIELD, Client

ANY: Final = ("scheduled", "leased", "quarantined", "completed", "failed")
HELD: Final = ("leased", "quarantined")
FAR: Final = datetime(9998, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Damage:
    """
    One change.

    Attributes:
        field: What the error names.
        value: What is written there; DELETE_FIELD removes it.
        statuses: In which it is a damage.
        also: What is written besides.
    """

    field: str
    value: Any
    statuses: tuple[str, ...] = ANY
    also: tuple[tuple[str, Any], ...] = ()

    @property
    def id(self) -> str:
        """
        For a test's name.
        """
        said = "missing" if self.value is DELETE_FIELD else str(self.value)[:20]
        return f"{self.field}-{said}"


_OWED: Final = {
    "id": "1-1-failure",
    "event": "failure",
    "at": FAR,
    "until": datetime(2026, 1, 1, tzinfo=UTC),
    "sequence": 1,
    "attempt": 1,
    "reason": "r",
    "tries": 0,
    "evidence": [],
}
_POLICY: Final = {"kind": "exponential", "initial": 1.0, "multiplier": 2.0, "maximum": 9.0, "jitter": 0.1}
DAMAGES: Final = (
    Damage("env", 7),
    Damage("env", None),
    Damage("env", DELETE_FIELD),
    Damage("sequence", "one"),
    Damage("sequence", 1.0),
    Damage("sequence", -1),
    Damage("sequence", 2**63 - 1),
    Damage("sequence", DELETE_FIELD),
    Damage("base", 1),
    Damage("base", -3),
    Damage("status", "nonsense"),
    Damage("status", None),
    Damage("status", ["scheduled"]),
    Damage("status", DELETE_FIELD),
    Damage("keyed", "k"),
    Damage("token", "1"),
    Damage("token", -1),
    Damage("scheduledToken", None),
    Damage("token", 0, also=(("scheduledToken", 5),)),
    Damage("holder", 5),
    Damage("holder", "x" * 10_000),
    Damage("holder", DELETE_FIELD, ("leased",)),
    Damage("grantedAt", "noon"),
    Damage("grantedAt", DELETE_FIELD, HELD),
    Damage("grantedAt", FAR, HELD),
    Damage("leasedAt", DELETE_FIELD, HELD),
    Damage("leasedAt", datetime(2100, 1, 1, tzinfo=UTC), HELD),
    Damage("leaseSeconds", "long"),
    Damage("timeoutSeconds", float("nan")),
    Damage("runLimitSeconds", -5),
    Damage("eraseSeconds", float("inf")),
    Damage("maxAttempts", "3"),
    Damage("attempts", -1),
    Damage("onUnknown", "quarantin"),
    Damage("alertOn", "failure"),
    Damage("alertOn", [1]),
    Damage("retry", {"kind": "fibonacci"}),
    Damage("retry", {"kind": "exponential", "initial": 1}),
    Damage("retry", {**_POLICY, "jitter": 7}),
    Damage("retry", {**_POLICY, "initial": 10.0}),
    Damage("retry", {"kind": "fixed", "delay": "soon"}),
    Damage("retry", [1]),
    Damage("errors", "many"),
    Damage("errors", [{"at": "noon", "attempt": 1, "sequence": 1, "message": "m"}]),
    Damage("errors", [{"attempt": 1}]),
    Damage("owed", [7]),
    Damage("owed", [{**_OWED, "event": "party"}]),
    Damage("owed", [{**_OWED, "until": None}]),
    Damage("waitUntil", "tomorrow"),
    Damage("due", None),
    Damage("due", 7),
    Damage("due", "DEFAULT"),
    Damage("due", "DEFAULT/"),
    Damage("due", "DEFAULT/push"),
    Damage("due", "DEFAULT/push/000/soon"),
    Damage("due", "DEFAULT/push/000/2020"),
    Damage("dispatches", 1.5),
    Damage("url", "nonsense"),
    Damage("url", "http://[::1"),
    Damage("queue", "nonsense"),
    Damage("queue", DELETE_FIELD),
    Damage("headers", {"a": 1}),
    Damage("traceparent", 1),
    Damage("resultJson", {"sequence": 1}),
    Damage("resultLost", "gone"),
    Damage("cancelRequestedAt", True),
    Damage("cleanup", "yes"),
    Damage("wanted", "w"),
    Damage("granted", 5),
    Damage("key", 7),
    Damage("parked", "here"),
    Damage("readyAt", {"sequence": 1, "token": 0, "at": 7}),
    Damage("fingerprint", "f"),
    Damage("needs", "all"),
)
"""A ``lock`` that is no map is not among them: it is written to by nobody."""

NO_MAPS: Final = ("x", 7, True, [1], b"b")


def bring(client: Client, path: str, status: str, now: datetime) -> dict[str, Any]:
    """
    Bring the record of a new once-task into *status*, as the library would have left it a while ago; returns its lock.
    """
    ago = now - timedelta(hours=2)
    held = {"token": 1, "attempts": 1, "holder": "nonce", "grantedAt": ago, "leasedAt": ago}
    changes: dict[str, dict[str, Any]] = {
        "scheduled": {},
        "leased": {"status": "leased", **held},
        "quarantined": {"status": "quarantined", **held},
        "completed": {"status": "completed", **held},
        "failed": {"status": "failed", **held},
    }
    document = client.document(path)
    if changes[status]:
        document.update({f"lock.{name}": value for name, value in changes[status].items()})
    found = document.get().to_dict()
    assert found is not None
    lock: dict[str, Any] = found["lock"]
    return lock


def damage(client: Client, path: str, how: Damage) -> None:
    """
    Change the record by hand.
    """
    client.document(path).update({f"lock.{how.field}": how.value} | {f"lock.{name}": value for name, value in how.also})


def repair(client: Client, path: str, lock: dict[str, Any], how: Damage) -> None:
    """
    Change back by hand what was damaged, and nothing else.
    """
    names = (how.field, *(name for name, _ in how.also))
    client.document(path).update({f"lock.{name}": lock.get(name, DELETE_FIELD) for name in names})

"""
Which indexes Firestore must keep for the library, and which it must not: collections in, ``firestore.indexes.json`` out.

Every index entry is written with the document, and an indexed value that grows with time holds a collection to 500 writes
a second. So a lock is queried by one text, ``lock.due``, and everything else in it is exempted; of the library's own
collections every field is. Pure: no file is read or written here.

Source: Firestore's documentation: index exemptions (an exempted map exempts what is in it, but for fields that are set
otherwise), TTL policies (they need no index), limits of sequential index values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gcp_oncetask.errors import UsageError

_COLLECTION: Final = "COLLECTION"
_GROUP: Final = "COLLECTION_GROUP"
_LOCK: Final = "lock"
_DUE: Final = "lock.due"
_SESSIONS: Final = "onceSessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    What is stored in one of the library's collections besides the lock.

    Attributes:
        exempt: Fields that no query uses by themselves.
        single: Fields that are queried by ranges, ascending.
        ttl: The time after which Firestore deletes a document; None: never.
    """

    exempt: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    ttl: str | None = None


LIBRARY: Final[dict[str, Kept]] = {
    "onceTasks": Kept(
        exempt=(
            "id",
            "kind",
            "env",
            "data",
            "dataHash",
            "resourceKey",
            "createdAt",
            "doneAt",
            "recurrence",
            "lastOccurrence",
            "parentRecurrenceId",
            "occurrenceAt",
            "retentionSeconds",
            "schema",
        ),
        # Each begins with environment and kind (or key), so ranges of them stand for composite indexes.
        single=("lock.parked", "resource", "state"),
        ttl="expireAt",
    ),
    "onceLocks": Kept(
        exempt=(
            "key",
            "waiting",
            "name",
            "result",
            "dataHash",
            "createdAt",
            "schema",
            "collection",
            "forgottenAt",
            "windows",
            "first",
            "members",
        ),
        single=("registry",),
        ttl="expireAt",
    ),
    "onceSessions": Kept(
        exempt=("id", "env", "kinds", "host", "ttlSeconds", "beatAt"), single=("left", "live"), ttl="expireAt"
    ),
}
"""The library's own collections."""


def definition(collections: Iterable[str] = ()) -> dict[str, Any]:
    """
    What the library needs in ``firestore.indexes.json``.

    Args:
        collections: Of documents with a lock, beside the library's own: paths or templates, such as ``orders`` and
            ``customers/{customer_id}/orders``. Their other fields are left alone.

    Returns:
        The file's data, in a fixed order.

    Raises:
        UsageError: One of them is not a collection.
    """
    scopes: dict[str, set[str]] = {group: {_COLLECTION} for group in LIBRARY}
    for collection in collections:
        group, scope = _queried(collection)
        scopes.setdefault(group, set()).add(scope)
    overrides: list[dict[str, Any]] = []
    for group in sorted(scopes):
        kept = LIBRARY.get(group, Kept())
        settings: dict[str, set[str]] = {_LOCK: set(), _DUE: scopes[group]} if group != _SESSIONS else {}
        settings.update((field, {_COLLECTION}) for field in kept.single)
        settings.update((field, set()) for field in kept.exempt)
        if kept.ttl is not None:
            settings[kept.ttl] = set()
        overrides.extend(_override(group, field, settings[field], ttl=field == kept.ttl) for field in sorted(settings))
    return {"indexes": [], "fieldOverrides": overrides}


def override(group: str, field: str, collections: Iterable[str]) -> dict[str, Any] | None:
    """
    What ``definition`` of these *collections* has for a *field* of a collection's name; None: nothing.

    Raises:
        UsageError: As ``definition``.
    """
    made = definition(collections)["fieldOverrides"]
    return next((each for each in made if _field(each) == (group, field)), None)


def _queried(collection: str) -> tuple[str, str]:
    parts = collection.split("/")
    if len(parts) % 2 == 0 or not all(parts) or "{" in parts[-1]:
        raise UsageError(f"{collection!r} is not a collection: 'orders' or 'customers/{{customer_id}}/orders' are.")
    # The sweeper asks the whole group of a template, as ``store.queries`` does.
    return parts[-1], _GROUP if "{" in collection else _COLLECTION


def _override(group: str, field: str, scopes: set[str], *, ttl: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"collectionGroup": group, "fieldPath": field}
    if ttl:
        made["ttl"] = True
    made["indexes"] = [{"order": "ASCENDING", "queryScope": scope} for scope in sorted(scopes)]
    return made


def merged(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """
    *existing* with what *wanted* says: the user's own indexes and overrides stay, ours are set.

    Raises:
        UsageError: *existing* is not the data of a ``firestore.indexes.json``.
    """
    try:
        ours = {_field(each) for each in wanted["fieldOverrides"]}
        theirs = [each for each in existing.get("fieldOverrides", []) if _field(each) not in ours]
        known = [_parts(each) for each in wanted["indexes"]]
        others = [each for each in existing.get("indexes", []) if _parts(each) not in known]
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"This is not the data of a firestore.indexes.json: {error!r}.") from None
    return {
        **existing,
        "indexes": [*others, *wanted["indexes"]],
        "fieldOverrides": [*theirs, *wanted["fieldOverrides"]],
    }


def _field(override: Mapping[str, Any]) -> tuple[str, str]:
    return override["collectionGroup"], override["fieldPath"]


def _parts(index: Mapping[str, Any]) -> tuple[Any, ...]:
    # What firebase-tools exports has more keys (density), and names the order of __name__.
    fields = tuple(
        (each["fieldPath"], each.get("order"), each.get("arrayConfig"))
        for each in index["fields"]
        if each["fieldPath"] != "__name__"
    )
    return index["collectionGroup"], index.get("queryScope", _COLLECTION), fields


def to_text(data: Mapping[str, Any]) -> str:
    """
    The file's text.
    """
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

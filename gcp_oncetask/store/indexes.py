"""
Compute the indexes that Firestore must keep for the library, and those that it must not keep: from collections to the data
of ``firestore.indexes.json``.

Every index entry is written with the document, and an indexed value that grows with time holds a collection to 500 writes a
second. So a lock is queried by two texts, ``lock.due`` and ``lock.attention``, and all its other attributes are exempted. Most
records have no ``lock.attention``, and so no entry. In the library's own collections all other fields are exempted, too. Pure:
no file is read or written here.

Source: Firestore's documentation: index exemptions (an exempted map exempts its fields, except those with their own
setting), TTL policies (they need no index), limits of sequential index values.
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
_QUERIED: Final = ("lock.attention", "lock.due")
_LOCKLESS: Final = ("onceJournals", "onceSessions")
"""Collections of documents without a lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    The stored fields of one of the library's collections, besides the lock.

    Attributes:
        exempt: Fields that no query uses.
        single: Fields that are queried by ranges, ascending.
        ttl: Field with the time after which Firestore deletes a document; None: it deletes none.
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
            "parentPath",
            "parentRecurrenceId",
            "occurrenceAt",
            "retentionSeconds",
            "schema",
        ),
        # Each of these strings begins with environment and kind (or key), so a range of them replaces a composite index.
        single=("lock.parked", "parent", "resource", "state"),
        ttl="expireAt",
    ),
    "onceLocks": Kept(
        exempt=(
            "env",
            "key",
            "waiting",
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
        # A name is written once, when the document is made: one entry then, and none for an acquire or a release.
        single=("name", "registry"),
        ttl="expireAt",
    ),
    "onceJournals": Kept(exempt=("entries", "env", "owner", "sequence"), ttl="expireAt"),
    "onceSessions": Kept(
        exempt=("id", "env", "kinds", "host", "ttlSeconds", "beatAt"), single=("left", "live"), ttl="expireAt"
    ),
}
"""The library's own collections."""


def definition(collections: Iterable[str] = ()) -> dict[str, Any]:
    """
    Return the settings that the library needs in ``firestore.indexes.json``.

    Args:
        collections: Collections of documents with a lock, besides the library's own: paths or templates, such as ``orders``
            and ``customers/{customer_id}/orders``. Their other fields are not changed.

    Returns:
        The file's data, in a fixed order.

    Raises:
        UsageError: One of *collections* is not a collection.
    """
    scopes: dict[str, set[str]] = {group: {_COLLECTION} for group in LIBRARY}
    for collection in collections:
        group, scope = _queried(collection)
        scopes.setdefault(group, set()).add(scope)
    overrides: list[dict[str, Any]] = []
    for group in sorted(scopes):
        kept = LIBRARY.get(group, Kept())
        settings: dict[str, set[str]] = {}
        if group not in _LOCKLESS:
            settings = {_LOCK: set(), **dict.fromkeys(_QUERIED, scopes[group])}
        settings.update((field, {_COLLECTION}) for field in kept.single)
        settings.update((field, set()) for field in kept.exempt)
        if kept.ttl is not None:
            settings[kept.ttl] = set()
        overrides.extend(_override(group, field, settings[field], ttl=field == kept.ttl) for field in sorted(settings))
    return {"indexes": [], "fieldOverrides": overrides}


def override(group: str, field: str, collections: Iterable[str]) -> dict[str, Any] | None:
    """
    Return the override that ``definition`` of these *collections* has for *field* in the collection group *group*; None if
    there is none.

    Raises:
        UsageError: As ``definition``.
    """
    made = definition(collections)["fieldOverrides"]
    return next((each for each in made if _field(each) == (group, field)), None)


def _queried(collection: str) -> tuple[str, str]:
    parts = collection.split("/")
    if len(parts) % 2 == 0 or not all(parts) or "{" in parts[-1]:
        raise UsageError(f"{collection!r} is not a collection: 'orders' or 'customers/{{customer_id}}/orders' are.")
    # For a template, the sweeper queries the whole collection group, see ``store.queries``.
    return parts[-1], _GROUP if "{" in collection else _COLLECTION


def _override(group: str, field: str, scopes: set[str], *, ttl: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"collectionGroup": group, "fieldPath": field}
    if ttl:
        made["ttl"] = True
    made["indexes"] = [{"order": "ASCENDING", "queryScope": scope} for scope in sorted(scopes)]
    return made


def merged(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return *existing* with the settings of *wanted*: the user's own indexes and overrides stay, the library's are set.

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
    # An export of firebase-tools has more keys (density), and an order of __name__.
    fields = tuple(
        (each["fieldPath"], each.get("order"), each.get("arrayConfig"))
        for each in index["fields"]
        if each["fieldPath"] != "__name__"
    )
    return index["collectionGroup"], index.get("queryScope", _COLLECTION), fields


def to_text(data: Mapping[str, Any]) -> str:
    """
    Return the text of the file.
    """
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

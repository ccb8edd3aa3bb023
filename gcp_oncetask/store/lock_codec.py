"""
Convert the lock <-> its stored map, on plain protobuf messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import compress
from operator import is_not
from typing import Any, Final

from gcp_oncetask.errors import DamagedError
from gcp_oncetask.rules import features
from gcp_oncetask.rules.record import DEFAULTS, SERVER_TIME, STORED_NAMES, Lock, Status
from gcp_oncetask.store import forms
from gcp_oncetask.store.codec import Document, Value, put_all
from gcp_oncetask.store.readers import reader_of, shown

WHOLE: Final = "lock"
"""Name in an error, instead of an attribute's, if the lock is no map."""
_LONGEST_TROUBLE: Final = 200
_MOST_TOLD: Final = 3

ATTRIBUTES: Final = {stored: name for name, stored in STORED_NAMES.items()}
"""Name inside the stored map -> attribute of ``Lock``."""
FIELD_PATHS: Final = {stored: f"lock.{stored}" for stored in ATTRIBUTES}
"""Name inside the stored map -> its path in the document."""
_REQUIRED: Final = frozenset({"env", "sequence", "status"})
_FIELDS: Final[dict[str, tuple[str, Callable[[Value], Any]]]] = {
    STORED_NAMES[field.name]: (field.name, reader_of(field.name, str(field.type))) for field in fields(Lock)
}
"""Name inside the stored map -> (attribute, its reader)."""
_UNREADABLE: Final = (ArithmeticError, LookupError, TypeError, ValueError)


def decode_lock(document: Document, path: str = "") -> Lock | None:
    """
    Return the lock in *document*, which is at *path*; None if the document has none, or null.

    Raises:
        DamagedError: The document has a field ``lock``, but it is no valid record.
    """
    if "lock" not in document.fields:
        return None
    value = document.fields["lock"]
    if not value.HasField("map_value"):
        if value.HasField("null_value"):
            return None
        raise _damaged(document, path, {WHOLE: f"it is {shown(value)}, and no map"})
    values: dict[str, Any] = {}
    try:
        stored = value.map_value.fields
        for key in stored:
            found = _FIELDS.get(key)
            if found is not None:
                name, read = found
                values[name] = read(stored[key])
    except _UNREADABLE as error:
        return _of_newer(document, path, error)
    if not values.keys() >= _REQUIRED:
        return _of_newer(document, path, None)
    lock = Lock.of(values)
    misfit = forms.misfit(lock, path, document)
    if misfit is not None and not features.unknown(lock):
        raise _damaged(document, path, dict([misfit]))
    return lock


def _of_newer(document: Document, path: str, cause: Exception | None) -> Lock:
    """
    Return a record that can't be decoded, with the attributes that can be read, if it needs a newer release: then only its
    own holder may change it.

    Raises:
        DamagedError: The record does not need a newer release.
    """
    values, troubles = salvage(document)
    if not features.of(values.get("needs", ())):
        raise _damaged(document, path, troubles) from cause
    return Lock.of({"env": "", "sequence": 0, "status": Status.SCHEDULED} | values)


def salvage(document: Document) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Return the values of a damaged lock that can be read, by attribute, and the trouble with each attribute that can't be
    read.
    """
    values: dict[str, Any] = {}
    troubles: dict[str, str] = {}
    stored = document.fields["lock"].map_value.fields
    for key in stored:
        if key in _FIELDS:
            name, read = _FIELDS[key]
            try:
                values[name] = read(stored[key])
            except _UNREADABLE as error:
                troubles[name] = str(error)[:_LONGEST_TROUBLE].rstrip(".")
    return values, troubles | dict.fromkeys(_REQUIRED - values.keys() - troubles.keys(), "it is missing")


def _damaged(document: Document, path: str, troubles: Mapping[str, str]) -> DamagedError:
    """
    Return the error for a lock that can't be decoded.
    """
    env = document.fields["lock"].map_value.fields.get("env")
    # The order of the map varies, this one does not. ``due`` is last: it is made anew if it alone is damaged.
    names = sorted(troubles, key=lambda name: (name == "due", name))
    told = "; ".join(f"{STORED_NAMES.get(name, name)}: {troubles[name]}" for name in names[:_MOST_TOLD])
    return DamagedError(
        f"{f'{path}: its lock' if path else 'The lock'} is damaged: {told}.",
        document=path,
        field=STORED_NAMES.get(names[0], names[0]),
        trouble=told,
        env=None if env is None else env.string_value or None,
        unknown=False,
    )


def encode_lock(target: Value, lock: Lock, before: Lock | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Write into the empty map *target* the attributes that differ between *before* and *lock*; None: between the defaults and
    *lock*.

    Returns:
        Stored names of the changed fields (those missing in *target* have their defaults, and are deleted), and stored names
        of the fields that the server's clock must fill.
    """
    target.map_value.SetInParent()
    inner = target.map_value.fields
    changed: list[str] = []
    stamped: list[str] = []
    places: list[tuple[Value, Any]] = []
    old, new = DEFAULTS if before is None else before.__dict__, lock.__dict__
    # Most values are unchanged, the very same objects, and all records have their attributes in one order.
    for name in compress(new, map(is_not, new.values(), old.values())):
        value, known = new[name], old[name]
        if known is not None and value == known:
            continue
        if value is SERVER_TIME:
            stamped.append(STORED_NAMES[name])
            continue
        stored = STORED_NAMES[name]
        changed.append(stored)
        # Against the defaults, a change is no default.
        if before is not None and value == DEFAULTS[name]:
            continue
        places.append((inner[stored], value))
    put_all(places)
    return tuple(changed), tuple(stamped)

"""
Convert fields of a document to Firestore values; the error about a field that can't be stored names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import UsageError
from gcp_oncetask.store.codec import Value, ValueType, encode, put_all


def encode_fields(fields: Mapping[str, Any], owner: str) -> dict[str, Value]:
    """
    Convert *fields* to Firestore values, by name.

    Raises:
        UsageError: Firestore can't hold one of them; the message names it as a field of *owner*.
    """
    encoded: dict[str, Value] = {name: ValueType() for name in fields}
    try:
        put_all(zip(encoded.values(), fields.values(), strict=True))
    except (UsageError, RecursionError):
        _refuse(fields, owner)
        raise
    return encoded


def _refuse(fields: Mapping[str, Any], owner: str) -> None:
    for name, value in fields.items():
        try:
            encode(value)
        except (UsageError, RecursionError) as error:
            where, what = _unstorable(value, name)
            raise UsageError(f"{where} of {owner} can't be stored: {what or error}") from None


def _unstorable(value: Any, at: str) -> tuple[str, str]:
    """
    Return the place inside *value* that Firestore can't hold, and the reason if it is known; else an empty text.
    """
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = [*((f"a key of {at}", key) for key in value), *((f"{at}.{key}", item) for key, item in value.items())]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = [(f"{at}[{place}]", item) for place, item in enumerate(value)]
    elif isinstance(value, str):
        return at, f"{shown(value)} holds half a surrogate pair."
    for where, item in inner:
        try:
            encode(item)
        except (UsageError, UnicodeEncodeError):
            return _unstorable(item, where)
        except RecursionError:
            return at, "it is nested too deeply, or holds itself."
    return at, ""

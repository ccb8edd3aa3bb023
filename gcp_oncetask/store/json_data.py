"""
Convert results and parameters to JSON data for a record, and check them against the limits of Firestore.

Source of the limits: Firestore's quotas, and its refusals (an array in an array, empty and reserved field names, integers
beyond 64 bits, 20 levels, 1,500 bytes of a field's path).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from gcp_oncetask.checks.ordered import in_order
from gcp_oncetask.checks.told import said_by, text_of
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Result

MAX_RESULT: Final = 65_536
"""Most bytes of a stored result or of stored parameters, as JSON."""
_DEPTH: Final = 20
_PATH_BYTES: Final = 1500
_RESERVED: Final = re.compile(r"__.*__", re.DOTALL)
_ABOVE: Final = len("lock.result.")
"""Bytes of a key's path in a stored result, before its own name."""


class _CannotHoldError(Exception):
    """
    Firestore can't hold a value; the message names the part and the reason.
    """


def parameters(value: Any, field: str = "params") -> Any:
    """
    Convert *value* (None, data, or a pydantic model) to JSON data that Firestore can hold.

    Args:
        value: The value from user code.
        field: Its name in an error.

    Raises:
        UsageError: *value* can't be JSON, is too large, or Firestore can't hold it.
    """
    if value is None:
        return None
    try:
        plain = _plain(value)
        _bounded(plain)
        check(plain, depth=1, above=_ABOVE)
    except _CannotHoldError as error:
        raise UsageError(f"{field} can't be stored: {error}") from None
    return plain


def check_fields(fields: Mapping[str, Any], owner: str, inside: str = "") -> None:
    """
    Check that Firestore can hold the *fields* of *owner*: JSON data, and other values in the form in which Firestore loads
    them.

    Args:
        fields: Value by stored name.
        owner: Name of the owner of the fields, for an error.
        inside: The map in the document that has the fields; the empty text: the document itself.

    Raises:
        UsageError: Firestore can't hold a field; the message names it.
    """
    depth, above = (1, len(inside) + 1) if inside else (0, 0)
    try:
        for name, value in fields.items():
            check(value, depth=depth, above=_check_key(name, above, ""), at=name)
    except _CannotHoldError as error:
        raise UsageError(f"{owner} can't be stored: {error}") from None


def result(value: Any) -> Result:
    """
    Return the form in which *value*, the result of a completed run, is recorded. Never raises, because the run is over.
    """
    if value is None:
        return Result(None)
    try:
        plain = _plain(value)
        text = _bounded(plain)
    except _CannotHoldError as error:
        return Result(lost=str(error))
    try:
        check(plain, depth=1, above=_ABOVE)
    except _CannotHoldError:
        return Result(text=text)
    return Result(plain)


def given_result(value: Any) -> Result:
    """
    Check a result that a person or another program states for a run.

    Raises:
        UsageError: The result can't be stored.
    """
    made = result(value)
    if made.lost is not None:
        raise UsageError(f"result can't be stored: {made.lost}")
    return made


def _plain(value: Any) -> Any:
    """
    Convert *value* to JSON data.
    """
    try:
        if isinstance(value, BaseModel):
            return in_order(value, value.model_dump(mode="json", warnings=False), by_alias=False)
        return in_order(value, to_jsonable_python(value))
    except UnicodeError:
        # A text has half a surrogate pair, which JSON can express by an escape.
        return _as_it_is(value)
    except Exception as error:  # noqa: BLE001 - a serializer of user code may raise anything
        raise _CannotHoldError(
            f"a {type(value).__name__} is no JSON data ({said_by(error)}). Use JSON data or a pydantic model."
        ) from None


def _as_it_is(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise _CannotHoldError(f"a {type(value).__name__} is no JSON data ({text_of(error)}).") from None


def _bounded(plain: Any) -> str:
    try:
        text = json.dumps(plain, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _CannotHoldError(f"it is no JSON data ({text_of(error)}).") from None
    if len(text) > MAX_RESULT:
        raise _CannotHoldError(
            f"it has {len(text)} bytes as JSON; at most {MAX_RESULT} are kept. Store it elsewhere and keep its name."
        )
    return text


def check(value: Any, *, depth: int, above: int, at: str = "") -> None:
    """
    Check that Firestore can hold the JSON data *value* in a field.

    Args:
        value: JSON data.
        depth: Number of maps of the document that contain it.
        above: Bytes of the field's path, up to and with the last dot.
        at: Path of the value, for an error.

    Raises:
        _CannotHoldError: Firestore can't hold it; the message names the part and the reason.
    """
    match value:
        case str():
            _check_text(value, at or "the text")
        case bool():
            pass
        case int() if not -(2**63) <= value < 2**63:
            raise _CannotHoldError(f"{at or 'the number'} has more than 64 bits; hand it over as a text.")
        case Mapping() | list() if depth >= _DEPTH:
            raise _CannotHoldError(f"it is nested more than {_DEPTH - 1} levels deep.")
        case Mapping():
            for key, item in value.items():
                below = _check_key(key, above, at)
                check(item, depth=depth + 1, above=below, at=f"{at}.{key}" if at else key)
        case list():
            for number, item in enumerate(value):
                here = f"{at}[{number}]"
                if isinstance(item, list):
                    raise _CannotHoldError(f"{here} is a list in a list; put a map between them.")
                check(item, depth=depth + 1, above=above, at=here)


def _check_key(key: Any, above: int, at: str) -> int:
    """
    Check *key*, and return the bytes of the path up to the values below it.
    """
    inside = f" in {at}" if at else ""
    if not isinstance(key, str):
        raise _CannotHoldError(f"a map{inside} has keys of {type(key).__name__}; declare them as texts.")
    if not key:
        raise _CannotHoldError(f"a map{inside} has an empty key.")
    if _RESERVED.fullmatch(key):
        raise _CannotHoldError(f"the key {key:.60}{inside} is reserved: it begins and ends with two underscores.")
    _check_text(key, f"a key{inside}")
    below = above + len(key.encode()) + 1
    if below - 1 > _PATH_BYTES:
        raise _CannotHoldError(f"the path of the key {key:.60}...{inside} has more than {_PATH_BYTES} bytes.")
    return below


def _check_text(text: str, at: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _CannotHoldError(f"{at} holds half a surrogate pair.") from None

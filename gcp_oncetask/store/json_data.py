"""
Results and parameters on their way into a record: JSON data, checked against what Firestore can hold.

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
"""Bytes of a stored result or of stored parameters, as JSON."""
_DEPTH: Final = 20
_PATH_BYTES: Final = 1500
_RESERVED: Final = re.compile(r"__.*__", re.DOTALL)
_ABOVE: Final = len("lock.result.")
"""Bytes of the path that a key of a stored result has before its own name."""


class _CannotHoldError(Exception):
    """
    Firestore can't hold a value; the message says which part, and why.
    """


def parameters(value: Any, field: str = "params") -> Any:
    """
    *value* as JSON data that Firestore can hold: None, data, or a pydantic model.

    Args:
        value: What user code has handed over.
        field: What it is called in an error.

    Raises:
        UsageError: It can't be JSON, is too large to be kept, or Firestore can't hold it.
    """
    try:
        plain = _plain(value)
        _bounded(plain)
        check(plain, depth=1, above=_ABOVE)
    except _CannotHoldError as error:
        raise UsageError(f"{field} can't be stored: {error}") from None
    return plain


def check_fields(fields: Mapping[str, Any], owner: str, inside: str = "") -> None:
    """
    Nothing, if Firestore can hold the *fields* of *owner*: JSON data, and what else is loaded from Firestore.

    Args:
        fields: Value by stored name.
        owner: Whose fields they are, for an error.
        inside: The map of the document that has them; the empty text: the document itself.

    Raises:
        UsageError: It can't; the message names the field.
    """
    depth, above = (1, len(inside) + 1) if inside else (0, 0)
    try:
        for name, value in fields.items():
            check(value, depth=depth, above=_check_key(name, above, ""), at=name)
    except _CannotHoldError as error:
        raise UsageError(f"{owner} can't be stored: {error}") from None


def result(value: Any) -> Result:
    """
    How *value*, which a completed run has returned, is recorded. Never raises: the run is over, whatever it returned.
    """
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
    The result that a person or a program states for a run of somebody else's.

    Raises:
        UsageError: It can't be stored.
    """
    made = result(value)
    if made.lost is not None:
        raise UsageError(f"result can't be stored: {made.lost}")
    return made


def _plain(value: Any) -> Any:
    """
    *value* as JSON data.
    """
    if value is None:
        return None
    try:
        if isinstance(value, BaseModel):
            return in_order(value, value.model_dump(mode="json", warnings=False), by_alias=False)
        return in_order(value, to_jsonable_python(value))
    except UnicodeError:
        # Half a surrogate pair: JSON can say it, by an escape.
        return _as_it_is(value)
    except Exception as error:  # noqa: BLE001 - a serializer of user code raises anything
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
    Nothing, if Firestore can hold the JSON data *value* in a field.

    Args:
        value: JSON data.
        depth: How many maps of the document contain it.
        above: Bytes of the field's path, up to and with the last dot.
        at: Where it is, for an error.

    Raises:
        _CannotHoldError: It can't; which part, and why.
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
    Bytes of the path below *key*.
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

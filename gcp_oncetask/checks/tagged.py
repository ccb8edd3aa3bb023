"""
Convert values to JSON data and back, so that the value that is read equals the one that was given, in value and type. Pure.

JSON's own values stay as they are. A tuple, a datetime, a date, a time, a timedelta, a Decimal, a UUID, bytes, a mapping with
other keys than texts and a float that is not finite are tagged: ``{"$": "tuple", "v": [1, 2]}``. Instances of other classes
need a type that can read its own output: a pydantic model, a dataclass, an enum.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import sys
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from gcp_oncetask.checks.round_trip import loss
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.errors import UsageError

_TAG: Final = "$"
_DEPTH: Final = 50
_BITS: Final = 14_000
"""Python refuses to read an int of more than 4,300 digits."""


class NotTaggableError(Exception):
    """
    A value can't be kept; the message names the reason.
    """


class Tagged(NamedTuple):
    """
    A value in the form in which it is kept.

    Attributes:
        data: JSON data.
        model: Whether a type has dumped the value, and must read it; if not, the data is tagged.
    """

    data: Any
    model: bool = False


def keep(value: Any, as_: Any = None, *, given: bool = False) -> Tagged:
    """
    Return the form in which *value* is kept.

    Args:
        value: The value.
        as_: Type that writes and reads it, if it is not plain; None: none is known.
        given: Whether the user has named the type, so that it writes plain values, too.

    Raises:
        NotTaggableError: The value can't be kept so that the same is read.
    """
    if not given:
        try:
            return Tagged(_tag(value, 0))
        except NotTaggableError:
            if as_ is None:
                raise
    return Tagged(_dump(value, as_), model=True)


def read(kept: Tagged, as_: Any = None) -> Any:
    """
    Return the value that was kept.

    Raises:
        NotTaggableError: The type can't read it; or there is none, and it needs one.
    """
    if not kept.model:
        return _untag(kept.data)
    if as_ is None:
        raise NotTaggableError("it was written by a model, and none is named to read it; pass result=")
    try:
        return validated(as_, kept.data)
    except Exception as error:  # noqa: BLE001 - validators are user code
        raise NotTaggableError(f"{_name(as_)} can't read it: {said_by(error)}") from None


def returned_by(fn: Callable[..., Any]) -> Any:
    """
    Return the annotated return type of *fn*; None if there is none, or if it can't be read.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, type):
        return fn
    plain = fn if hasattr(fn, "__annotations__") else getattr(type(fn), "__call__", fn)  # noqa: B004 - its annotations
    try:
        found = typing.get_type_hints(plain).get("return")
    except Exception:  # noqa: BLE001 - names that only a type checker knows
        return None
    return None if found in (Any, type(None)) or isinstance(found, typing.TypeVar) else found


def name_of(as_: Any) -> str:
    """
    Return the name by which ``loaded`` finds *as_*; a text that finds nothing if it is no class.
    """
    return f"{as_.__module__}:{as_.__qualname__}" if isinstance(as_, type) else f":{_name(as_)}"[:200]


def loaded(name: str) -> type | None:
    """
    Return the class with that name if this process has loaded it; no module is imported.
    """
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _name(as_: Any) -> str:
    return getattr(as_, "__name__", None) or str(as_)


@functools.lru_cache(maxsize=256)
def _cached(as_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(as_)


def _adapter(as_: Any) -> TypeAdapter[Any]:
    try:
        return _cached(as_)
    except TypeError:  # it is not hashable
        return TypeAdapter(as_)


def _dump(value: Any, as_: Any) -> Any:
    try:
        adapter = _adapter(as_)
        # First the value as the type itself reads it: a result= may take a mapping for its model.
        given = adapter.validate_python(value)
        plain = adapter.dump_python(given, mode="json", round_trip=True, warnings="error")
        found = validated(as_, plain)
    except Exception as error:  # noqa: BLE001 - serializers and validators are user code
        raise NotTaggableError(f"{_name(as_)} can't keep it: {said_by(error)}") from None
    lost = loss(given, found)
    if lost is None and type(given) is not type(found):
        raise NotTaggableError(
            f"a {type(given).__name__} is read as a {type(found).__name__}; name its own class by result= or the annotation"
        )
    if lost is not None:
        raise NotTaggableError((str(lost) if lost.at else f"{lost.why}. {lost.hint}").rstrip("."))
    return plain


def check_type(as_: Any, name: str) -> None:
    """
    Check that pydantic can read and write the type *as_*, which the user has given as *name*.

    Raises:
        UsageError: Pydantic can't.
    """
    try:
        adapter: Any = _adapter(as_)
        if not hasattr(adapter, "rebuild"):
            # Pydantic 2.9: any attribute of an incomplete validator raises.
            str(adapter.validator.title)
        elif not adapter.pydantic_complete:
            adapter.rebuild()
    except Exception as error:  # noqa: BLE001 - user types may raise anything
        said = said_by(error).split("\n", 1)[0].rstrip(".")
        raise UsageError(f"{name}: pydantic can't read {_name(as_)} ({said}). Nothing was stored.") from None


def validated(as_: Any, data: Any) -> Any:
    """
    Return the value that the type *as_* reads from JSON *data*. A strict model takes a text for a datetime only in JSON.

    Raises:
        Exception: The type refuses them, mostly by a pydantic ``ValidationError``.
    """
    adapter = _adapter(as_)
    try:
        return adapter.validate_python(data, strict=False)
    except ValueError:
        try:
            return adapter.validate_json(json.dumps(data))
        except ValueError:
            pass
        raise


def _tag(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise NotTaggableError("it is nested too deeply, or holds itself")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        if value.bit_length() > _BITS:
            raise NotTaggableError("an int has more digits than JSON's reader takes; return it as a text")
        return value
    if kind is float:
        return value if math.isfinite(value) else _tagged("float", repr(value))
    if kind is list:
        return [_tag(item, depth + 1) for item in value]
    if kind is tuple:
        return _tagged("tuple", [_tag(item, depth + 1) for item in value])
    if kind is dict:
        if _TAG not in value and all(type(key) is str for key in value):
            return {key: _tag(item, depth + 1) for key, item in value.items()}
        return _tagged("map", [[_tag(key, depth + 1), _tag(item, depth + 1)] for key, item in value.items()])
    writer = _WRITERS.get(kind)
    if writer is None:
        raise NotTaggableError(
            f"a {kind.__qualname__} is no JSON data; return JSON data, or a pydantic model that result= or the "
            "function's annotation names"
        )
    return _tagged(kind.__name__, writer(value))


def _tagged(tag: str, data: Any) -> dict[str, Any]:
    return {_TAG: tag, "v": data}


def _untag(data: Any) -> Any:
    if isinstance(data, list):
        return [_untag(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    if _TAG not in data:
        return {key: _untag(item) for key, item in data.items()}
    inner = data["v"]
    match data[_TAG]:
        case "tuple":
            return tuple(_untag(item) for item in inner)
        case "map":
            return {_untag(key): _untag(item) for key, item in inner}
        case "float":
            return float(inner)
        case tag:
            return _READERS[tag](inner)


def _aware(value: datetime) -> Any:
    # isoformat() loses the second one of a repeated hour.
    return [value.isoformat(), value.fold]


def _read_datetime(data: Any) -> datetime:
    return datetime.fromisoformat(data[0]).replace(fold=data[1])


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: _aware,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    UUID: str,
    bytes: lambda value: base64.b64encode(value).decode(),
}
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": _read_datetime,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda data: timedelta(*data),
    "Decimal": Decimal,
    "UUID": UUID,
    "bytes": base64.b64decode,
}

"""
Compare a model with the one that is loaded from its stored form. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from gcp_oncetask.checks.told import places, text_of

_WHOLE: Final = "(the whole)"
_ABSENT: Final = object()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Loss:
    """
    A difference between a value and the one that is loaded from its stored form.

    Attributes:
        at: Path of the value: ``pet.name``, ``sizes[2]``.
        why: The difference as a clause, without the values themselves.
        hint: A sentence that says how to correct the model.
    """

    at: str
    why: str
    hint: str

    def __str__(self) -> str:
        return f"the field {self.at!r} does not arrive as it was given: {self.why}. {self.hint}"


INVERSE: Final = (
    "Declare a type that reads what it writes, or give the field a serializer and a validator that undo each other."
)


def loss(given: Any, loaded: Any, *, entity: bool = False, own: frozenset[str] = frozenset()) -> Loss | None:
    """
    Return the first difference between the model *given* and its *loaded* counterpart; None if they are equal.

    Args:
        given: A pydantic model, or a value that has models in it.
        loaded: The model or value loaded from the stored form.
        entity: Compare as Firestore stores values: a naive time equals the same time in UTC, and a tuple equals a list.
            Private attributes are not compared. A text that was assigned without validation may equal the value that the
            field's type reads from it.
        own: Private attributes of *given* that are not to be compared.

    Shape:
        Its texts name fields and types, never values, because stored data may be confidential.
    """
    if not entity and is_equal(given, loaded):
        return None
    return next(_Comparison(entity, own).differences(given, loaded, ""), None)


def is_equal(given: Any, loaded: Any) -> bool:
    """
    Tell whether ``==`` holds them equal; an exception counts as unequal.
    """
    try:
        return bool(given == loaded)
    except Exception:  # noqa: BLE001 - a user's __eq__ failed; the parts are compared instead
        return False


def unreadable(error: Exception) -> Loss:
    """
    Return the loss of a model whose stored form is refused by the model itself, with *error*.
    """
    if not isinstance(error, ValidationError):
        return Loss(_WHOLE, f"validators fail on what is stored of it ({type(error).__name__})", INVERSE)
    at, why = places(error)[0]
    return Loss(at, f"its own model refuses what is stored of it ({why})", INVERSE)


def unwritable(given: BaseModel, error: Exception) -> Loss | None:
    """
    Return the loss of a model that can't be dumped as JSON data because of *error*; None if each field alone can be.
    """
    at, cause = next(_unwritable_fields(given), ("", error))
    if not at:
        return None
    if isinstance(cause, UnicodeError):
        hint = 'Let its model have model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64").'
        return Loss(at, "its bytes are not UTF-8", hint)
    return Loss(
        at,
        f"it is no JSON data ({text_of(cause)})",
        "Declare it as JSON data, or give it a serializer and a validator.",
    )


def _unwritable_fields(given: BaseModel) -> Iterator[tuple[str, Exception]]:
    for name in type(given).model_fields:
        try:
            given.model_dump(mode="json", include={name}, round_trip=True, warnings=False)
        except Exception as error:  # noqa: BLE001 - a serializer may raise anything
            yield name, error


class _Comparison:
    """
    A comparison of two values, with the options of ``loss``.
    """

    def __init__(self, entity: bool, own: frozenset[str]) -> None:
        self._entity = entity
        self._own = own

    def differences(self, given: Any, loaded: Any, at: str) -> Iterator[Loss]:
        if given is loaded or (type(given) in _SCALARS and given == loaded):
            return
        if isinstance(given, BaseModel) and type(given) is type(loaded):
            yield from self._model(given, loaded, at)
        elif is_dataclass(given) and not isinstance(given, type) and type(given) is type(loaded):
            for field in fields(given):
                one, other = (getattr(each, field.name, _ABSENT) for each in (given, loaded))
                yield from self.differences(one, other, _below(at, field.name))
        elif isinstance(given, Mapping) and isinstance(loaded, Mapping):
            yield from self._mapping(given, loaded, at)
        elif self._are_lists(given, loaded):
            for number, (one, other) in enumerate(zip(given, loaded, strict=False)):
                yield from self.differences(one, other, f"{at}[{number}]")
            if len(given) != len(loaded):
                yield Loss(at, f"{len(given)} items are loaded as {len(loaded)}", INVERSE)
        elif not self._equal(given, loaded):
            yield _difference(given, loaded, at)

    def _model(self, given: BaseModel, loaded: BaseModel, at: str) -> Iterator[Loss]:
        model = type(given)
        for name, field in model.model_fields.items():
            one, other = (each.__dict__.get(name, _ABSENT) for each in (given, loaded))
            for found in self.differences(one, other, _below(at, name)):
                if field.exclude:
                    why, hint = "it is excluded from what is stored", "Leave out exclude=True, or give it no value."
                    yield Loss(_below(at, name), why, hint)
                else:
                    yield found
        computed = model.__pydantic_decorators__.computed_fields
        extras = [
            {key: value for key, value in (each.__pydantic_extra__ or {}).items() if key not in computed}
            for each in (given, loaded)
        ]
        yield from self._mapping(extras[0], extras[1], at)
        if not self._entity:
            private = [each.__pydantic_private__ or {} for each in (given, loaded)]
            for name in sorted(private[0].keys() - (self._own if not at else set())):
                for found in self.differences(private[0][name], private[1].get(name, _ABSENT), _below(at, name)):
                    hint = "Make it a field; or a functools.cached_property, if it can be computed again."
                    yield Loss(found.at, "private attributes are not stored", hint)

    def _mapping(self, given: Mapping[Any, Any], loaded: Mapping[Any, Any], at: str) -> Iterator[Loss]:
        for key, value in given.items():
            yield from self.differences(value, loaded.get(key, _ABSENT), _below(at, str(key)))
        for key in loaded.keys() - given.keys():
            yield Loss(_below(at, str(key)), "it is loaded although it was not given", INVERSE)

    def _are_lists(self, given: Any, loaded: Any) -> bool:
        if isinstance(given, list | tuple) and isinstance(loaded, list | tuple):
            return isinstance(given, tuple) == isinstance(loaded, tuple) or self._entity
        return False

    def _equal(self, given: Any, loaded: Any) -> bool:
        try:
            if bool(given == loaded):
                return True
            if given != given and loaded != loaded:  # noqa: PLR0124 - NaN
                return True
        except Exception:  # noqa: BLE001 - a user's __eq__ failed
            return type(given) is type(loaded)
        if isinstance(given, datetime) and isinstance(loaded, datetime):
            return self._same_time(given, loaded)
        if self._entity and type(given) is str and isinstance(loaded, int | float | datetime | Enum):
            return True
        # Objects without an __eq__ of their own are compared by their attributes.
        return type(given) is type(loaded) and _is_opaque(given) and _alike(given, loaded)

    def _same_time(self, given: datetime, loaded: datetime) -> bool:
        if self._entity and given.tzinfo is None:
            given = given.replace(tzinfo=UTC)
        if given.tzinfo is None or loaded.tzinfo is None:
            return False
        # In the hour that a time zone repeats, Python holds times of two zones never equal.
        return given.astimezone(UTC) == loaded.astimezone(UTC)


def _is_opaque(value: Any) -> bool:
    equality: Any = type(value).__eq__
    return equality is object.__eq__


def _alike(given: Any, loaded: Any) -> bool:
    one, other = (getattr(each, "__dict__", {}) for each in (given, loaded))
    return one.keys() == other.keys() and all(_is_opaque(one[key]) or bool(one[key] == other[key]) for key in one)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _difference(given: Any, loaded: Any, at: str) -> Loss:
    one, other = type(given), type(loaded)
    if loaded is _ABSENT:
        return Loss(at, "it is not stored", INVERSE)
    if one is other:
        return Loss(at, f"another value of {one.__name__} is loaded", INVERSE)
    why = f"{_a(one)} is loaded as {_a(other)}"
    if issubclass(one, other):
        hint = f"The additions of the subclass are lost: declare the field as {one.__name__}, or as a union of the classes."
    elif issubclass(one, tuple) and other is list:
        hint = "Declare the field as a tuple, or give it a list."
    elif other in (str, dict, list, int, float, type(None)):
        hint = f"Declare the field as {one.__name__}, or give it JSON data."
    else:
        hint = INVERSE
    return Loss(at, why, hint)


def _a(kind: type) -> str:
    name = "None" if kind is type(None) else kind.__name__
    return name if name == "None" else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"

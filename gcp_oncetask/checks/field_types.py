"""
Find fields whose type can't be stored and loaded again, as far as the type alone shows it. Pure.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import io
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, get_args, get_origin
from uuid import UUID

import pydantic
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Json,
    PlainSerializer,
    PlainValidator,
    WrapSerializer,
    WrapValidator,
)
from pydantic.fields import FieldInfo

from gcp_oncetask.errors import UsageError

_SECRETS: Final[Any] = (pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret)
_SERIALIZERS: Final = (PlainSerializer, WrapSerializer)
_VALIDATORS: Final = (BeforeValidator, AfterValidator, WrapValidator, PlainValidator)
_JSON: Final[Any] = Json
_ONCE: Final = (
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
_FILES: Final = (typing.IO, typing.TextIO, typing.BinaryIO)
_WHOLE: Final = frozenset(
    {str, int, float, bool, bytes, type(None), datetime, date, time, timedelta, Decimal, UUID, pydantic.AwareDatetime}
)
_CODE: Final = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


@dataclass(frozen=True, slots=True)
class Storing:
    """
    The form in which models are stored.

    Attributes:
        aware: All times are loaded with a time zone, also those that were stored without.
        by_name: Fields may also be stored by name instead of by alias.
    """

    aware: bool = False
    by_name: bool = False


PAYLOAD: Final = Storing()
ENTITY: Final = Storing(aware=True)
RESULT: Final = Storing(by_name=True)


def check_model(model: type[BaseModel], storing: Storing) -> None:
    """
    Refuse *model* if it or a model in it has a field of which no value could be stored and loaded again.

    Raises:
        UsageError: The message names the field and says what to do.
    """
    found = next(_Walk(storing).model(model, ""), None)
    if found is not None:
        raise UsageError(f"{model.__name__}: the field {found}")


def check_type(annotation: Any, name: str, storing: Storing) -> None:
    """
    Refuse the type *annotation* for the same reasons. *name* stands for it in the message.

    Raises:
        UsageError: The message names *name* and the field of the model in it, if any, and says what to do.
    """
    found = next(_Walk(storing).annotation(annotation, (), ""), None)
    if found is not None:
        raise UsageError(f"{name}: {found}")


def is_plain(model: type[BaseModel]) -> bool:
    """
    Tell whether all fields of *model* are stored without loss: texts, numbers, times and enums, alone or in lists and maps,
    without custom serializers and validators.
    """
    decorators = model.__pydantic_decorators__
    if (
        decorators.field_serializers
        or decorators.model_serializers
        or decorators.field_validators
        or decorators.model_validators
        or model.model_config.get("extra") == "allow"
    ):
        return False
    return all(
        not field.exclude and _is_whole(field.annotation) and not any(map(_converts, field.metadata))
        for field in model.model_fields.values()
    )


def _converts(metadata: Any) -> bool:
    return isinstance(metadata, (*_SERIALIZERS, *_VALIDATORS)) or _is_json(metadata)


def _is_json(metadata: Any) -> bool:
    return metadata is _JSON or isinstance(metadata, _JSON)


def _is_whole(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is None:
        return isinstance(annotation, type) and (annotation in _WHOLE or issubclass(annotation, Enum))
    if origin is typing.Literal:
        return True
    if origin is typing.Annotated:
        inner, *more = get_args(annotation)
        return _is_whole(inner) and not any(map(_converts, more))
    if origin in (typing.Union, types.UnionType, list, tuple, set, frozenset, dict):
        return all(each is Ellipsis or _is_whole(each) for each in get_args(annotation))
    return False


def reads_other_forms(model: type[BaseModel]) -> bool:
    """
    Tell whether *model* is read from another form than the usual one: it has ``Json`` fields, which are read from text, or
    it refuses its own computed fields.
    """
    walk = _Walk(PAYLOAD)
    for _ in walk.model(model, ""):
        pass
    return walk.json or any(
        each.model_config.get("extra") == "forbid" and each.__pydantic_decorators__.computed_fields
        for each in walk.models
    )


class _Walk:
    """
    Walks through the types of a model's fields, and yields a sentence about each one that can't be stored.
    """

    def __init__(self, storing: Storing) -> None:
        self._storing = storing
        self.models: list[type[BaseModel]] = []
        self._seen: list[Any] = []
        self.json = False

    def model(self, model: type[BaseModel], at: str) -> Iterator[str]:
        if model in self.models:
            return
        self.models.append(model)
        if model.__pydantic_decorators__.model_serializers:
            # The model is stored in a form of its own.
            return
        renames = any(each.info.mode != "after" for each in model.__pydantic_decorators__.model_validators.values())
        written = _fields_of(model.__pydantic_decorators__.field_serializers)
        read = _fields_of(model.__pydantic_decorators__.field_validators)
        for name, field in model.model_fields.items():
            here = f"{at}.{name}" if at else name
            if field.exclude:
                if field.is_required() and not renames:
                    yield (
                        f"{here!r} is excluded from what is stored (exclude=True) and has no default, so it could never be "
                        "loaded. Give it a default, or leave out exclude=True."
                    )
                continue
            if not renames:
                yield from self._alias(model, name, field, here)
            if not {name, "*"} & written:
                converted = bool({name, "*"} & read)
                for found in self.annotation(field.annotation, tuple(field.metadata), here):
                    if not (converted and found.endswith(_NAIVE)):
                        yield found

    def _alias(self, model: type[BaseModel], name: str, field: FieldInfo, at: str) -> Iterator[str]:
        config = model.model_config
        accepted = set(_texts(field.validation_alias)) if config.get("validate_by_alias", True) else set()
        if field.validation_alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
            accepted.add(name)
        stored = field.serialization_alias or name
        if stored not in accepted and not (self._storing.by_name and name in accepted):
            read = " or ".join(map(repr, sorted(accepted))) or "a part of another field"
            yield (
                f"{at!r} is stored as {stored!r}, but read from {read}, so it could never be loaded. Give it alias=, which "
                "holds both ways, or set populate_by_name=True."
            )
        if not self._storing.by_name and (
            stored == "" or (len(stored) >= 4 and stored.startswith("__") and stored.endswith("__"))
        ):
            yield f"{at!r} is stored as {stored!r}, a name that Firestore keeps for itself. Give it another alias."

    def annotation(self, annotation: Any, metadata: tuple[Any, ...], at: str) -> Iterator[str]:
        if any(map(_is_json, (annotation, *metadata))):
            self.json = True
            return
        if any(isinstance(each, _SERIALIZERS) for each in metadata):
            return
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            inner, *more = get_args(annotation)
            yield from self.annotation(inner, tuple(more), at)
            return
        kind = origin or annotation
        sentence = self._kind(kind)
        if sentence is not None:
            yield f"{at!r} {sentence}" if at else f"it {sentence}"
            return
        if any(kind is each for each in self._seen):
            return
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from self.model(kind, at)
            return
        if isinstance(kind, type) and (
            dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or typing.is_typeddict(kind)
        ):
            self._seen.append(kind)
            for name, hint in _hints(kind).items():
                yield from self.annotation(hint, (), f"{at}.{name}" if at else name)
        if hasattr(annotation, "__value__"):
            # An alias: type X = ...
            self._seen.append(annotation)
            yield from self.annotation(annotation.__value__, (), at)
        for each in get_args(annotation):
            yield from self.annotation(each, (), at)

    def _kind(self, kind: Any) -> str | None:
        if kind in _FILES or kind is collections.abc.Callable or kind in _CODE:
            return (
                "is code or an open file, which can't be stored. Store a name, and let the handler find the rest by it."
            )
        if kind in _ONCE:
            return "can be read only once, so it is used up when it is stored. Declare it as a list."
        if not isinstance(kind, type):
            return None
        if issubclass(kind, _SECRETS):
            return (
                "is a secret: only its asterisks would be stored, and a secret does not belong in a document. Keep it in Secret "
                "Manager, and store the secret's name."
            )
        if issubclass(kind, io.IOBase):
            return self._kind(typing.IO)
        if self._storing.aware and kind is pydantic.NaiveDatetime:
            return _NAIVE
        return None


_NAIVE: Final = (
    "is a time without a time zone, but Firestore gives all times back in UTC, so it could never be loaded. Declare it as "
    "AwareDatetime."
)


def _texts(alias: str | AliasPath | AliasChoices | None) -> Iterator[str]:
    match alias:
        case str():
            yield alias
        case AliasPath(path=[str(name)]):
            yield name
        case AliasChoices():
            for each in alias.choices:
                yield from _texts(each)


def _fields_of(decorators: dict[str, Any]) -> set[str]:
    return {name for each in decorators.values() for name in each.info.fields}


def _hints(kind: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - a name is not defined (yet); the values are checked instead
        return {}
    names = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else hints.keys()
    return {name: hints[name] for name in names}

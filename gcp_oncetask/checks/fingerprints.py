"""
Fingerprints of models: digests of the names and types that decide whether stored data fits. Pure. All processes that have
the same model compute the same digest, independent of the version of pydantic, the hash seed and the order of imports.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Final, get_args, get_origin
from uuid import UUID

from pydantic import AliasChoices, AliasPath, BaseModel, Json
from pydantic.fields import FieldInfo

_CONSTRAINTS: Final = (
    "gt",
    "ge",
    "lt",
    "le",
    "multiple_of",
    "min_length",
    "max_length",
    "pattern",
    "strict",
    "allow_inf_nan",
    "max_digits",
    "decimal_places",
)
"""
Names of constraints in a type's metadata. They are looked up by name, because pydantic's classes for them differ between
its versions.
"""
_SETTINGS: Final = ("extra", "strict", "str_min_length", "str_max_length", "coerce_numbers_to_str", "allow_inf_nan")
_JSON: Final[Any] = Json
_SAID_BY_REPR: Final = (str, bytes, int, float, type(None), date, time, timedelta, Decimal, UUID)


@cache
def fingerprint(model: type[BaseModel]) -> str:
    """
    Return a digest of the fields of *model*, of their aliases and types, and of the models in them: 16 hexadecimal digits.
    It is computed at the first call for a class, and cached.

    No guarantee
        Validators, serializers and defaults are not part of it: a change of them alone does not change the fingerprint.
    """
    return hashlib.sha256(description(model).encode()).hexdigest()[:16]


def description(model: type[BaseModel]) -> str:
    """
    Return the text that the fingerprint is the digest of: one line about *model*, then one about each class in it, in
    ascending order.
    """
    if not model.__pydantic_complete__:
        model.model_rebuild(raise_errors=False)
    walk = _ModelWalk(model)
    first, *others = walk.lines()
    return "\n".join([first, *sorted(others)])


class _ModelWalk:
    """
    Walks through the classes in a model's fields.

    Args:
        model: The model. Its name is left out, because a renamed class still fits the same data.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._found: list[Any] = [model]

    def lines(self) -> Iterator[str]:
        """
        Yield one line per class found, the model's first.
        """
        # The list grows during the loop: describing a class may find further classes.
        for kind in self._found:
            yield f"{self._name(kind)}: {self._described(kind)}"

    def _described(self, kind: Any) -> str:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return " | ".join(sorted(_value(member.value) for member in kind))
        if hasattr(kind, "__value__"):
            return self.text(kind.__value__)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = [*self._fields(kind.model_fields), *map("={}".format, kind.model_computed_fields)]
            return "; ".join([*_settings(kind.model_config), *sorted(fields)])
        known = kind.__dict__.get("__pydantic_fields__")
        if known is not None:
            return "; ".join([*_settings(getattr(kind, "__pydantic_config__", {})), *sorted(self._fields(known))])
        fields = [f"{name}{'' if needed else '?'} {self.text(hint)}" for name, hint, needed in _members(kind)]
        # Only named tuples are stored as lists, so only for them the order of fields matters.
        return "; ".join(fields if hasattr(kind, "_fields") else sorted(fields))

    def _fields(self, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
        for name, field in fields.items():
            if not field.exclude:
                needed = "" if field.is_required() else "?"
                aliases = f" as {_aliases(field)}" if _aliases(field) else ""
                yield f"{name}{needed}{aliases} {self.text(field.annotation)}{_constraints(field.metadata)}"

    def _name(self, kind: Any) -> str:
        if kind is self._model:
            return "(model)"
        generic = getattr(kind, "__pydantic_generic_metadata__", None) or {}
        if generic.get("origin") is not None and generic.get("args"):
            # pydantic's own name for it differs between versions.
            return f"{generic['origin'].__name__}[{', '.join(map(self.text, generic['args']))}]"
        return str(getattr(kind, "__name__", type(kind).__name__))

    def _reference(self, kind: Any) -> str:
        if all(kind is not each for each in self._found):
            self._found.append(kind)
        return self._name(kind)

    def text(self, annotation: Any) -> str:  # noqa: PLR0911 - a table
        """
        Return *annotation* as text. Members of a union or a ``Literal`` are sorted: ``typing`` caches them, and may return
        one with another order.
        """
        origin = get_origin(annotation)
        match annotation:
            case None | types.NoneType:
                return "None"
            case str():
                return annotation
            case list():
                return f"[{', '.join(map(self.text, annotation))}]"
            case typing.ForwardRef():
                return annotation.__forward_arg__
            case typing.NewType():
                return self.text(annotation.__supertype__)
            case typing.TypeVar():
                return annotation.__name__
            case _ if annotation is Ellipsis:
                return "..."
            case _ if origin is typing.Annotated:
                inner, *more = get_args(annotation)
                return f"{self.text(inner)}{_constraints(more)}"
            case _ if origin is typing.Literal:
                return f"Literal[{', '.join(sorted(map(_value, get_args(annotation))))}]"
            case _ if origin in (typing.Union, types.UnionType):
                return " | ".join(sorted(set(map(self.text, get_args(annotation)))))
        kind = annotation if origin is None else origin
        name = self._reference(kind) if _has_parts(kind) else str(getattr(kind, "__name__", type(kind).__name__))
        arguments = ", ".join(map(self.text, get_args(annotation)))
        return f"{name}[{arguments}]" if arguments else name


def _has_parts(kind: Any) -> bool:
    if hasattr(kind, "__value__"):
        # An alias: type X = ...
        return True
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel | Enum)
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "_fields")
        # A TypedDict, of typing or of typing_extensions.
        or hasattr(kind, "__required_keys__")
    )


def _members(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """
    Yield name, type and "is required" of each field of a dataclass, a named tuple or a ``TypedDict``.
    """
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - a name is not defined (yet)
        hints = dict(getattr(kind, "__annotations__", {}))
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield field.name, hints.get(field.name, field.type), needed
        return
    optional = {*getattr(kind, "__optional_keys__", ()), *getattr(kind, "_field_defaults", ())}
    for name in getattr(kind, "_fields", hints):
        yield name, hints.get(name, Any), name not in optional


def _settings(config: Mapping[str, Any]) -> list[str]:
    found = [f"{name}={config[name]}" for name in _SETTINGS if config.get(name) is not None]
    # pydantic has two names for this setting; either may be set.
    if config.get("populate_by_name") or config.get("validate_by_name"):
        found.append("by_name")
    return [*found, "not by alias"] if config.get("validate_by_alias") is False else found


def _aliases(field: FieldInfo) -> str:
    read, written = _alias(field.validation_alias), _alias(field.serialization_alias)
    return read if read == written else f"{read} -> {written}"


def _alias(alias: str | AliasPath | AliasChoices | None) -> str:
    match alias:
        case None:
            return ""
        case AliasPath():
            return repr(list(alias.path))
        case AliasChoices():
            return " or ".join(map(_alias, alias.choices))
        case _:
            return repr(alias)


def _constraints(metadata: Iterable[Any]) -> str:
    found = dict(_said(metadata))
    return f"({', '.join(f'{name}={found[name]}' for name in sorted(found))})" if found else ""


def _said(metadata: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for each in metadata:
        if each is _JSON or isinstance(each, _JSON):
            yield "json", "True"
        elif isinstance(each, FieldInfo):
            yield from _said(each.metadata)
        else:
            for name in _CONSTRAINTS:
                value = getattr(each, name, None)
                if value is not None:
                    yield name, _value(value)


def _value(value: Any) -> str:
    if isinstance(value, Enum):
        return _value(value.value)
    if isinstance(value, re.Pattern):
        return repr(value.pattern)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_value, value))})"
    # The repr of other values may differ between processes.
    return repr(value) if isinstance(value, _SAID_BY_REPR) else type(value).__name__

"""
Put sets into one order that depends neither on the process, nor on its hash seed, nor on the order of insertion. Pure.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, RootModel

T = TypeVar("T")
_CONTAINERS: Final = (list, dict)


def in_order(value: Any, dumped: Any, *, by_alias: bool = True) -> Any:
    """
    Return *dumped*, the JSON data of *value*, with each list that stands for a set or frozenset sorted, at any depth.

    Texts and numbers ascend; items of other or several types are ordered by their JSON. Lists that stand for anything else
    stay as they are.

    Args:
        value: Data, pydantic models and dataclasses in any mixture.
        dumped: JSON data that pydantic made of *value*; changed in place.
        by_alias: Whether *dumped* has the fields of models by alias.
    """
    if isinstance(value, RootModel):
        return in_order(value.root, dumped, by_alias=by_alias)
    if isinstance(dumped, list):
        return _list_in_order(value, dumped, by_alias)
    if isinstance(dumped, dict) and any(type(plain) in _CONTAINERS for plain in dumped.values()):
        for key, item in _parts(value, dumped, by_alias):
            plain = dumped.get(key)
            if type(plain) in _CONTAINERS:
                dumped[key] = in_order(item, plain, by_alias=by_alias)
    return dumped


def _list_in_order(value: Any, dumped: list[Any], by_alias: bool) -> list[Any]:
    is_set = isinstance(value, set | frozenset)
    if not (is_set or isinstance(value, list | tuple | deque)) or len(value) != len(dumped):
        return dumped
    items = dumped
    if any(type(plain) in _CONTAINERS for plain in dumped):
        # Value and JSON data have the same order, that of iteration.
        items = [in_order(item, plain, by_alias=by_alias) for item, plain in zip(value, dumped, strict=True)]
    return arranged(items, _json) if is_set else items


def _parts(value: Any, dumped: dict[str, Any], by_alias: bool) -> Iterable[tuple[str, Any]]:
    """
    Return the values from which the map *dumped* was made, each with its key.
    """
    if isinstance(value, BaseModel):
        held = vars(value)
        fields = type(value).model_fields.items()
        known = [((by_alias and info.serialization_alias) or name, held[name]) for name, info in fields if name in held]
        return [*known, *(value.model_extra or {}).items()]
    if isinstance(value, Mapping) and len(value) == len(dumped):
        return zip(list(dumped), value.values(), strict=True)
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return ()


def arranged(items: Iterable[T], text: Callable[[T], Any]) -> list[T]:
    """
    Sort the *items* of a set: ascending if all are texts or all are finite numbers, else by *text*.
    """
    found: list[Any] = list(items)
    if all(type(item) is str for item in found):
        return sorted(found)
    if all(type(item) in (int, float) and math.isfinite(item) for item in found):
        return sorted(found, key=lambda item: (item, text(item)))
    return sorted(found, key=text)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

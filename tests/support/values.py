"""
Values and payloads whose texts must not depend on the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, RootModel, field_serializer

from gcp_oncetask.locks.canonical import canonical
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.json_data import result
from gcp_oncetask.tasks.data import TaskData


class Colour(Enum):
    RED = "red"
    GREEN = 7


class Paint(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 7


class Size(StrEnum):
    BIG = "a"


class Access(Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass(frozen=True)
class Box:
    tags: Any
    note: str = field(default="", compare=False)


class OrderId(str):
    __slots__ = ()


class Point(BaseModel):
    model_config = ConfigDict(frozen=True)

    x: Any
    y: Any = 0


class Spot(BaseModel):
    x: Any
    y: Any = 0


class Knot:
    """Its models know what it is."""

    def __init__(self, ends: int) -> None:
        self.ends = ends

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Knot) and self.ends == other.ends

    def __hash__(self) -> int:
        return self.ends


class Rope(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    knot: Annotated[Knot, PlainSerializer(lambda knot: {"ends": knot.ends})]
    box: Box | None = None


class Masked(BaseModel):
    """Its dumps all look the same."""

    x: Any

    @field_serializer("x")
    def shown(self, _: Any) -> str:
        """Nothing."""
        return "***"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: Any = None


class Tags(RootModel[set[str]]):
    pass


@dataclass(frozen=True)
class Crate:
    tags: frozenset[str]


class Tagged(BaseModel):
    model_config = ConfigDict(frozen=True)

    tags: frozenset[str] = Field(alias="labels")


class Bag(TaskData, kind="bag"):
    """Sets wherever a payload may have one."""

    texts: set[str]
    numbers: frozenset[float]
    mixed: set[int | float | str | None]
    days: set[date]
    colours: set[Colour]
    models: set[Tagged]
    by_name: dict[str, set[str]]
    rows: list[frozenset[str]]
    sets: set[frozenset[str]]
    tags: Tags
    box: Crate
    chosen: set[str]
    listed: list[str]

    @field_serializer("chosen")
    def _any_order(self, chosen: set[str]) -> list[str]:
        return list(chosen)


class Order(BaseModel):
    tags: set[str]


WORDS = ["ant", "bee", "cat", "dog", "eel", "fox", "a b", "a", 'q"', "ü"]


def sets(words: Iterable[str]) -> list[Any]:
    """
    Values with sets in them, filled in the order of *words*.
    """
    words = list(words)
    return [
        set(words),
        frozenset(words),
        {(word, len(word)) for word in words},
        {frozenset([word, "x", "y"]) for word in words},
        {word: set(words) for word in words},
        [Point(x=frozenset(words)), {Point(x=word) for word in words}, {Box(frozenset(words)), Box(set(words) and 1)}],
        {Decimal(len(word)) for word in words} | set(words),  # type: ignore[operator]
        {1, 2.5, None, "1", b"1", date(2026, 1, 1), Colour.RED, UUID(int=1), timedelta(1)},
    ]


def bag(words: Iterable[str]) -> Bag:
    """
    A payload with sets, filled in the order of *words*.
    """
    words = list(words)
    return Bag(
        texts=set(words),
        numbers=frozenset([10.0, 9.0, -1.5, 1e300]),
        mixed={*words, 1, 2.5, None},
        days={date(2026, 1, day) for day in range(1, 9)},
        colours=set(Colour),
        models={Tagged(labels=frozenset([word, "x", "y"])) for word in words},
        by_name={word: set(words) for word in words},
        rows=[frozenset(words), frozenset(WORDS[:5])],
        sets={frozenset(words), frozenset(WORDS[:5]), frozenset(WORDS[2:6])},
        tags=Tags(set(words)),
        box=Crate(frozenset(words)),
        chosen=set(words),
        listed=["c", "a", "b"],
    )


def texts(words: Iterable[str] = WORDS) -> list[str]:
    """
    The texts and hashes of all of them.
    """
    words = list(words)
    found = [canonical(value) for value in sets(words)]
    data = bag(words)
    found += [data.payload_hash(), data.task_id(), json.dumps(data.payload(), sort_keys=True)]
    untyped = {
        "any": set(words),
        "in": [{"deep": {frozenset(words), (2, 1), 3}}],
        "models": {Tagged(labels=frozenset(words))},
    }
    results = [set(words), untyped, Order(tags=set(words))]
    found += [json.dumps(result(value).data(), sort_keys=True) for value in results]
    found.append(
        encode({"tags": set(words), "at": {datetime(2026, 1, 1, tzinfo=UTC), 1, "1"}}).SerializeToString(True).hex()
    )
    return found

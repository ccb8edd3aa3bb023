"""
Fields of every sort of type, with values: what becomes of them in payloads, in fields of entities and in results of functions.

One row per row of the table in ``docs/reference/payloads.md``.
"""

from __future__ import annotations

import functools
import ipaddress
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from google.cloud.firestore import GeoPoint
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    NaiveDatetime,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import TypedDict

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "payloads.md"
NAN, INFINITY = float("nan"), float("inf")
BERLIN = ZoneInfo("Europe/Berlin")
BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    SMALL = "s"


class Level(IntEnum):
    LOW = 1


class Metres(int):
    pass


class Pet(BaseModel):
    name: str


class Dog(Pet):
    tricks: int = 0


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Bird(BaseModel):
    kind: Literal["bird"] = "bird"
    wings: int = 2


@dataclass
class Point:
    x: int
    y: int = 0


class Named(NamedTuple):
    x: int
    at: date


class Typed(TypedDict):
    x: int
    at: date


class Tags(RootModel[list[str]]):
    pass


class Thing:
    """
    A type without equality, which can't be stored.
    """


class Money:
    """
    A type with a form of its own, but without equality.
    """

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.cents),
        )


@dataclass
class Case:
    """
    Models that are made with a field ``x``.

    Attributes:
        annotation: Type of the field.
        values: Values of the field, each of which is tried; of a call, to be made anew.
        default: Default of the field, or a ``Field``.
        config: Configuration of the model.
        body: More of the model's namespace.
        assigned: The values are assigned to the field of a model that was made with this.
        attribute: What the values are assigned to.
    """

    annotation: Any
    values: Sequence[Any]
    default: Any = ...
    config: ConfigDict = field(default_factory=ConfigDict)
    body: dict[str, Any] = field(default_factory=dict)
    assigned: Any = ...
    attribute: str = "x"

    def namespace(self) -> dict[str, Any]:
        """
        Of the class.
        """
        default = {} if self.default is ... else {"x": self.default}
        return {
            "__annotations__": {"x": self.annotation, **self.body.get("__annotations__", {})},
            "__module__": __name__,
            "model_config": self.config,
            **default,
            **{name: value for name, value in self.body.items() if name != "__annotations__"},
        }

    def fill(self, model: Any, value: Any, **more: Any) -> Any:
        """
        An instance with *value*.
        """
        if self.assigned is ...:
            return model(**{"x": value, **more})
        made = model(**{"x": self.assigned, **more})
        setattr(made, self.attribute, value)
        return made


@computed_field
@property
def total(self: Any) -> int:
    return int(self.x) * 2


@field_serializer("x")
def as_euros(self: Any, value: int) -> str:
    return f"{value / 100:.2f} EUR"


@field_validator("x", mode="before")
@classmethod
def from_euros(cls: Any, value: Any) -> Any:
    return round(float(value.removesuffix(" EUR")) * 100) if isinstance(value, str) else value


@field_validator("x")
@classmethod
def louder(cls: Any, value: str) -> str:
    return f"{value}!"


@model_serializer
def short(self: Any) -> dict[str, Any]:
    return {"y": self.x}


@model_validator(mode="before")
@classmethod
def long(cls: Any, data: Any) -> Any:
    # Changes what it is given, as such validators do.
    if isinstance(data, dict) and "y" in data:
        data["x"] = data.pop("y")
    return data


@functools.cached_property
def doubled(self: Any) -> int:
    return int(self.x) * 2


def secret(value: SecretStr) -> str:
    return value.get_secret_value()


# The second 02:30 of that night.
TWICE = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
SERIALIZED = Annotated[SecretStr, PlainSerializer(secret)]

ROWS: dict[str, list[Case]] = {
    "`str`, `bool`, `int`, `float`, `Literal`, with None and constraints": [
        Case(str, ["", "ä\n\U0001f600"]),
        Case(int, [0, -(2**63), 2**63 - 1]),
        Case(float, [1.0, 0.1, 1e300, 5e-324, -0.0]),
        Case(bool | None, [True, None]),
        Case(Literal["a", 1], ["a", 1]),
        Case(Annotated[int, Field(gt=1)], [2]),
        Case(int | str | float, [1, "1", 1.5]),
    ],
    "NaN and infinities in `float`": [Case(float, [NAN, INFINITY, -INFINITY])],
    "values of subclasses of `int` and `str` there (pydantic makes them plain)": [
        Case(int, [Metres(3), Level.LOW, False]),
        Case(str, [Size.SMALL]),
    ],
    "whole numbers of more than 64 bits": [Case(int, [2**63, -(2**63) - 1])],
    "aware `datetime`: the same instant": [
        Case(datetime, [datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=BERLIN), TWICE, datetime(1970, 1, 1, tzinfo=UTC)]),
        Case(AwareDatetime | None, [datetime(2026, 7, 1, tzinfo=UTC), None]),
    ],
    "`datetime` without a time zone": [Case(datetime, [datetime(2026, 1, 2, 3, 4, 5)])],
    "`NaiveDatetime`": [Case(NaiveDatetime, [datetime(2026, 1, 2, 3, 4, 5)])],
    "`date`, `time`, `timedelta`": [
        Case(date, [date(2026, 2, 28)]),
        Case(time, [time(1, 2, 3, 4), time(1, 2, tzinfo=UTC)]),
        Case(timedelta, [timedelta(days=-1, microseconds=1), timedelta(weeks=400)]),
    ],
    "`Decimal`, `UUID`, `Path`, `IPv4Address` and its kin": [
        Case(Decimal, [Decimal("1.00"), Decimal("1e-30"), Decimal("12345678901234567890.1")]),
        Case(uuid.UUID, [uuid.UUID(int=7)]),
        Case(Path, [Path("/a/b")]),
        Case(ipaddress.IPv4Address, [ipaddress.IPv4Address("10.0.0.1")]),
        Case(ipaddress.IPv6Network, [ipaddress.IPv6Network("2001:db8::/32")]),
    ],
    "`Enum`, `StrEnum`, `IntEnum`": [Case(Colour, [Colour.RED]), Case(Size, [Size.SMALL]), Case(Level, [Level.LOW])],
    "`bytes` that are UTF-8": [Case(bytes, [b"", "ä".encode()])],
    "other `bytes`": [Case(bytes, [b"\xff\x00"])],
    '`bytes`, with `ser_json_bytes` and `val_json_bytes` `"base64"`': [
        Case(bytes, [b"\xff\x00", b"abcd", "ä".encode()], config=BASE64)
    ],
    "`list`, `tuple`, `set`, `frozenset`, `dict` with text keys": [
        Case(list[int], [[], [1, 2]]),
        Case(tuple[int, str], [(1, "a")]),
        Case(tuple[date, ...], [(), (date(2026, 1, 1),)]),
        Case(set[int], [set(), {3, 1, 2}]),
        Case(frozenset[str], [frozenset("ab")]),
        Case(dict[str, Decimal], [{}, {"a.b/c": Decimal("1.5")}]),
        Case(dict[str, dict[str, list[date]]], [{"a": {"b": [date(2026, 1, 1)]}}]),
        Case(Sequence[str], [["a"]]),
    ],
    "a tuple in a `Sequence`": [Case(Sequence[str], [("a",)])],
    "`dict` with keys that are no texts": [
        Case(dict[int, str], [{1: "a"}]),
        Case(dict[uuid.UUID, int], [{uuid.UUID(int=7): 1}]),
        Case(dict[date, int], [{date(2026, 1, 1): 1}]),
    ],
    "keys of maps that are empty or like `__name__`": [Case(dict[str, int], [{"": 1}, {"__sum__": 1}])],
    "a list in a list (or tuple, set)": [
        Case(list[list[int]], [[[1]]]),
        Case(list[tuple[int, int]], [[(1, 2)]]),
        Case(dict[str, Any], [{"a": {"b": [[]]}}]),
    ],
    "models, dataclasses, `TypedDict`, `NamedTuple`, `RootModel`": [
        Case(Pet, [Pet(name="a")]),
        Case(list[Pet] | None, [[Pet(name="a")], None]),
        Case(Point, [Point(1)]),
        Case(Typed, [{"x": 1, "at": date(2026, 1, 1)}]),
        Case(Named, [Named(1, date(2026, 1, 1))]),
        Case(Tags, [Tags(["a"])]),
    ],
    "unions, with a discriminator or without": [
        Case(Annotated[Cat | Bird, Field(discriminator="kind")], [Cat(), Bird(wings=1)]),
        Case(Pet | Point, [Pet(name="a"), Point(1)]),
    ],
    "a text in `datetime | str` that looks like a time": [Case(datetime | str, ["2026-01-01T00:00:00"])],
    "a subclass where the field's type is its base": [
        Case(Pet, [Dog(name="a", tricks=1), Dog(name="a")]),
        Case(list[Pet], [[Pet(name="a"), Dog(name="b")]]),
        Case(dict[str, Pet], [{"a": Dog(name="b")}]),
    ],
    "`Any`, `object` with JSON data": [
        Case(Any, [None, 1, 1.5, "a", [1, {"b": None}], {"a": [True]}]),
        Case(object, [{"a": 1}]),
    ],
    "`Any` with a tuple": [Case(Any, [(1, 2), {"a": (1, 2)}])],
    "`Any` with a set, model, `Decimal` or other Python object": [
        Case(Any, [{1, 2}, Pet(name="a"), Decimal("1.5"), date(2026, 1, 1), {"a": {"b": Pet(name="c")}}, Point(1)]),
    ],
    "`SecretStr`, `SecretBytes`": [
        Case(SecretStr, []),
        Case(SecretBytes | None, [], default=None),
        Case(dict[str, list[SecretStr]], []),
    ],
    "those with a serializer of their own": [Case(SERIALIZED, [SecretStr("s")])],
    "`computed_field`": [
        Case(int, [1], body={"total": total}, config=ConfigDict(extra="ignore")),
        Case(int, [1], body={"total": total}, config=ConfigDict(extra="forbid")),
    ],
    "`Json[...]`": [Case(Json[list[list[int]]], ["[[1], [2, 3]]"]), Case(Json[int] | None, ["1", None])],
    "`alias=`": [Case(int, [1], default=Field(alias="y"), config=ConfigDict(populate_by_name=True))],
    "one-way aliases: `validation_alias=` or `serialization_alias=` alone": [
        Case(int, [], default=Field(validation_alias="y")),
        Case(int, [], default=Field(validation_alias="y", serialization_alias="z")),
    ],
    "those with `populate_by_name=True`": [
        Case(int, [1], default=Field(validation_alias="y"), config=ConfigDict(populate_by_name=True))
    ],
    "an alias like `__name__`": [
        Case(int, [1], default=Field(alias="__x__"), config=ConfigDict(populate_by_name=True))
    ],
    "`exclude=True` without a default": [Case(int, [], default=Field(exclude=True))],
    "`exclude=True` with a value other than the default": [Case(int, [1], default=Field(default=0, exclude=True))],
    "`exclude=True` with the default": [Case(int, [0], default=Field(default=0, exclude=True))],
    "private attributes that were set": [
        Case(
            int,
            [5],
            body={"__annotations__": {"_note": int}, "_note": PrivateAttr(0)},
            assigned=1,
            attribute="_note",
        )
    ],
    "`functools.cached_property`, private attributes with their defaults": [
        Case(
            int,
            [1],
            body={
                "doubled": doubled,
                "__annotations__": {"_lock": Any},
                "_lock": PrivateAttr(default_factory=threading.Lock),
            },
        )
    ],
    "`Iterable`, `Iterator`, `Generator`": [Case(Iterable[int], []), Case(Iterable[int] | None, [], default=None)],
    "functions, open files": [
        Case(Callable[[], int], []),
        Case(IO[str], [], config=ConfigDict(arbitrary_types_allowed=True)),
    ],
    "other types that pydantic does not know": [
        Case(Thing, [Thing()], config=ConfigDict(arbitrary_types_allowed=True)),
    ],
    "`GeoPoint` and document references of Firestore": [
        Case(GeoPoint, [GeoPoint(1.5, 2.5)], config=ConfigDict(arbitrary_types_allowed=True)),
    ],
    "types with a form of their own": [Case(Money, [Money(5)])],
    "a serializer and a validator that undo each other": [
        Case(int, [199], body={"as_euros": as_euros, "from_euros": from_euros}),
        Case(int, [199], body={"short": short, "long": long}),
    ],
    "a serializer without its validator": [
        Case(int, [199], body={"as_euros": as_euros}),
        Case(int, [199], body={"short": short}),
    ],
    "a validator that changes its own output": [Case(str, ["a"], body={"louder": louder})],
    "times and enums of strict models": [
        Case(datetime, [datetime(2026, 1, 1, tzinfo=UTC)], config=ConfigDict(strict=True)),
    ],
    "tuples, sets and UUIDs of strict models": [
        Case(tuple[int, ...], [(1,)], config=ConfigDict(strict=True)),
        Case(uuid.UUID, [uuid.UUID(int=7)], config=ConfigDict(strict=True)),
    ],
    'more fields, with `extra="allow"`': [
        Case(int, [1], config=ConfigDict(extra="allow"), assigned=1, attribute="more"),
    ],
    "a default that does not fit its field": [Case(str, [None], default=None, assigned="a")],
    "a value of another type, assigned without validation": [Case(int, ["5"], assigned=1)],
}


def table() -> dict[str, dict[str, str]]:
    """
    Field -> column -> what becomes of it, as the page says.
    """
    text = PAGE.read_text()
    lines = text[text.index("| field |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip().replace("\0", "|") for cell in _cells(line)] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def _cells(line: str) -> list[str]:
    return line.replace("\\|", "\0").strip("|").split("|")

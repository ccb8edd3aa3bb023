"""
Models of many field types, each with data that has a canary and does not fit: an error that quotes what it was given quotes that.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FilePath,
    ImportString,
    Json,
    SecretStr,
    Tag,
    create_model,
)  # fmt: skip
from pydantic_core import PydanticCustomError

CANARY = "canary-7f3a"


def refuse(value: Any) -> Any:
    """
    A validator that says what it was given.
    """
    raise ValueError(f"{{value}} {value!r} is no good")


def assert_not(value: Any) -> Any:
    """
    Likewise, as an assertion.
    """
    assert value is None, f"{value} was given"
    return value


def refuse_in_own_way(value: Any) -> Any:
    """
    Likewise, as an error of a type of its own.
    """
    raise PydanticCustomError("bad_thing", "{thing} is bad", {"thing": str(value)})


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


WRONG: dict[str, tuple[Any, Any]] = {
    "a number": (int, CANARY),
    "a truth": (bool, CANARY),
    "a float": (float, CANARY),
    "a decimal": (Decimal, CANARY),
    "a time": (datetime, CANARY),
    "a date": (date, f"2026-01-01{CANARY}"),
    "a time of day": (time, CANARY),
    "a length of time": (timedelta, CANARY),
    "a UUID": (uuid.UUID, CANARY),
    "a URL": (AnyUrl, CANARY),
    "a URL with a bad port": (AnyUrl, f"https://example.com:{CANARY}"),
    "an address": (IPv4Address, CANARY),
    "a file": (FilePath, CANARY),
    "an import": (ImportString[Any], CANARY),
    "an enum": (Colour, CANARY),
    "a literal": (Literal["a", "b"], CANARY),
    "a pattern": (Annotated[str, Field(pattern="^x$")], CANARY),
    "a length": (Annotated[str, Field(max_length=2)], CANARY),
    "a list": (list[int], [1, CANARY]),
    "a tuple": (tuple[int, int], [1, CANARY]),
    "a map's value": (dict[str, int], {"a": CANARY}),
    "a map's key": (dict[int, int], {CANARY: 1}),
    "a key beside a wrong value": (dict[str, int], {CANARY: "x"}),
    "a model": (Cat, {"kind": CANARY}),
    "no model": (Cat, CANARY),
    "a field too many": (Closed, {CANARY: 1}),
    "a union": (int | list[int], CANARY),
    "a union by a tag": (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": CANARY}),
    "a union by a function": (
        Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(lambda value: str(value["kind"]))],
        {"kind": CANARY},
    ),
    "JSON": (Json[Any], CANARY),
    "bytes": (Annotated[bytes, Field(max_length=2)], CANARY),
    "a secret": (Annotated[SecretStr, Field(max_length=2)], CANARY),
    "a validator before": (Annotated[str, BeforeValidator(refuse)], CANARY),
    "a validator after": (Annotated[str, AfterValidator(refuse)], CANARY),
    "an assertion": (Annotated[str, AfterValidator(assert_not)], CANARY),
    "a custom error": (Annotated[str, AfterValidator(refuse_in_own_way)], CANARY),
    "a path": (Annotated[Path, AfterValidator(refuse)], CANARY),
}  # fmt: skip


def misfit(name: str) -> Exception:
    """
    The error of a model whose field *name* says the type of.
    """
    kind, value = WRONG[name]
    model = create_model("Model", field=(kind, ...))
    try:
        model.model_validate({"field": value})
    except Exception as error:
        return error
    raise AssertionError(name)

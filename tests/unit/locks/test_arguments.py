"""
Calls as canonical texts, and names as ids of documents.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from gcp_oncetask import UsageError
from gcp_oncetask.checks.paths import valid_path
from gcp_oncetask.locks.arguments import Calls, document_id
from gcp_oncetask.locks.canonical import canonical


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 0
    tags: set[str] = set()


def job(a: Any, b: Any = 2, *rest: Any, c: Any = None, **more: Any) -> None:
    """A function with every sort of parameter."""


def text(*args: Any, **kwargs: Any) -> str:
    return Calls(job, None).text(args, kwargs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (text("a-b", "c"), text("a", "b-c")),
        (text(1), text("1")),
        (text(1), text(1.0)),
        (text(1), text(True)),
        (text(None), text("null")),
        (text([1, 2]), text([[1], 2])),
        (text({"a": 1}), text([["a", 1]])),
        (text(1, 2, 3), text(1, 2, c=3)),
        (text(1, x=1), text(1, y=1)),
        (text(Point(x=1)), text(Point(x=2))),
        (text((1, 2)), text([1, 2])),
        (text(1, 2, (3,)), text(1, 2, [3])),
        (text(k=(1,), a=1), text(k=[1], a=1)),
        (text(Colour.RED), text("red")),
        (text(b"\xab\xcd"), text("abcd")),
        (text(Point(x=1)), text({"x": 1, "y": 0, "tags": []})),
        (text(date(2026, 1, 1)), text("2026-01-01")),
        (text(Decimal("1.5")), text("1.5")),
    ],
)
def test_calls_that_differ_have_different_texts(one: str, other: str) -> None:
    """
    Whatever differs in value, type or place.
    """
    assert one != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (text(1), text(a=1)),
        (text(1), text(1, 2)),
        (text(1, c=3, b=2), text(b=2, a=1, c=3)),
        (text({"a": 1, "b": 2}), text({"b": 2, "a": 1})),
        (text({3, 1, 2}), text({2, 3, 1})),
        (text({"b", "a", "c"}), text({"c", "b", "a"})),
        (text(Point(x=1)), text(Point(x=1, y=0))),
        (text(Point(x=1, tags={"c", "a", "b"})), text(Point(x=1, tags={"b", "c", "a"}))),
        (text(datetime(2026, 1, 1, tzinfo=UTC)), text(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))))),
        (text(Decimal("1.50")), text(Decimal("1.5"))),
        (text(1, *(2, 3, (4,))), text(1, *[2, 3, (4,)])),
    ],
)
def test_calls_that_mean_the_same_have_one_text(one: str, other: str) -> None:
    """
    Positional or by keyword, defaults given or not, whatever the order of keywords, maps and sets.
    """
    assert one == other


class Unknown:
    """A class of the user's."""


def selves() -> list[Any]:
    """A list that holds itself."""
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Unknown(), "a Unknown has no canonical form"),
        (float("nan"), "nan equals nothing"),
        (Decimal("Infinity"), "Infinity equals nothing"),
        ("\ud800", "half a surrogate pair"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "outside of the calendar"),
        ({"a": 1, 2: 3}, "the map key 2 is not a text"),
        (iter([1]), "a list_iterator has no canonical form"),
        ({1: 2}, "the map key 1 is not a text"),
        (selves(), "holds itself"),
        (print, "builtin_function_or_method"),
    ],
)
def test_argument_without_a_canonical_form_is_named(value: Any, why: str) -> None:
    """
    The error names the function, the argument and the way out; an iterator is not used up.
    """
    with pytest.raises(UsageError) as caught:
        text(1, c=[value])

    assert "job: the argument 'c' can't be part of a key" in str(caught.value)
    assert why in str(caught.value)
    assert "Give key=" in str(caught.value)
    assert value is not None


def test_wrong_call_is_a_type_error() -> None:
    """
    As Python says it, before anything is locked.
    """
    with pytest.raises(TypeError, match="missing a required argument"):
        text()


async def asynchronous() -> None:
    """Async."""


def generator() -> Any:
    """A generator."""
    yield 1


@pytest.mark.parametrize("fn", [asynchronous, generator])
def test_functions_that_run_later_are_refused(fn: Any) -> None:
    """
    Their bodies would run after the lock is given back.
    """
    with pytest.raises(UsageError, match="only plain functions"):
        Calls(fn, None)


@pytest.mark.parametrize("fn", [lambda: None, functools.partial(job, 1)])
def test_functions_without_a_name_need_one(fn: Any) -> None:
    """
    All lambdas of a scope have the same one: their keys would meet.
    """
    with pytest.raises(UsageError, match="has no name of its own to make keys of; give name="):
        Calls(fn, None)
    assert Calls(fn, "mine").name == "mine"


NAMES = [
    "a",
    "a:b",
    "a/b",
    "a%2Fb",
    "..",
    "__x__",
    "å",
    "日本",
    " ",
    "\x00",
    "=",
    "sha256=",
    "x" * 1000,
    "x" * 1001,
    "ü" * 500,
]


def test_ids_tell_names_environments_and_kinds_apart() -> None:
    """
    Each is a valid document id of bounded length, in its own hash prefix.
    """
    ids = [document_id("DEFAULT", "lock", name) for name in NAMES]
    ids += [
        document_id("DEFAULT", "lock", "a", "b"),
        document_id("DEFAULT", "once", "a"),
        document_id("TEST", "lock", "a"),
        document_id("DEFAULT", "lock", "x" * 1000, "y"),
    ]

    assert len(set(ids)) == len(NAMES) + 4
    assert all(valid_path(f"onceLocks/{id_}") and len(id_.encode()) < 1000 for id_ in ids)
    assert ids[0].split(":")[1:] == ["DEFAULT", "lock", "a"]
    assert len({document_id("E", "lock", f"{n:06}")[:2] for n in range(1000)}) > 200


@pytest.mark.parametrize("name", ["", None, 7, "\ud800"])
def test_names_that_can_not_be_stored_are_refused(name: Any) -> None:
    """
    With a sentence, before any call.
    """
    with pytest.raises(UsageError, match=r"name"):
        document_id("E", "lock", name)


def test_canonical_text_is_json() -> None:
    """
    Readable by a person who looks at the document.
    """
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'

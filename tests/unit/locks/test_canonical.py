"""
Canonical texts: the same for equal values of one type, in every process; different for everything else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from gcp_oncetask.locks.canonical import NotCanonicalError, canonical
from tests.support.values import (
    WORDS,
    Access,
    Bag,
    Box,
    Colour,
    Knot,
    Level,
    Masked,
    Open,
    OrderId,
    Paint,
    Pair,
    Point,
    Rope,
    Size,
    Spot,
    bag,
    texts,
)

BERLIN: Final = ZoneInfo("Europe/Berlin")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SCALARS: Final[list[Any]] = [
    *(None, True, False, 0, 1, 7, -1, 0.0, -0.0, 1.0, 7.0, 1e16, 10**16, 2**70),
    *(
        "",
        "a",
        "7",
        "1",
        "1.0",
        "null",
        "true",
        "abcd",
        "61",
        "red",
        "RED",
        "a/b",
        '"a"',
        "[1]",
        "!tuple[1]",
        '!bytes"61"',
    ),
    *(b"", b"a", b"61", b"\xab\xcd", bytearray(b"a")),
    *(
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+00:00",
        "00:00:00",
        "P1D",
        "PT1H",
    ),
    *(date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=BERLIN)),
    *(datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)),
    *(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 2, 30, fold=1)),
    *(time(0), time(0, tzinfo=UTC), time(1, tzinfo=timezone(timedelta(hours=1))), time(0, 0, 0, 1)),
    *(timedelta(0), timedelta(days=1), timedelta(hours=24), timedelta(hours=1), timedelta(seconds=-1)),
    *(Decimal(1), Decimal("1.0"), Decimal("1.00"), Decimal("1E0"), Decimal(0), Decimal("-0.0"), Decimal("1E+30")),
    *(Decimal(10) ** 30, Decimal("0.1"), Decimal("1" * 40), Decimal("1" * 39 + "2")),
    *(
        UUID(int=1),
        str(UUID(int=1)),
        PurePosixPath("a/b"),
        Path("a/b"),
        PureWindowsPath("A/b"),
        PureWindowsPath("a\\b"),
    ),
    *(Colour.RED, Colour.GREEN, Paint.RED, Level.HIGH, Size.BIG, Access.READ, Access.READ | Access.WRITE, Access(0), 3),
    OrderId("a"),
]
"""Values that are easily taken for one another."""


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """
    Everything that holds values.
    """
    hashable = st.sampled_from([each for each in SCALARS if not isinstance(each, bytearray)])
    hashable = hashable | st.tuples(hashable) | st.frozensets(hashable, max_size=2)
    names = st.sampled_from(["x", "y", "", "a"])
    maps = st.dictionaries(names, inner, max_size=2)
    return (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.builds(Pair, inner, inner)
        | st.lists(hashable, max_size=3).map(set)
        | st.lists(hashable, max_size=3).map(frozenset)
        | maps
        | st.dictionaries(st.sampled_from([Size.BIG, OrderId("a"), "a"]), inner, max_size=1)
        | st.builds(Point, x=inner, y=inner)
        | st.builds(Spot, x=inner, y=inner)
        | st.builds(Masked, x=inner)
        | st.builds(Box, inner, st.sampled_from(["", "a"]))
        | st.builds(Rope, knot=st.integers(1, 2).map(Knot), box=st.none() | st.builds(Box, inner))
        | maps.map(lambda fields: Open(**fields))
    )


VALUES: Final = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=5)


def again(value: Any) -> Any:
    """
    The same value, made in another order and another way.
    """
    match value:
        case BaseModel():
            return value.model_copy(update={name: again(item) for name, item in reversed(list(value))})
        case Box():
            return Box(again(value.tags), note="another")
        case Pair():
            return Pair(*map(again, value))
        case dict():
            return {key: again(value[key]) for key in reversed(list(value))}
        case list() | tuple() | set() | frozenset():
            return type(value)(map(again, reversed(list(value)) if isinstance(value, set | frozenset) else value))
        case Decimal():
            return Decimal(f"{value:f}" + ("0" if "." in f"{value:f}" else ".0"))
        case datetime() if value.tzinfo is not None:
            return value.astimezone(ZoneInfo("Asia/Tokyo"))
        case datetime():
            return value.replace(fold=1)
    return value


def dumped(value: Any) -> Any:
    """
    What JSON makes of it: the value that it was taken for.
    """
    try:
        return to_jsonable_python(value)
    except ValueError:
        return value


PAIRS: Final = (
    st.tuples(VALUES, VALUES)
    | st.tuples(st.sampled_from(SCALARS), st.sampled_from(SCALARS))
    | VALUES.map(lambda value: (value, again(value)))
    | VALUES.map(lambda value: (value, dumped(value)))
)


def same(one: Any, other: Any) -> bool:
    """
    Whether they are one call, without a canonical form: equal, and of one type at any depth.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = [[key for key in one if same(key, other_key)] for other_key in other]
        return len(one) == len(other) and all(pairs) and all(same(one[key], other[key]) for key in one)
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return repr(one) == repr(other)
        case Box():
            return same(one.tags, other.tags)
        case BaseModel():
            return same(vars(one), vars(other)) and same(one.model_extra, other.model_extra)
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case set() | frozenset():
            return all(any(same(a, b) for b in other) for a in one) and all(any(same(a, b) for a in one) for b in other)
        case datetime() if one.utcoffset() is not None and other.utcoffset() is not None:
            return bool(one - EPOCH == other - EPOCH)
    return bool(one == other)


@settings(max_examples=500)
@given(PAIRS)
def test_texts_are_equal_exactly_for_the_same_values(pair: tuple[Any, Any]) -> None:
    """
    Of one type and equal, at any depth; never for a value and what JSON makes of it.
    """
    one, other = pair

    assert (canonical(one) == canonical(other)) == same(one, other)


def test_scalars_are_told_apart() -> None:
    """
    Each pair of the table, alone, in a list, in a tuple and under a key.
    """
    for wrap in (lambda v: v, lambda v: [v], lambda v: (v,), lambda v: {"a": v}):
        found = [canonical(wrap(value)) for value in SCALARS]
        for one, text in zip(SCALARS, found, strict=True):
            assert [other for other, t in zip(SCALARS, found, strict=True) if (t == text) != same(one, other)] == []


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(JSON)
def test_json_is_written_as_ever(value: Any) -> None:
    """
    Byte for byte: compact, keys sorted, no escapes but the necessary ones.
    """
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("value", [value for value in SCALARS if not isinstance(value, type(None) | int | float | str)])
def test_tagged_texts_are_not_json(value: Any) -> None:
    """
    So nothing that JSON can say has ever had one.
    """
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(canonical(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\xab\xcd", '!bytes"abcd"'),
        (datetime(2026, 1, 1, 1, tzinfo=BERLIN), '!datetime"2026-01-01T00:00:00+00:00"'),
        (datetime(2026, 1, 1, 1), '!datetime"2026-01-01T01:00:00"'),
        (date(2026, 1, 1), '!date"2026-01-01"'),
        (time(1, 2), '!time"01:02:00"'),
        (time(1, tzinfo=timezone(timedelta(hours=2))), "!time[-1,82800,0]"),
        (timedelta(days=1, hours=1), "!timedelta[1,3600,0]"),
        (Decimal("1.50"), '!Decimal"1.5"'),
        (UUID(int=1), '!UUID"00000000-0000-0000-0000-000000000001"'),
        (PurePosixPath("a/b"), '!PurePosixPath"a/b"'),
        (PureWindowsPath("A/b"), '!PureWindowsPath"a\\\\b"'),
        ((1, [2]), "!tuple[1,[2]]"),
        ({"b", "a"}, '!set["a","b"]'),
        (frozenset([2, 1]), "!frozenset[1,2]"),
        (Colour.RED, '!enum["tests.support.values.Colour","RED"]'),
        (Size.BIG, '!enum["tests.support.values.Size","BIG"]'),
        (Access.READ | Access.WRITE, '!enum["tests.support.values.Access",3]'),
        (OrderId("a"), '!as["tests.support.values.OrderId","a"]'),
        (Pair(1, 2), '!as["tests.support.values.Pair",!tuple[1,2]]'),
        (Point(x=1), '!model["tests.support.values.Point",{"x":1,"y":0}]'),
        (Box([1], note="x"), '!dataclass["tests.support.values.Box",{"tags":[1]}]'),
        (
            Rope(knot=Knot(2)),
            '!model["tests.support.values.Rope",{"box":null,"knot":!dumped["tests.support.values.Knot",{"ends":2}]}]',
        ),
        (Open(z=1), '!model["tests.support.values.Open",{"x":null},{"z":1}]'),
        ({Size.BIG: 1}, '!map[[!enum["tests.support.values.Size","BIG"],1]]'),
        (OrderedDict(b=1, a=(2,)), '{"a":!tuple[2],"b":1}'),
    ],
)
def test_tagged_texts_are_kept(value: Any, text: str) -> None:
    """
    They name documents: a change would let what has run run again.
    """
    assert canonical(value) == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "nan equals nothing"),
        (float("-inf"), "-inf equals nothing"),
        (Decimal("NaN"), "NaN equals nothing"),
        (Decimal("sNaN"), "sNaN equals nothing"),
        (Decimal("Infinity"), "Infinity equals nothing"),
        ({1: 1, "1": 2}, "the map key 1 is not a text"),
        ({("a",): 1}, "the map key"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "outside of the calendar"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "outside of the calendar"),
        ("\ud800", "half a surrogate pair"),
        ({"\udfff": 1}, "half a surrogate pair"),
        (OrderId("\ud800"), "half a surrogate pair"),
        ([10**5000], "too many digits"),
        (1j, "a complex has no canonical form"),
        (object(), "a object has no canonical form"),
        (Box, "a type has no canonical form"),
        (Knot(2), "a Knot has no canonical form"),
        (SecretStr("a"), "a SecretStr has no canonical form"),
        (Open(x=object()), "a object has no canonical form"),
        (int, "a type has no canonical form"),
    ],
)
def test_what_equals_nothing_is_refused(value: Any, why: str) -> None:
    """
    At any depth, with the reason.
    """
    for holder in (value, [value], {"a": (value,)}, Point(x=value)):
        with pytest.raises(NotCanonicalError, match=why):
            canonical(holder)


@settings(max_examples=30)
@given(st.permutations(WORDS))
def test_order_of_filling_does_not_show(words: list[str]) -> None:
    """
    In texts, payload hashes and ids, results and stored fields.
    """
    assert texts(words) == texts(WORDS)


def test_process_and_hash_seed_do_not_show() -> None:
    """
    Three processes have the same texts, payload hashes and ids.
    """
    program = "import json; from tests.support.values import texts; print(json.dumps(texts()))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    ]
    answers = [process.communicate(timeout=60)[0] for process in started]

    assert [json.loads(answer) for answer in answers] == [texts()] * 2


def test_sets_of_payloads_ascend() -> None:
    """
    What is stored of a set is a list in the order in which a person would write it; a list keeps its own.
    """
    payload = bag(WORDS).payload()

    assert payload["texts"] == payload["chosen"] == sorted(WORDS)
    assert payload["numbers"] == [-1.5, 9.0, 10.0, 1e300]
    assert payload["by_name"]["ant"] == payload["rows"][0] == payload["tags"] == payload["box"]["tags"] == sorted(WORDS)
    assert [sorted(each["labels"]) for each in payload["models"]] == [each["labels"] for each in payload["models"]]
    assert payload["listed"] == ["c", "a", "b"]
    assert Bag.of(payload, "here") == bag(WORDS)

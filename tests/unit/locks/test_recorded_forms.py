"""
Recorded forms: what has run under one of these ids must be found again by every later version.

The texts, hashes and ids were recorded before any value had a tagged form. None of them may ever change.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel

from gcp_oncetask.locks.arguments import Calls, digest, document_id
from gcp_oncetask.rules.document_paths import TaskName, collection_path, key_path
from gcp_oncetask.tasks.data import TaskData, hash_of


def job(a: Any, b: Any = 2, *rest: Any, c: Any = None, **more: Any) -> None:
    """A function with every sort of parameter."""


def deep(levels: int) -> Any:
    """A list in a list, so often."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


CALLS: Final[list[tuple[tuple[Any, ...], dict[str, Any], str, str]]] = [
    ((None,), {}, '{"a":null,"b":2,"c":null,"more":{},"rest":[]}', "a6a56a2f508163e6497a"),
    ((True,), {}, '{"a":true,"b":2,"c":null,"more":{},"rest":[]}', "bcf39522186715ea6045"),
    ((False,), {}, '{"a":false,"b":2,"c":null,"more":{},"rest":[]}', "e1ad712196be51f536a7"),
    ((0,), {}, '{"a":0,"b":2,"c":null,"more":{},"rest":[]}', "b2990a0132173f3fe7ff"),
    ((-1,), {}, '{"a":-1,"b":2,"c":null,"more":{},"rest":[]}', "45c5746bea06a764bb0f"),
    ((1,), {}, '{"a":1,"b":2,"c":null,"more":{},"rest":[]}', "dcae2d0d553f4f6fa5ec"),
    ((9007199254740993,), {}, '{"a":9007199254740993,"b":2,"c":null,"more":{},"rest":[]}', "7bde131a772d1439971b"),
    (
        (18446744073709551616,),
        {},
        '{"a":18446744073709551616,"b":2,"c":null,"more":{},"rest":[]}',
        "d6ad3de75ecc540ad9ab",
    ),
    (
        (-10000000000000000000000000000000000000000,),
        {},
        '{"a":-10000000000000000000000000000000000000000,"b":2,"c":null,"more":{},"rest":[]}',
        "e6961a824d68b6786179",
    ),
    ((0.0,), {}, '{"a":0.0,"b":2,"c":null,"more":{},"rest":[]}', "f2fd5f95ad3de9f19ee1"),
    ((-0.0,), {}, '{"a":-0.0,"b":2,"c":null,"more":{},"rest":[]}', "c9fe7a23569a31e4142f"),
    ((1.0,), {}, '{"a":1.0,"b":2,"c":null,"more":{},"rest":[]}', "8f33833cb8b88f49af79"),
    ((1.5,), {}, '{"a":1.5,"b":2,"c":null,"more":{},"rest":[]}', "24cad37e41d95965a6d0"),
    ((0.1,), {}, '{"a":0.1,"b":2,"c":null,"more":{},"rest":[]}', "f7cb7669a7c585878efb"),
    ((1e16,), {}, '{"a":1e+16,"b":2,"c":null,"more":{},"rest":[]}', "4ab10da67759447adb3e"),
    ((1000000000000000.0,), {}, '{"a":1000000000000000.0,"b":2,"c":null,"more":{},"rest":[]}', "3af03f610828d2a46ada"),
    ((1e-05,), {}, '{"a":1e-05,"b":2,"c":null,"more":{},"rest":[]}', "7714281d7e555d9f4c36"),
    ((0.0001,), {}, '{"a":0.0001,"b":2,"c":null,"more":{},"rest":[]}', "e8f6b1669d6266734f5d"),
    ((5e-324,), {}, '{"a":5e-324,"b":2,"c":null,"more":{},"rest":[]}', "e4505ae6178364cf36fc"),
    (
        (1.7976931348623157e308,),
        {},
        '{"a":1.7976931348623157e+308,"b":2,"c":null,"more":{},"rest":[]}',
        "9e990b6832574a6faa11",
    ),
    ((123456789.12345679,), {}, '{"a":123456789.12345679,"b":2,"c":null,"more":{},"rest":[]}', "e156e4b03daa46eedb52"),
    (("",), {}, '{"a":"","b":2,"c":null,"more":{},"rest":[]}', "de15e73559a40a31215b"),
    (("a",), {}, '{"a":"a","b":2,"c":null,"more":{},"rest":[]}', "7d7a3e5156c8f1583537"),
    (("null",), {}, '{"a":"null","b":2,"c":null,"more":{},"rest":[]}', "48813671c6b7a4cb3081"),
    (("1",), {}, '{"a":"1","b":2,"c":null,"more":{},"rest":[]}', "16df81f241d9ae689b16"),
    (("a b",), {}, '{"a":"a b","b":2,"c":null,"more":{},"rest":[]}', "baab2a38202d79114dc2"),
    (
        ('"quoted" \\ back',),
        {},
        '{"a":"\\"quoted\\" \\\\ back","b":2,"c":null,"more":{},"rest":[]}',
        "0361725440dbfe4f29db",
    ),
    (
        ("\n\r\t\x08\x0c\x00\x1f\x7f",),
        {},
        '{"a":"\\n\\r\\t\\b\\f\\u0000\\u001f\x7f","b":2,"c":null,"more":{},"rest":[]}',
        "9d3cc163e9ad797600fd",
    ),
    (("</script>/",), {}, '{"a":"</script>/","b":2,"c":null,"more":{},"rest":[]}', "166818b36485cd6569ed"),
    (
        ("\xe5 \xfc \u65e5\u672c \U0001f600 \u2028\u2029",),
        {},
        '{"a":"\xe5 \xfc \u65e5\u672c \U0001f600 \u2028\u2029","b":2,"c":null,"more":{},"rest":[]}',
        "9d1a887f56d05de29d39",
    ),
    (("e\u0301",), {}, '{"a":"e\u0301","b":2,"c":null,"more":{},"rest":[]}', "f11028da7e2d85abcda2"),
    (("é",), {}, '{"a":"é","b":2,"c":null,"more":{},"rest":[]}', "a1d6a525a7cd8102ded9"),
    (('{"a":1}',), {}, '{"a":"{\\"a\\":1}","b":2,"c":null,"more":{},"rest":[]}', "e3050564dbbbe001fad1"),
    (('!bytes"00"',), {}, '{"a":"!bytes\\"00\\"","b":2,"c":null,"more":{},"rest":[]}', "f7ce2161b3a423f5b324"),
    (
        ("2026-01-01T00:00:00Z",),
        {},
        '{"a":"2026-01-01T00:00:00Z","b":2,"c":null,"more":{},"rest":[]}',
        "b6380f6afd40d6958c60",
    ),
    (("x" * 700,), {}, '{"a":"' + "x" * 700 + '","b":2,"c":null,"more":{},"rest":[]}', "a00ded59e198ff0910a9"),
    (("ü" * 300,), {}, '{"a":"' + "ü" * 300 + '","b":2,"c":null,"more":{},"rest":[]}', "785519adfe25e9ec3948"),
    (([],), {}, '{"a":[],"b":2,"c":null,"more":{},"rest":[]}', "713a71f732205e672deb"),
    (([[]],), {}, '{"a":[[]],"b":2,"c":null,"more":{},"rest":[]}', "859d7314f7b23b837389"),
    (
        ([None, True, 1, 1.0, "1", [2], {"k": []}],),
        {},
        '{"a":[null,true,1,1.0,"1",[2],{"k":[]}],"b":2,"c":null,"more":{},"rest":[]}',
        "993e40ff214ba8d7e349",
    ),
    (([1, 2, 3],), {}, '{"a":[1,2,3],"b":2,"c":null,"more":{},"rest":[]}', "9e82dd3070b9d748b44c"),
    (({},), {}, '{"a":{},"b":2,"c":null,"more":{},"rest":[]}', "a768b53b628a67dd3598"),
    (({"b": 1, "a": 2},), {}, '{"a":{"a":2,"b":1},"b":2,"c":null,"more":{},"rest":[]}', "cbbc157bfe22ea4d61ad"),
    (({"a": 2, "b": 1},), {}, '{"a":{"a":2,"b":1},"b":2,"c":null,"more":{},"rest":[]}', "cbbc157bfe22ea4d61ad"),
    (({"": ""},), {}, '{"a":{"":""},"b":2,"c":null,"more":{},"rest":[]}', "3117a09ef8acc05ea20e"),
    (
        ({"a": {"b": {"c": [{"d": None}]}}},),
        {},
        '{"a":{"a":{"b":{"c":[{"d":null}]}}},"b":2,"c":null,"more":{},"rest":[]}',
        "858974bada5a93cd0922",
    ),
    (
        ({"Z": 1, "a": 2, "_": 3, "\xe4": 4, "10": 5, "9": 6, "\U0001f600": 7, "\uffff": 8},),
        {},
        '{"a":{"10":5,"9":6,"Z":1,"_":3,"a":2,"\xe4":4,"\uffff":8,"\U0001f600":7},"b":2,"c":null,"more":{},"rest":[]}',
        "33c2d9a08471654bce21",
    ),
    (({"!tuple": [1]},), {}, '{"a":{"!tuple":[1]},"b":2,"c":null,"more":{},"rest":[]}', "3243598f7ffcfd5dc047"),
    (
        ({"__type__": "set", "values": [1]},),
        {},
        '{"a":{"__type__":"set","values":[1]},"b":2,"c":null,"more":{},"rest":[]}',
        "a40fbaae8affc13623d1",
    ),
    (
        (deep(45),),
        {},
        '{"a":' + "[" * 45 + "1" + "]" * 45 + ',"b":2,"c":null,"more":{},"rest":[]}',
        "ff3ebcf39a2273c4e1a1",
    ),
    ((1, 2), {}, '{"a":1,"b":2,"c":null,"more":{},"rest":[]}', "dcae2d0d553f4f6fa5ec"),
    ((1, 3), {}, '{"a":1,"b":3,"c":null,"more":{},"rest":[]}', "f096622d8c504ada61df"),
    ((1, 2, 3), {}, '{"a":1,"b":2,"c":null,"more":{},"rest":[3]}', "68a1f41cc8b094d86871"),
    ((1, 2, 3, "x", [4]), {}, '{"a":1,"b":2,"c":null,"more":{},"rest":[3,"x",[4]]}', "a4bb94f76a3e63bc9e87"),
    ((1, 2, None), {}, '{"a":1,"b":2,"c":null,"more":{},"rest":[null]}', "540251bd97e08f489fe7"),
    ((1,), {"c": 3}, '{"a":1,"b":2,"c":3,"more":{},"rest":[]}', "cf175347ef3b4236755b"),
    ((1,), {"b": 3}, '{"a":1,"b":3,"c":null,"more":{},"rest":[]}', "f096622d8c504ada61df"),
    ((), {"c": 4, "b": 3, "a": 1}, '{"a":1,"b":3,"c":4,"more":{},"rest":[]}', "9df33833d4227d8963c2"),
    ((1,), {"z": 1, "y": [2]}, '{"a":1,"b":2,"c":null,"more":{"y":[2],"z":1},"rest":[]}', "97f88f7caa942befd437"),
    ((1,), {"rest": [3]}, '{"a":1,"b":2,"c":null,"more":{"rest":[3]},"rest":[]}', "8a0a45b11bce4ec0ae72"),
    (
        (1, 2, {"k": "v"}),
        {"c": {"k": "v"}, "d": {"k": "v"}},
        '{"a":1,"b":2,"c":{"k":"v"},"more":{"d":{"k":"v"}},"rest":[{"k":"v"}]}',
        "ea4f67e12319681cc16e",
    ),
]
"""Arguments; their text; the first digits of a hash over the payload's hash and the ids of both documents."""


@pytest.mark.parametrize(("args", "kwargs", "text", "ids"), CALLS)
def test_calls_keep_their_recorded_ids(args: tuple[Any, ...], kwargs: dict[str, Any], text: str, ids: str) -> None:
    """
    Text, payload hash, the document of ``@once`` and that of ``@locked``, of every call that JSON can say.
    """
    calls = Calls(job, "jobs.work")
    found = calls.text(args, kwargs)
    once, lock = document_id("DEFAULT", "once", "jobs.work", found), document_id("DEFAULT", "lock", f"jobs.work{found}")

    assert (found, calls.key(None, args, kwargs), calls.text(args, kwargs, "payload")) == (text, text, text)
    assert hashlib.sha256(f"{digest(found)} {once} {lock}".encode()).hexdigest()[:20] == ids


KEYS: Final[list[tuple[Any, str | None, str]]] = [
    ("a", "a", "23:DEFAULT:once:jobs.work:a"),
    ("ü/:%", "ü/:%", "53:DEFAULT:once:jobs.work:%C3%BC%2F%3A%25"),
    (7, "7", "48:DEFAULT:once:jobs.work:7"),
    (7.5, "7.5", "c6:DEFAULT:once:jobs.work:7.5"),
    (True, "true", "69:DEFAULT:once:jobs.work:true"),
    (None, None, "f4:DEFAULT:once:jobs.work"),
    ([], "[]", "48:DEFAULT:once:jobs.work:%5B%5D"),
    (["order", 7], '["order",7]', "b1:DEFAULT:once:jobs.work:%5B%22order%22%2C7%5D"),
    (("order", 7), '["order",7]', "b1:DEFAULT:once:jobs.work:%5B%22order%22%2C7%5D"),
    ((), "[]", "48:DEFAULT:once:jobs.work:%5B%5D"),
    ({"b": 1, "a": [None]}, '{"a":[null],"b":1}', "68:DEFAULT:once:jobs.work:%7B%22a%22%3A%5Bnull%5D%2C%22b%22%3A1%7D"),
]
"""What a key= function returns; the key; the document of ``@once``."""


@pytest.mark.parametrize(("returned", "key", "id_"), KEYS)
def test_keys_keep_their_recorded_ids(returned: Any, key: str | None, id_: str) -> None:
    """
    A tuple that is the whole key too: it is the usual key of several parts.
    """
    found = Calls(job, "jobs.work").key(lambda *args: returned, (1,), {})

    assert (found, document_id("DEFAULT", "once", "jobs.work", *([] if found is None else [found]))) == (key, id_)


DOCUMENTS: Final = [
    (document_id("DEFAULT", "lock", "graph"), "92:DEFAULT:lock:graph"),
    (document_id("DEFAULT", "lock", "a/b:c%d"), "b6:DEFAULT:lock:a%2Fb%3Ac%25d"),
    (document_id("DEFAULT", "lock", "x" * 650), "0d:DEFAULT:lock:" + "x" * 650),
    (
        document_id("DEFAULT", "lock", "x" * 701),
        "49:DEFAULT:lock:sha256=d3205021fb5a512340c8666bbc209bf5947ae74d044d708db40ba4697aa2f5d1",
    ),
    (document_id("DEFAULT", "lock", "日本"), "60:DEFAULT:lock:%E6%97%A5%E6%9C%AC"),
    (document_id("DEFAULT", "once", "f"), "ae:DEFAULT:once:f"),
    (
        document_id("DEFAULT", "once", "f", "k" * 800),
        "c2:DEFAULT:once:sha256=44d0c4e8b2fa5e2f28813a021e2a9c6b759a42435655628aa82649f3e185699f",
    ),
    (document_id("DEFAULT", "once", "a", "b", "c"), "4c:DEFAULT:once:a:b:c"),
    (TaskName("DEFAULT", "charge", "a").path, "onceTasks/2b:DEFAULT:charge:a"),
    (TaskName("TEST", "charge", "a").path, "onceTasks/17:TEST:charge:a"),
    (TaskName("DEFAULT", "charge", "..").path, "onceTasks/fc:DEFAULT:charge:.."),
    (
        TaskName("DEFAULT", "charge", "a/b:c%d é 日 !$&'()*+,;=@").path,
        "onceTasks/b9:DEFAULT:charge:a%2Fb%3Ac%25d %C3%A9 %E6%97%A5 !$&'()*+,;=@",
    ),
    (key_path("DEFAULT", "a"), "onceLocks/d3:DEFAULT:key:a"),
    (
        key_path("DEFAULT", "a/b:c%d é 日 !$&'()*+,;=@"),
        "onceLocks/07:DEFAULT:key:a%2Fb%3Ac%25d %C3%A9 %E6%97%A5 !$&'()*+,;=@",
    ),
    (collection_path("DEFAULT", "orders"), "onceLocks/40:DEFAULT:collection:orders"),
    (
        collection_path("DEFAULT", "customers/{customer_id}/orders"),
        "onceLocks/07:DEFAULT:collection:customers%2F%7Bcustomer_id%7D%2Forders",
    ),
    (
        collection_path("DEFAULT", "x" * 1500),
        "onceLocks/48:DEFAULT:collection:sha256:48abbd4b02471e1ab77d4e94ebf016590b24c5b4b22a809e9a7d04830b107c84",
    ),
]


@pytest.mark.parametrize(("found", "recorded"), DOCUMENTS)
def test_documents_keep_their_recorded_names(found: str, recorded: str) -> None:
    """
    Of locks, functions that run once, once-tasks, resource keys and registered collections.
    """
    assert found == recorded


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    BIG = "big"


class Point(BaseModel):
    x: int
    y: float = 0.0


class Names(RootModel[list[str]]):
    pass


class Pair(NamedTuple):
    a: int
    b: str


@dataclass
class Box:
    w: int
    inner: list[int]


class Empty(TaskData, kind="recorded-empty"):
    pass


class Anything(TaskData, kind="recorded-anything"):
    data: Any = None


class Typed(TaskData, kind="recorded-typed"):
    n: int = 1
    f: float = 1.0
    ok: bool = True
    text: str = 'ü " \\ \n'
    nothing: None = None
    at: datetime = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    naive: datetime = datetime(2026, 1, 1, 12, 0, 0, 5)
    day: date = date(2026, 2, 28)
    clock: time = time(1, 2, 3)
    length: timedelta = timedelta(days=1, seconds=2.5)
    price: Decimal = Decimal("1.50")
    id_: UUID = UUID(int=7)
    path: PurePosixPath = PurePosixPath("a/b")
    colour: Colour = Colour.RED
    level: Level = Level.HIGH
    size: Size = Size.BIG
    point: Point = Point(x=1)
    points: list[Point] = Field(default=[Point(x=1), Point(x=2, y=-0.0)])
    names: Names = Names(["b", "a"])
    pair: Pair = Pair(2, "b")
    box: Box = Box(1, [3, 1])
    items: tuple[int, ...] = (3, 1, 2)
    queue: deque[int] = Field(default=deque([3, 1]))
    map_: dict[str, list[int]] = Field(default={"b": [2, 1], "a": []})
    by_number: dict[int, str] = Field(default={2: "b", 1: "a"})
    raw: bytes = b"abc"
    aliased: int = Field(default=5, alias="aliasedAs")


PAYLOADS: Final[dict[str, tuple[TaskData, str]]] = {
    "empty": (Empty(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    "null": (Anything(), "ba5f3ea40e95f49bce11942f375ebd3882eb837976eda5c0cb78b9b99ca7b485"),
    "number": (Anything(data=1), "5e0555215395381d3c3f0eec84352b7b860ad92d2a58ab9afa369ffc1cf7c565"),
    "float": (Anything(data=1.0), "165bb8f5da334ab1d43e057e200fad55c84a8b6c19d858b0533e17db7a80b2c5"),
    "minus zero": (Anything(data=-0.0), "8f00b01fffb28b3d033026766eeb2c06a3112195273a19726d5144eab9f208bc"),
    "large float": (Anything(data=1e16), "439d9836b8fb25dd61fdcd12e3138d6595ba0e7cbe73d3ae77ed576c481eb9ce"),
    "large": (Anything(data=2**63 - 1), "7369e6fec616520f7b6f120ff3d4cd038f8560cf8ac9a51098f6902785fe15db"),
    "text": (Anything(data='ü \u2028 😀 " \\ \n'), "314aef8b7e1e3c4e2f20fcca4d4afb3083e8d0130cd8b952d4d8c604a6870c57"),
    "list": (
        Anything(data=[3, 1, 2, [None, True, "x"], {}]),
        "ff28b642646ef5294e9401307198f21761a89a26b64644c9c2d981bf0ebea4d9",
    ),
    "map": (
        Anything(data={"b": 1, "a": {"d": [], "c": 1.5}}),
        "4c2e7fa60c9bd45654db40903555c1eb72755abd203998cd6fc5c9b9937e243a",
    ),
    "ordered": (
        Anything(data=OrderedDict(b=1, a=2)),
        "5c8d005c3403f37887eb8917f36d521a78dcfec8c7bf5bade97867b6188f9294",
    ),
    "typed": (Typed(), "5da731b0fa9db44f2b6fd0b447a522d136cd6942e2f26cf827944a99fd46ca52"),
}
"""Payloads without a set that are loaded as they were, and the hashes of what is stored of them."""


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_keep_their_recorded_hashes(name: str) -> None:
    """
    ``dataHash``, and the id that is made of it.
    """
    data, recorded = PAYLOADS[name]

    assert (data.payload_hash(), hash_of(data.payload()), data.task_id()) == (recorded, recorded, recorded[:40])

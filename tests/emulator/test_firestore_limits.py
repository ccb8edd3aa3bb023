"""
Every documented limit: the most that is accepted, the least that is refused, and with which error; on both servers.

What Google's emulator does not enforce is among the differences in ``conftest.py``, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from gcp_emulator.clock import LoneClock
from gcp_emulator.firestore import FirestoreServer

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
FAILED, ABORTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED
MIB = 1024 * 1024
Play = Callable[[Any], Any]

# The largest documents take Google's emulator a while.
pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Limit:
    """
    One limit.

    Attributes:
        name: As in ``DIFFERENCES`` where the servers differ.
        within: Calls that are accepted.
        beyond: Calls that are refused, each for itself.
        code: With this.
    """

    name: str
    within: tuple[Play, ...]
    beyond: tuple[Play, ...]
    code: grpc.StatusCode = INVALID


def stored(data: dict[str, Any], path: str = "c/a", **write: Any) -> Play:
    return lambda w: w.commit(w.write(path, data, **write))


def named(path: str) -> Play:
    return stored({}, path)


def typed(**value: Any) -> Play:
    return lambda w: w.commit(w.write("c/a", {"v": w.pb("Value")(**value)}))


def nested(levels: int, *, arrays: bool = False) -> dict[str, Any]:
    data: Any = 1
    for _ in range(levels):
        data = [{"a": data}] if arrays else {"a": data}
    return {"a": data}


def sized(size: int) -> Play:
    """
    A document of *size* bytes by the documented calculation: names 16 + 2 + 2, map 32, and 2 + 1 for each text.
    """
    rest = size - (16 + 2 + 2) - 32 - (2 + 1) - (2 + 1) - 500_000
    return stored({"s": "x" * 500_000, "t": "x" * rest})


def full_name(size: int) -> Play:
    """
    A document whose name takes *size* bytes: 16, and one more than each id.
    """
    return named("/".join([*["a" * 1000] * 5, "b" * (size - 16 - 5 * 1001 - 1)]))


def transforms(count: int) -> Play:
    return lambda w: w.commit(
        w.write("c/a", transforms=[w.field_transform(f"n{number}", "increment", 1) for number in range(count)])
    )


def vector(dimensions: int) -> Play:
    return stored({"v": {"__type__": "__vector__", "value": [1.0] * dimensions}})


def requested(size: int) -> Play:
    """
    A commit of documents of a megabyte, *size* bytes in all.
    """
    whole, rest = divmod(size, 1_000_000)
    return lambda w: w.commit(
        *[w.write(f"c/d{n}", {"s": b"x" * (1_000_000 - 110)}) for n in range(whole)], w.write("c/r", {"s": b"x" * rest})
    )


def batch(writes: int, *, same: bool = False) -> Play:
    return lambda w: w.call(
        "BatchWrite",
        w.pb("BatchWriteRequest")(
            database=w.database, writes=[w.delete("c/a" if same else f"c/d{n}") for n in range(writes)]
        ),
        w.pb("BatchWriteResponse"),
    )


def where(make: Play, **query: Any) -> Play:
    return lambda w: w.query("c", where=make(w), **query)


def several(operator: str, count: int) -> Play:
    return where(lambda w: w.filter("n", operator, list(range(count))))


def all_of(count: int, operator: str = "EQUAL", **query: Any) -> Play:
    return where(lambda w: w.both(*[w.filter(f"f{n}", operator, 1) for n in range(count)]), **query)


def mixed(operator: str, values: int, others: int) -> Play:
    """
    A filter with several values, each of which counts, and others with one.
    """
    return where(
        lambda w: w.both(
            w.filter("n", operator, list(range(values))), *[w.filter(f"f{n}", "EQUAL", 1) for n in range(others)]
        )
    )


def either(count: int) -> Play:
    def make(w: Any) -> Any:
        made = w.both(*[w.filter("n", "EQUAL", n) for n in range(count)])
        made.composite_filter.op = 2
        return made

    return where(make)


def product(first: int, second: int) -> Play:
    return where(
        lambda w: w.both(w.filter("n", "IN", list(range(first))), w.filter("m", "IN", list(range(second)))),
    )


def together(*filters: tuple[str, Any]) -> Play:
    return where(lambda w: w.both(*[w.filter(f"f{n}", *each) for n, each in enumerate(filters)]))


def ordered(*paths: str, **query: Any) -> Play:
    return lambda w: w.query("c", order_by=w.order(*paths), **query)


def cursor(values: int) -> Play:
    return lambda w: w.query("c", order_by=w.order("a"), start_at={"values": [w.value(1)] * values})


def counting(count: int, alias: str = "", up_to: int = 1) -> Play:
    def play(w: Any) -> Any:
        made = [
            w.pb("StructuredAggregationQuery").Aggregation(alias=alias or f"a{n}", count={"up_to": {"value": up_to}})
            for n in range(count)
        ]
        return w.aggregate("c", *made)

    return play


def database(name: str) -> Play:
    return lambda w: w.other(database=name).commit()


def past(seconds: int) -> Play:
    return lambda w: w.batch_get("c/a", read_time={"seconds": seconds})


FIELD = "f" * 1500
LIMITS = [
    # --- documents ---
    Limit("document of 1 MiB less 4 bytes", (sized(MIB - 4),), (sized(MIB - 3),)),
    Limit("document far over 1 MiB", (), (sized(MIB + 1000), stored({"s": "x" * 600_000, "t": "x" * 600_000}))),
    Limit(
        "value of 1 MiB less 89 bytes",
        (stored({"s": "x" * 1_048_487}), stored({"s": b"x" * 1_048_487})),
        (stored({"s": "x" * 1_048_488}), stored({"s": b"x" * 1_048_488}), stored({"m": {"s": "é" * 524_244}})),
    ),
    Limit("name of 6 KiB", (full_name(6144),), (full_name(6145),)),
    Limit("document id of 1,500 bytes", (named("c/" + "é" * 750),), (named("c/" + "é" * 750 + "a"),)),
    Limit("collection id of 1,500 bytes", (named("c" * 1500 + "/a"),), (named("c" * 1501 + "/a"),)),
    Limit(
        "ids are neither . nor .. nor __.*__",
        (named("c/..."), named("c/_a_"), named("c/__a")),
        (named("c/."), named("c/.."), named("./a"), named("c/__a__"), named("__c__/a"), named("c//a")),
    ),
    Limit("____ is of the form __.*__", (), (named("c/____"),)),
    Limit(
        "numeric ids have 64 bits and one spelling, and zero is none",
        (named("c/__id7__"), named("c/__id-7__"), named(f"c/__id{2**63 - 1}__"), named(f"c/__id-{2**63}__")),
        (
            *(named(f"c/__id{each}__") for each in ("0", "-0", "007", "+7", "", 2**63, -(2**63) - 1, "9" * 5000)),
            named("__id7__/a"),
        ),
    ),
    Limit("100 collections deep", (named("/".join("cd" * 100)),), (named("/".join("cd" * 101)),)),
    Limit("field name of 1,500 bytes", (stored({FIELD: 1}),), (stored({FIELD + "f": 1}), stored({"é" * 751: 1}))),
    Limit(
        "field path of 1,500 bytes",
        (stored({"f" * 749: {"g" * 750: 1}}), stored({"f" * 749: [{"g" * 750: 1}]})),
        (
            stored({"f" * 750: {"g" * 750: 1}}),
            stored({"f" * 750: [{"g" * 750: {}}]}),
            stored({"f" * 750: {"g" * 750: 1}}, mask=["f" * 750 + "." + "g" * 750]),
            ordered(FIELD + "f"),
            where(lambda w: w.filter("f" * 750 + "." + "g" * 750, "EQUAL", 1)),
            lambda w: w.batch_get("c/a", mask={"field_paths": [FIELD + "f"]}),
        ),
    ),
    Limit(
        "transform of a field path over 1,500 bytes",
        (),
        (
            lambda w: w.commit(
                w.write("c/a", transforms=[w.field_transform("f" * 750 + "." + "g" * 750, "increment", 1)])
            ),
        ),
    ),
    Limit(
        "field names are not empty and not __.*__",
        (stored({"_x_": 1, " ": 1}),),
        (
            stored({"": 1}),
            stored({"__x__": 1}),
            stored({"m": {"__x__": 1}}),
            ordered("__x__"),
            where(lambda w: w.filter("__x__", "EQUAL", 1)),
            lambda w: w.batch_get("c/a", mask={"field_paths": ["__x__"]}),
        ),
    ),
    Limit(
        "20 levels of maps and arrays",
        (stored(nested(20)), stored(nested(10, arrays=True))),
        (stored(nested(21)), stored(nested(11, arrays=True))),
    ),
    Limit("no array in an array", (stored({"x": [{"y": [1]}]}),), (stored({"x": [[1]]}),)),
    Limit("vector of 2,048 dimensions", (vector(1), vector(2048)), (vector(0), vector(2049))),
    Limit(
        "timestamps of years 1 to 9999",
        (typed(timestamp_value={"seconds": -62_135_596_800}), typed(timestamp_value={"seconds": 253_402_300_799})),
        (
            typed(timestamp_value={"seconds": -62_135_596_801}),
            typed(timestamp_value={"seconds": 253_402_300_800}),
            typed(timestamp_value={"seconds": 1, "nanos": -1}),
        ),
    ),
    Limit(
        "latitude to 90, longitude to 180",
        (typed(geo_point_value={"latitude": -90, "longitude": 180}),),
        (typed(geo_point_value={"latitude": 90.5}), typed(geo_point_value={"longitude": -180.5})),
    ),
    Limit(
        "40,000 index entries of a document",
        (stored({f"f{n}": 1 for n in range(20_000)}), stored({"a": [None] * 39_998})),
        (stored({f"f{n}": 1 for n in range(20_001)}), stored({"a": [None] * 39_999})),
    ),
    Limit(
        "8 MiB of index entries of a document",
        (stored({f"f{n}": 1 for n in range(900)}, path="c/" + "a" * 1500),),
        (stored({f"f{n}": 1 for n in range(3000)}, path="c/" + "a" * 1500),),
    ),
    # --- requests ---
    Limit("500 transforms of a document", (transforms(500),), (transforms(501),)),
    Limit("request of 10 MiB", (requested(3_500_000),), (requested(10 * MIB + 1000),)),
    Limit("500 writes of a BatchWrite", (batch(500),), (batch(501),)),
    Limit("a document once in a BatchWrite", (batch(1, same=True),), (batch(2, same=True),)),
    Limit(
        "database id of 4 to 63 letters, digits and hyphens",
        (database("(default)"), database("a-2c"), database("a" * 63)),
        (database("abc"), database("a" * 64), database("Abcd"), database("1abc"), database("abc-"), database("ab_cd")),
    ),
    Limit("the past is an hour long", (), (past(5),), FAILED),
    Limit("the future can't be read", (), (past(9_000_000_000),)),
    # --- queries ---
    Limit("in: 1 to 30 values", (several("IN", 1), several("IN", 30)), (several("IN", 0), several("IN", 31))),
    Limit(
        "array-contains-any: 1 to 30 values",
        (several("ARRAY_CONTAINS_ANY", 30),),
        (several("ARRAY_CONTAINS_ANY", 0), several("ARRAY_CONTAINS_ANY", 31)),
    ),
    Limit("not-in: 1 to 10 values", (several("NOT_IN", 10),), (several("NOT_IN", 0), several("NOT_IN", 11))),
    Limit("30 disjunctions", (either(30), product(5, 6)), (either(31), product(6, 6))),
    Limit(
        "one array-contains in a disjunction",
        (together(("ARRAY_CONTAINS", 1), ("EQUAL", 1)),),
        (
            together(("ARRAY_CONTAINS", 1), ("ARRAY_CONTAINS", 2)),
            together(("ARRAY_CONTAINS", 1), ("ARRAY_CONTAINS_ANY", [2])),
        ),
    ),
    Limit(
        "one of != and not-in",
        (together(("NOT_EQUAL", 1), ("EQUAL", 1)),),
        (together(("NOT_EQUAL", 1), ("NOT_EQUAL", 2)), together(("NOT_EQUAL", 1), ("NOT_IN", [2]))),
    ),
    Limit(
        "not-in stands with neither in nor array-contains-any",
        (together(("NOT_IN", [1]), ("ARRAY_CONTAINS", 1)),),
        (together(("NOT_IN", [1]), ("IN", [1])), together(("NOT_IN", [1]), ("ARRAY_CONTAINS_ANY", [1]))),
    ),
    Limit("10 fields with inequalities", (all_of(10, "LESS_THAN"),), (all_of(11, "LESS_THAN"),)),
    Limit(
        "100 filters, orders and a parent",
        (all_of(100), all_of(99, parent="c/a"), ordered(*[f"f{n}" for n in range(100)]), mixed("NOT_IN", 10, 90)),
        (
            all_of(101),
            all_of(100, parent="c/a"),
            all_of(100, order_by=[{"field": {"field_path": "a"}}]),
            ordered(*[f"f{n}" for n in range(101)]),
            mixed("NOT_IN", 10, 91),
            mixed("IN", 30, 71),
        ),
    ),
    Limit(
        "orders: each field once, the name last",
        (ordered("a", "-b", "__name__"),),
        (ordered("a", "a"), ordered("__name__", "a")),
    ),
    Limit("no scan by descending name", (ordered("-a", "-__name__"),), (ordered("-__name__"),), FAILED),
    Limit("no more cursor values than orders", (cursor(0), cursor(1)), (cursor(2),)),
    Limit(
        "limit and offset are not negative",
        (lambda w: w.query("c", limit={"value": 0}, offset=0),),
        (lambda w: w.query("c", limit={"value": -1}), lambda w: w.query("c", offset=-1)),
    ),
    Limit("1 to 5 aggregations", (counting(1), counting(5)), (counting(0),)),
    Limit("no sixth aggregation", (), (counting(6),)),
    Limit(
        "aliases are field names, each once",
        (counting(1, "x" * 1500),),
        (counting(1, "x" * 1501), counting(1, "__x__"), counting(2, "x")),
    ),
    Limit("count up to 0", (), (counting(1, up_to=0),)),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_limit(limit, firestore_wire, firestore_server):
    """Up to the limit it is done, beyond it refused with the documented error."""
    w = firestore_wire
    assert [w.outcome(play, w) for play in limit.within] == [OK] * len(limit.within)
    code = firestore_server.refused(limit.name, limit.code)
    assert {w.outcome(play, w) for play in limit.beyond} == {code}


def test_every_difference_is_of_a_limit_or_of_a_test(firestore_differences):
    """No difference is listed that no test looks at."""
    assert {limit.name for limit in LIMITS} >= {name for name, each in firestore_differences.items() if each.limit}


@pytest.fixture(params=["optimistic", "pessimistic", "emulator"])
def aging(request, firestore_wire_to):
    """
    A server on a virtual clock, in each way for transactions to meet.
    """
    clock = LoneClock()
    server = FirestoreServer(clock, conflicts=request.param)
    with grpc.insecure_channel(server.start()) as channel:
        yield clock, firestore_wire_to(channel, "p")
    server.stop()


class TestTimes:
    """
    Limits in time, on the embedded server: Google's emulator has the same, measured, and no clock to turn.
    """

    @pytest.mark.parametrize(("pauses", "code"), [((60,), OK), ((60.001,), INVALID)])
    def test_idle(self, aging, pauses, code):
        """A transaction is closed after 60 idle seconds."""
        clock, w = aging
        transaction = w.begin()
        for pause in pauses:
            clock.advance(pause)
        assert w.outcome(w.batch_get, "c/a", transaction=transaction) == code

    @pytest.mark.parametrize(("last", "code"), [(30, OK), (30.001, INVALID)])
    def test_life(self, aging, last, code):
        """However busy, it is closed after 270 seconds."""
        clock, w = aging
        transaction = w.begin()
        for _ in range(8):
            clock.advance(30)
            w.batch_get("c/a", transaction=transaction)
        clock.advance(last)
        assert w.outcome(w.commit, w.write("c/a", {"x": 1}), transaction=transaction) == code

    @pytest.mark.parametrize(("conflicts", "seconds"), [("pessimistic", 20), ("emulator", 2)])
    def test_lock(self, conflicts, seconds, firestore_wire_to):
        """Whoever waits for a lock gives up after 20 seconds; after 2 where it does as Google's emulator."""
        clock = LoneClock()
        server = FirestoreServer(clock, conflicts=conflicts)
        with grpc.insecure_channel(server.start()) as channel:
            w = firestore_wire_to(channel, "p")
            w.batch_get("c/a", transaction=w.begin())
            before = clock.micros()
            assert w.outcome(w.commit, w.write("c/a", {"x": 1})) == ABORTED
            assert clock.micros() - before == seconds * 1_000_000
        server.stop()

    def test_past(self, aging):
        """An hour back can be read, and not a microsecond more."""
        clock, w = aging
        w.commit(w.write("c/a", {"x": 1}))
        then = w.batch_get("c/a")[0].read_time
        clock.advance(3600)
        assert w.outcome(w.batch_get, "c/a", read_time=then) == OK
        clock.advance(0.000_001)
        assert w.outcome(w.batch_get, "c/a", read_time=then) == FAILED

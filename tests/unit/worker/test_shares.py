"""
Who looks at which shard: a table, and what must hold for all sessions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from gcp_oncetask.worker.shares import Session, shares

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def session(id_: str, *kinds: str, age: float = 0.0, ttl: float = 60.0) -> Session:
    return Session(id_, kinds or ("a",), NOW - timedelta(seconds=age), ttl)


# What is there -> who looks at which of four shards of the kind "a"; crc32("a") leaves 1, 0, 3, 2 when divided by 2 to 5.
TABLE = {
    "nobody": ([], {}),
    "one has all": ([session("x")], {"x": (0, 1, 2, 3)}),
    "two have half each": ([session("x"), session("y")], {"x": (1, 3), "y": (0, 2)}),
    "the order of reading is nothing": ([session("y"), session("x")], {"x": (1, 3), "y": (0, 2)}),
    "three": ([session("x"), session("y"), session("z")], {"x": (0, 3), "y": (1,), "z": (2,)}),
    "more sessions than shards": (
        [session(name) for name in "uvwxy"],
        {"u": (3,), "v": (), "w": (0,), "x": (1,), "y": (2,)},
    ),
    "another kind's worker has none": ([session("x"), session("y", "b")], {"x": (0, 1, 2, 3)}),
    "a heartbeat counts until its ttl": (
        [session("x"), session("y", age=59.999)],
        {"x": (1, 3), "y": (0, 2)},
    ),
    "and not at it": ([session("x"), session("y", age=60)], {"x": (0, 1, 2, 3)}),
    "each by its own ttl": (
        [session("x", age=30, ttl=20), session("y", age=30, ttl=40)],
        {"y": (0, 1, 2, 3)},
    ),
    "all are dead": ([session("x", age=60), session("y", age=61)], {}),
}


@pytest.mark.parametrize("case", TABLE)
def test_shares(case: str) -> None:
    found, expected = TABLE[case]
    assert shares(found, "a", 4, NOW) == expected


@pytest.mark.parametrize(("workers", "count"), list(product(range(1, 12), (1, 2, 7, 8, 32))))
def test_every_shard_is_given_once_and_nobody_has_two_more_than_another(workers: int, count: int) -> None:
    found = [session(f"{number:02}", "a", "b") for number in range(workers)]
    for kind in ("a", "b"):
        given = shares(found, kind, count, NOW)
        assert sorted(shard for owned in given.values() for shard in owned) == list(range(count))
        sizes = [len(owned) for owned in given.values()]
        assert len(sizes) == workers
        assert max(sizes) - min(sizes) <= 1


def test_two_kinds_do_not_both_favour_the_same_session() -> None:
    found = [session("x", "mail", "a"), session("y", "mail", "a")]
    assert shares(found, "mail", 1, NOW) == {"x": (0,), "y": ()}
    assert shares(found, "a", 1, NOW) == {"x": (), "y": (0,)}


def test_left() -> None:
    assert session("x", age=45).left(NOW) == 15
    assert session("x", age=60).left(NOW) == 0
    assert session("x", age=61).left(NOW) == -1

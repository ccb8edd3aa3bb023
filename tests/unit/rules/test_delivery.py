"""
Deliveries: their bodies, and their URLs: what these name, and how long they may be.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gcp_oncetask.errors import DeliveryError
from gcp_oncetask.rules.delivery import (
    LONGEST_TARGET,
    MAX_BODY,
    Delivery,
    claimed_in,
    cloud_task_id,
    delivery_url,
    idempotency_key,
    path_digest,
    trouble_with_url,
)
from gcp_oncetask.rules.record import Lock, Status
from tests.unit.checks.test_names import CHARACTERS


@pytest.mark.parametrize(
    ("target", "begin"),
    [
        ("https://x.test/run", "https://x.test/run?"),
        ("https://x.test/run?", "https://x.test/run?"),
        ("https://x.test/run?a=b", "https://x.test/run?a=b&"),
        ("https://x.test/run?a=b&", "https://x.test/run?a=b&"),
        ("https://x.test/run#part?a=b", "https://x.test/run?"),
        ("https://x.test/run?a=b#part", "https://x.test/run?a=b&"),
    ],
)
def test_the_delivery_is_named_behind_the_query_of_the_target(target: str, begin: str) -> None:
    named = "oncetask_document=orders%2F1&oncetask_sequence=7&oncetask_dispatch=2"
    assert delivery_url(Delivery("E", "orders/1", 7, 2, "n"), target) == begin + named


def test_processes_of_two_releases_compute_one_id_of_a_cloud_task() -> None:
    lock = Lock(env="E", sequence=7, status=Status.SCHEDULED, scheduled_by="n", dispatches=2)
    assert cloud_task_id("orders/1", lock) == "4d05e59f045f6e2f259fbbfdcfdd11e4b715850f"


@pytest.mark.parametrize(("character", "sizes"), CHARACTERS.items())
@pytest.mark.parametrize(
    "target",
    ["https://x.test/run", "https://x.test/run?a=b", "https://x.test/" + "p" * 1900, "https://x.test/" + "p" * 1950],
)
def test_urls_of_deliveries_end_at_2083_characters(character: str, sizes: tuple[int, int], target: str) -> None:
    """
    The path stands in it as long as there is room, then its digest, then nothing; sequence and dispatch always do.
    """
    for count in range(1, 1500 // sizes[0] + 1):
        path = f"orders/{character * count}"
        url = delivery_url(Delivery("E", path, 10**9, 10**6, "n"), target)
        named = parse_qs(urlsplit(url).query)
        readable = f"{target}{'&' if '?' in target else '?'}oncetask_document=orders%2F{'x' * sizes[1] * count}"
        rest = "&oncetask_sequence=1000000000&oncetask_dispatch=1000000"
        expected: str | None = path
        if len(readable + rest) > 2083:
            expected = path_digest(path) if len(target) < 1950 else None
        assert (named.get("oncetask_document", [None])[0], len(url) <= 2083) == (expected, True)
        assert (named["oncetask_sequence"], named["oncetask_dispatch"]) == (["1000000000"], ["1000000"])


@pytest.mark.parametrize(("character", "size"), [("x", 1), ("%C3", 3), ("ü", 6), ("日", 9), ("😀", 12)])
def test_urls_end_where_a_delivery_could_not_be_named(character: str, size: int) -> None:
    """
    By their length encoded, without the fragment; whatever fits can be delivered to.
    """
    start = "https://x.test/"
    longest = start + character * ((LONGEST_TARGET - len(start)) // size)

    assert trouble_with_url(longest) is None
    assert trouble_with_url(f"{longest}#{'f' * 3000}") is None
    assert "at most 2,020" in str(trouble_with_url(longest + character))
    if character.isascii():
        assert len(delivery_url(Delivery("E", "orders/" + "x" * 1500, 10**9, 10**6, "n"), longest)) <= 2083


def test_body_comes_back() -> None:
    """
    With all that is known of the delivery, or with as little as possible.
    """
    whole = Delivery("E", "orders/1", 7, 3, "n", 9, "1.5", datetime(2026, 1, 1, 12, tzinfo=UTC), b"\x00\xff")
    lock = Lock.of(
        {"env": "E", "sequence": 7, "status": Status.SCHEDULED, "dispatches": 3, "scheduled_by": "n", "token": 9}
    )

    assert Delivery.from_json(whole.to_json()) == whole
    assert Delivery.from_json(Delivery("E", "orders/1", 1, 1, "n").to_json()) == Delivery("E", "orders/1", 1, 1, "n")
    assert Delivery.present("orders/1", lock) == Delivery("E", "orders/1", 7, 3, "n", 9)
    none = lock.but(dispatches=0, scheduled_by=None)
    assert Delivery.present("orders/1", none) == Delivery("E", "orders/1", 7, 1, "-", 9)
    ids = {cloud_task_id("orders/1", lock.but(**{name: value})) for name, value in OTHERS.items()}
    assert len(ids | {cloud_task_id("orders/2", lock), cloud_task_id("orders/1", lock)}) == len(OTHERS) + 2


OTHERS: dict[str, Any] = {"env": "F", "sequence": 8, "dispatches": 4, "scheduled_by": "m"}


@pytest.mark.parametrize(
    "change",
    [
        {"env": ""},
        {"env": None},
        {"env": 7},
        {"version": ""},
        {"version": 7},
        {"document": "orders"},
        {"document": "orders/../x"},
        {"sequence": 0},
        {"sequence": True},
        {"sequence": 2**63},
        {"dispatch": "1"},
        {"token": -1},
        {"waitUntil": "soon"},
        {"contents": "*"},
    ],
)
def test_damaged_body_is_refused(change: dict[str, Any]) -> None:
    """
    So is one that is no JSON object, or too long.
    """
    sound = json.loads(Delivery("E", "orders/1", 1, 1, "n").to_json())

    for body in (json.dumps(sound | change), "[]", "{", json.dumps(sound | {"contents": "A" * MAX_BODY})):
        with pytest.raises(DeliveryError):
            Delivery.from_json(body.encode())


def test_newer_payload_has_an_idempotency_key_of_its_own() -> None:
    """
    So has each sequence, document and environment.
    """
    keys = [
        idempotency_key(*each)
        for each in (("E", "a/1", 1), ("E", "a/1", 1, 1), ("E", "a/1", 2), ("E", "a/2", 1), ("F", "a/1", 1))
    ]

    assert len(set(keys)) == len(keys)


def test_query_names_a_valid_document_or_none() -> None:
    """
    Whoever sends it.
    """
    url = delivery_url(Delivery("E", "orders/a b", 7, 1, "n"), "https://x.test/run")

    assert claimed_in(url.partition("?")[2]) == ("orders/a b", 7)
    assert claimed_in("oncetask_document=orders%2F1") == ("orders/1", 0)
    assert claimed_in("oncetask_document=orders") is None
    assert claimed_in(f"oncetask_document={path_digest('orders/1')}") is None
    assert claimed_in("x" * 3000 + "&oncetask_document=orders%2F1") is None

"""
Names at their limits: each is checked where it is given, or does not matter.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_oncetask import Config, ConfigError, LockedModel, UsageError
from gcp_oncetask.checks.paths import trouble_with_id, trouble_with_path, valid_path
from gcp_oncetask.rules.document_paths import (
    TaskName,
    check_resource_key,
    key_path,
    parked_place,
    resource_of,
)
from gcp_oncetask.rules.record import Lock, Status
from tests.support.orders import Order

CHARACTERS = {"x": (1, 1), "%": (1, 3), "ü": (2, 6), "日": (3, 9), "😀": (4, 12)}
"""A character; its bytes; its bytes percent-encoded."""
LONGEST_KIND = "k" * 100


class Item(LockedModel, collection="customers/{customer}/items"):
    customer: str


def fitting(limit: int, size: int) -> int:
    """
    How many characters of a size fit.
    """
    return limit // size


@pytest.mark.parametrize(("character", "sizes"), CHARACTERS.items())
def test_entity_ids_end_at_1500_bytes(character: str, sizes: tuple[int, int]) -> None:
    """
    The longest is a path; with one character more the error names model, field, length and limit.
    """
    count = fitting(1500, sizes[0])

    assert Order(id=character * count).document_path == f"orders/{character * count}"
    assert Item(id="a", customer=character * count).document_path.endswith("/items/a")
    for entity, field in (
        (Order(id="x" + character * count), "id"),
        (Item(id="a", customer="x" + character * count), "customer"),
    ):
        with pytest.raises(
            UsageError, match=f"{type(entity).__name__}: the {field} .*it has 1,50[1-9] bytes.* at most 1,500"
        ):
            _ = entity.document_path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "a/b"}, "the id 'a/b' .* holds no '/'"),
        ({"id": "."}, "the id '.' .* keeps the id"),
        ({"id": ".."}, "the id '..' .* keeps the id"),
        ({"id": "__x__"}, "the id '__x__' .* keeps the id"),
        ({"id": "a", "customer": "b/c"}, "the customer 'b/c' .* holds no '/'"),
        ({"id": "a", "customer": "__x__"}, "the customer '__x__' .* keeps the id"),
    ],
)
def test_ids_that_firestore_does_not_take_are_named(fields: dict[str, str], message: str) -> None:
    """
    The field, and why.
    """
    with pytest.raises(UsageError, match=f"Item: {message}"):
        _ = Item(**{"customer": "c", **fields}).document_path


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        ("a/b", None),
        ("/".join(["c" * 1500, "d" * 1500] * 2), None),
        ("/".join(["c" * 1500, "d" * 1500] * 2 + ["e" * 60, "f" * 62]), None),
        ("/".join(["c" * 1500, "d" * 1500] * 2 + ["e" * 60, "f" * 63]), "6,145 bytes"),
        ("/".join(["a"] * 200), None),
        ("/".join(["a"] * 202), "101 collections deep"),
        ("a", "odd number"),
        ("a//b/c", "not empty"),
    ],
)
def test_paths_end_at_the_limits_of_firestore(path: str, trouble: str | None) -> None:
    """
    6 KiB, 100 collections: what the local Firestore takes too.
    """
    found = trouble_with_path(path)

    assert found is None if trouble is None else found is not None and trouble in found
    assert valid_path(path) is (trouble is None)


@given(path=st.lists(st.text("aZ0._ ~\0\n\u00e9\ud800", max_size=5), min_size=1, max_size=10).map("/".join))
def test_short_path_is_valid_if_its_parts_are(path: str) -> None:
    """
    Collections and ids alternate, and each of them is the id of a document or collection.
    """
    parts = path.split("/")

    assert valid_path(path) is (len(parts) % 2 == 0 and all(trouble_with_id(part) is None for part in parts))


@pytest.mark.parametrize(("character", "sizes"), CHARACTERS.items())
@pytest.mark.parametrize("env", ["E", "E" * 100])
def test_task_ids_end_where_their_document_does(env: str, character: str, sizes: tuple[int, int]) -> None:
    """
    The longest id has a document; the error names length and limit.
    """
    room = 1500 - len(f"xx:{env}:{LONGEST_KIND}:")
    count = fitting(room, sizes[1])

    assert valid_path(TaskName(env, LONGEST_KIND, character * count).path)
    length = f"{(count + 1) * sizes[1]:,}"
    with pytest.raises(UsageError, match=rf"The task id .* takes {length} bytes .* at most {room:,} fit"):
        _ = TaskName(env, LONGEST_KIND, character * (count + 1)).path


@pytest.mark.parametrize(("character", "sizes"), CHARACTERS.items())
@pytest.mark.parametrize(
    ("env", "kind"), [("E", "k"), ("E" * 100, "k"), ("E", LONGEST_KIND), ("E" * 100, LONGEST_KIND)]
)
def test_resource_keys_end_where_an_index_cuts(env: str, kind: str, character: str, sizes: tuple[int, int]) -> None:
    """
    With the longest key no indexed text is longer than an index keeps whole; with one more character one might be.
    """
    count = next(n for n in range(1500 // sizes[1], 0, -1) if accepted(env, kind, character * n))
    texts = indexed(env, kind, character * count)

    assert max(map(len, texts)) <= 1500 < max(map(len, texts)) + sizes[1]
    with pytest.raises(
        UsageError, match=rf"The resource key .* takes {(count + 1) * sizes[1]:,} bytes .* at most 1,\d+ fit"
    ):
        check_resource_key(env, kind, character * (count + 1))


def accepted(env: str, kind: str, key: str) -> bool:
    """
    Whether a key is not refused.
    """
    try:
        check_resource_key(env, kind, key)
    except UsageError:
        return False
    return True


def indexed(env: str, kind: str, key: str) -> list[str]:
    """
    What is stored of a key where it is looked for, and the id of its document.
    """
    at = datetime(2026, 1, 1, tzinfo=UTC)
    lock = Lock.of({"env": env, "sequence": 1, "status": Status.SCHEDULED, "wait_until": at})
    return [resource_of(kind, lock, key), parked_place(env, key, at, at), key_path(env, key).split("/")[1]]


@pytest.mark.parametrize("text", ["", "\ud800", None, 7])
def test_names_that_are_no_texts_are_refused(text: Any) -> None:
    """
    Ids and resource keys, with a sentence.
    """
    for call in (
        lambda: TaskName("E", "k", text).path,
        lambda: key_path("E", text),
        lambda: check_resource_key("E", "k", text),
    ):
        with pytest.raises(UsageError, match=r"is empty|must be a text|half a surrogate pair"):
            call()


def test_environments_have_at_most_100_characters() -> None:
    """
    They are part of every id.
    """
    Config(env="E" * 100)
    with pytest.raises(ConfigError, match="1 to 100"):
        Config(env="E" * 101)

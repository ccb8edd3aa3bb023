"""
The channel that ends in this process, under unmodified asynchronous clients.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from gcp_emulator.aio_channel import async_firestore_client
from gcp_emulator.channel import InProcessChannel
from gcp_emulator.firestore import FirestoreServer


@pytest.fixture
def client() -> Any:
    """
    The ordinary asynchronous client on a server that is never put on a port.
    """
    return async_firestore_client(InProcessChannel([FirestoreServer().service]), "p")


def test_documents_queries_and_transactions_work(client: Any) -> None:
    """
    Create, get, query, transaction, delete; many at once.
    """

    async def play() -> None:
        reference = client.document("things/a")
        await reference.create({"n": 1})
        await asyncio.gather(*[client.document(f"things/d{n}").set({"n": n}) for n in range(5)])

        @firestore.async_transactional
        async def raise_(transaction: Any) -> None:
            found = await reference.get(transaction=transaction)
            transaction.update(reference, {"n": found.get("n") + 10})

        await raise_(client.transaction())
        large = client.collection("things").where(filter=firestore.FieldFilter("n", ">", 3))
        assert [d.get("n") async for d in large.stream()] == [4, 11]
        await reference.delete()
        assert not (await reference.get()).exists

    asyncio.run(play())


def test_refusals_are_the_client_s_own_errors(client: Any) -> None:
    """
    What the service refuses arrives as the exception that a real channel would give.
    """

    async def play() -> None:
        reference = client.document("things/a")
        with pytest.raises(NotFound):
            await reference.update({"n": 1})
        await reference.create({"n": 1})
        with pytest.raises(AlreadyExists):
            await reference.create({"n": 1})

    asyncio.run(play())


def test_no_thread_is_started(client: Any) -> None:
    """
    A call is a function call.
    """
    before = threading.active_count()
    asyncio.run(client.document("things/a").set({"n": 1}))
    assert threading.active_count() == before


@pytest.fixture(params=["in process", "embedded", pytest.param("google", marks=pytest.mark.google)])
def make_client(
    request: pytest.FixtureRequest, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    """
    Makes an asynchronous client: on the channel that ends here, or on a port of either server.
    """
    if request.param == "in process":
        channel = InProcessChannel([FirestoreServer().service])
        return lambda: async_firestore_client(channel, firestore_project)
    server = request.getfixturevalue(f"firestore_{request.param}")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
    make: Any = AnonymousCredentials  # without types
    return lambda: firestore.AsyncClient(project=firestore_project, credentials=make())


async def _outcome(call: Any) -> str:
    try:
        await call
    except (AlreadyExists, NotFound, FailedPrecondition) as error:
        return type(error).__name__
    return "OK"


async def _writes(client: Any) -> None:
    things = client.collection("things")
    batch = client.batch()
    for number in range(5):
        batch.set(things.document(f"d{number}"), {"n": number, "even": number % 2 == 0, "m": {"x": number}})
    assert len(await batch.commit()) == 5
    first = things.document("d0")
    assert await _outcome(first.create({})) == "AlreadyExists"
    assert await _outcome(things.document("none").update({"n": 1})) == "NotFound"
    version = (await first.get()).update_time
    await first.update(
        {"n": firestore.Increment(10), "m.y": firestore.ArrayUnion([1, 1]), "at": firestore.DELETE_FIELD}
    )
    stale = client.write_option(last_update_time=version)
    assert await _outcome(first.update({"n": 0}, option=stale)) == "FailedPrecondition"
    await first.set({"m": {"z": firestore.SERVER_TIMESTAMP}}, merge=True)
    found = (await first.get()).to_dict()
    assert (found["n"], found["even"], found["m"]["x"], found["m"]["y"]) == (10, True, 0, [1])
    assert found["m"]["z"].microsecond % 1000 == 0
    await client.document("things/d1/parts/p").set({"n": 7})
    await things.document("d4").delete()


async def _reads(client: Any) -> None:
    things = client.collection("things")
    several = [s async for s in client.get_all([things.document("d1"), things.document("d4")], field_paths=["n"])]
    assert sorted((s.id, s.exists, s.to_dict()) for s in several) == [("d1", True, {"n": 1}), ("d4", False, None)]
    even = firestore.FieldFilter("even", "==", True)
    assert [s.id async for s in things.where(filter=even).order_by("n", direction="DESCENDING").stream()] == [
        "d0",
        "d2",
    ]
    last = await things.order_by("n").limit_to_last(2).get()
    assert [s.id for s in last] == ["d3", "d0"]
    after = things.order_by("n").start_after({"n": 2}).select(["n"])
    assert [s.to_dict() async for s in after.stream()] == [{"n": 3}, {"n": 10}]
    [[count]] = await things.where(filter=even).count().get()
    [[total]] = await things.sum("n").get()
    assert (count.value, total.value) == (2, 16)
    assert [s.reference.path async for s in client.collection_group("parts").stream()] == ["things/d1/parts/p"]
    assert [each.id async for each in client.collections()] == ["things"]
    assert [each.id async for each in things.document("d1").collections()] == ["parts"]
    assert [each.id async for each in things.list_documents()] == ["d0", "d1", "d2", "d3"]


async def _transactions(client: Any) -> None:
    reference = client.document("things/d2")

    @firestore.async_transactional
    async def raise_(transaction: Any, *, fail: bool) -> int:
        found = [s async for s in await transaction.get(client.collection("things").order_by("n").limit(1))]
        number = (await reference.get(transaction=transaction)).get("n") + found[0].get("n")
        transaction.update(reference, {"n": number})
        if fail:
            raise KeyError
        return number

    assert await raise_(client.transaction(), fail=False) == 3
    with pytest.raises(KeyError):
        await raise_(client.transaction(), fail=True)
    assert (await reference.get()).get("n") == 3


def test_main_operations_are_those_of_a_port(make_client: Callable[[], Any]) -> None:
    """
    Writes, reads, queries, aggregations, lists and transactions of an unmodified client: the same in process, on the
    embedded server's port and on Google's.
    """

    async def play() -> None:
        client = make_client()
        await _writes(client)
        await _reads(client)
        await _transactions(client)
        assert await client.recursive_delete(client.collection("things")) == 5
        await client._firestore_api.transport.close()

    asyncio.run(play())


def test_many_at_once_lose_nothing(client: Any) -> None:
    """
    Transactions of one event loop that meet: each increment counts.
    """

    async def play() -> None:
        reference = client.document("things/n")
        await reference.set({"n": 0})

        @firestore.async_transactional
        async def raise_(transaction: Any) -> None:
            found = await reference.get(transaction=transaction)
            await asyncio.sleep(0)
            transaction.update(reference, {"n": found.get("n") + 1})

        await asyncio.gather(*[raise_(client.transaction(max_attempts=50)) for _ in range(10)])
        assert (await reference.get()).get("n") == 10

    asyncio.run(play())

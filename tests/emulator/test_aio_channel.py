"""
The channel that ends in this process, under unmodified asynchronous clients.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, NotFound
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

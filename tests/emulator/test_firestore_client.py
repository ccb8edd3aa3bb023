"""
What the unmodified clients see of a Firestore: proved on both servers.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

OK = grpc.StatusCode.OK
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class TestClient:
    def test_document_life(self, firestore_client):
        """Create, get, update, set with merge, delete: each shows in the next read."""
        ref = firestore_client.document("orders/42")
        ref.create({"amount": 1, "to": {"name": "Ann", "city": "Ulm"}})
        with pytest.raises(exceptions.AlreadyExists):
            ref.create({"amount": 2})
        ref.update({"amount": 3, "to.city": firestore.DELETE_FIELD})
        ref.set({"note": "x"}, merge=True)
        assert ref.get().to_dict() == {"amount": 3, "to": {"name": "Ann"}, "note": "x"}
        ref.delete()
        assert not ref.get().exists
        with pytest.raises(exceptions.NotFound):
            ref.update({"amount": 1})

    def test_last_update_time_option(self, firestore_client):
        """An update with the version it was read with goes through once."""
        ref = firestore_client.document("c/a")
        ref.set({"n": 1})
        option = firestore_client.write_option(last_update_time=ref.get().update_time)
        ref.update({"n": 2}, option=option)
        with pytest.raises(exceptions.FailedPrecondition):
            ref.update({"n": 3}, option=option)
        assert ref.get().get("n") == 2

    def test_batch_and_get_all(self, firestore_client):
        """A batch is all or nothing; get_all gives found and missing documents, each with the read time."""
        a, b = firestore_client.document("c/a"), firestore_client.document("c/b")
        batch = firestore_client.batch()
        batch.create(a, {"n": 1})
        batch.update(b, {"n": 1})
        with pytest.raises(exceptions.NotFound):
            batch.commit()
        assert not a.get().exists
        a.set({"n": 1})
        snapshots = {each.id: each for each in firestore_client.get_all([a, b])}
        assert {key: each.exists for key, each in snapshots.items()} == {"a": True, "b": False}
        assert all(each.read_time >= snapshots["a"].update_time for each in snapshots.values())

    def test_server_timestamp_and_increment(self, firestore_client):
        """SERVER_TIMESTAMP is in whole milliseconds and not behind the update time; Increment adds."""
        ref = firestore_client.document("c/a")
        ref.set({"n": 1, "at": firestore.SERVER_TIMESTAMP})
        ref.update({"n": firestore.Increment(4), "tags": firestore.ArrayUnion(["x", "x", "y"])})
        snapshot = ref.get()
        assert snapshot.get("n") == 5
        assert snapshot.get("tags") == ["x", "y"]
        assert snapshot.get("at").microsecond % 1000 == 0
        assert timedelta(0) <= snapshot.create_time - snapshot.get("at") < timedelta(seconds=30)

    def test_query_stream_and_count(self, firestore_client):
        """Filters, orders, limits, cursors and projections of the query builder; count of the same query."""
        orders = firestore_client.collection("orders")
        batch = firestore_client.batch()
        for n in range(10):
            batch.set(orders.document(f"o{n}"), {"n": n, "even": n % 2 == 0, "lock": {"due": f"d{n}"}})
        batch.commit()
        due = orders.where(filter=FieldFilter("lock.due", ">=", "d3")).where(filter=FieldFilter("lock.due", "<=", "d7"))
        assert [s.id for s in due.order_by("lock.due").limit(3).stream()] == ["o3", "o4", "o5"]
        assert [s.id for s in due.order_by("lock.due", direction="DESCENDING").stream()] == [
            f"o{n}" for n in (7, 6, 5, 4, 3)
        ]
        assert due.count().get()[0][0].value == 5
        even = orders.where(filter=FieldFilter("even", "==", True))
        assert [s.id for s in even.order_by("n").start_after({"n": 4}).stream()] == ["o6", "o8"]
        assert [s.to_dict() for s in even.select(["n"]).limit(1).stream()] == [{"n": 0}]
        assert [s.id for s in orders.order_by("n").limit_to_last(2).get()] == ["o8", "o9"]
        assert [s.id for s in orders.order_by("n").offset(8).stream()] == ["o8", "o9"]

    def test_collection_group(self, firestore_client):
        """A collection group finds documents under every parent, a collection only its own."""
        for path in ("a/1/items/x", "a/2/items/y", "items/z"):
            firestore_client.document(path).set({"k": 1})
        group = firestore_client.collection_group("items").where(filter=FieldFilter("k", "==", 1))
        assert [s.reference.path for s in group.stream()] == ["a/1/items/x", "a/2/items/y", "items/z"]
        assert [s.id for s in firestore_client.collection("a/1/items").stream()] == ["x"]

    def test_transactional(self, firestore_client):
        """The decorator reads, writes and commits; a raised exception rolls back."""
        ref = firestore_client.document("c/a")
        ref.set({"n": 1})

        @firestore.transactional
        def add(transaction, fail):
            n = ref.get(transaction=transaction).get("n")
            transaction.update(ref, {"n": n + 1})
            if fail:
                raise KeyError(n)
            return n

        assert add(firestore_client.transaction(), fail=False) == 1
        with pytest.raises(KeyError):
            add(firestore_client.transaction(), fail=True)
        assert ref.get().get("n") == 2

    def test_async_client(self, firestore_server, firestore_project, monkeypatch):
        """The asynchronous client: set, get, query, transaction."""
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_server.address)

        async def run():
            client = firestore.AsyncClient(project=firestore_project, credentials=AnonymousCredentials())
            ref = client.document("c/a")
            await ref.set({"n": 1})

            @firestore.async_transactional
            async def add(transaction):
                snapshot = await ref.get(transaction=transaction)
                transaction.update(ref, {"n": snapshot.get("n") + 1})

            await add(client.transaction())
            found = [s.to_dict() async for s in client.collection("c").stream()]
            await client._firestore_api.transport.close()
            return found

        assert asyncio.run(run()) == [{"n": 2}]

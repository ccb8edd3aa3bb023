"""
Variants of the same three state changes of one document: create, claim, complete.
"""

from __future__ import annotations

import io
import itertools
from typing import Any, Protocol

from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.types import CommitRequest, CommitResponse, Write
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_oncetask import Attempt, Config, LockedModel, Locker
from gcp_oncetask.entities.subject import Entities
from gcp_oncetask.execution.handler_spec import HandlerSpec
from gcp_oncetask.execution.pipeline import execute, parse
from gcp_oncetask.rules.decisions import Policy
from gcp_oncetask.rules.delivery import Delivery
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders

TASK = {"kind": "charge", "order": "42", "amount": 1999, "email": "ann@example.com"}


class Variant(Protocol):
    """
    One variant.
    """

    name: str

    def run(self, id_: str) -> None:
        """
        Take one new document from creation to completion.
        """


class Idiom:
    """
    The documented way: create(), a transactional get and update, a conditional update.
    """

    name = "a: documented way by hand"

    def __init__(self, client: firestore.Client) -> None:
        self.client = client

    def run(self, id_: str) -> None:
        reference = self.client.collection("bench_a").document(id_)
        reference.create({**TASK, "status": "scheduled", "attempts": 0, "created": firestore.SERVER_TIMESTAMP})

        @firestore.transactional
        def claim(transaction: firestore.Transaction) -> None:
            found = reference.get(transaction=transaction)
            assert found.get("status") == "scheduled"
            transaction.update(
                reference,
                {"status": "leased", "attempts": found.get("attempts") + 1, "leasedAt": firestore.SERVER_TIMESTAMP},
            )

        transaction = self.client.transaction()
        claim(transaction)
        version = transaction.write_results[0].update_time
        option = self.client.write_option(last_update_time=version)
        reference.update({"status": "completed", "done": firestore.SERVER_TIMESTAMP}, option=option)


class Raw:
    """
    The same with plain messages over the public generated client; the claim writes without a read.
    """

    name = "b: raw messages by hand"

    def __init__(self, client: firestore.Client) -> None:
        self.api: FirestoreClient = client._firestore_api
        self.database = client._database_string
        self.metadata = list(client._rpc_metadata)
        self.request, self.write = CommitRequest.pb(), Write.pb()

    def _commit(self, write: Any) -> Any:
        request = self.request(database=self.database, writes=[write])
        wrapped = CommitRequest.wrap(request)
        response = self.api.commit(request=wrapped, metadata=self.metadata, timeout=10)
        return type(response).pb(response).write_results[0]

    def run(self, id_: str) -> None:
        name = f"{self.database}/documents/bench_b/{id_}"
        create = self.write()
        create.update.name = name
        create.current_document.exists = False
        fields = create.update.fields
        for key, value in TASK.items():
            if isinstance(value, int):
                fields[key].integer_value = value
            else:
                fields[key].string_value = value
        fields["status"].string_value = "scheduled"
        fields["attempts"].integer_value = 0
        version = self._commit(create).update_time
        version = self._change(name, version, "leased", "leasedAt", attempts=1)
        self._change(name, version, "completed", "done")

    def _change(self, name: str, version: Timestamp, status: str, stamp: str, attempts: int | None = None) -> Timestamp:
        write = self.write()
        write.update.name = name
        write.current_document.update_time.CopyFrom(version)
        write.update.fields["status"].string_value = status
        write.update_mask.field_paths.append("status")
        if attempts is not None:
            write.update.fields["attempts"].integer_value = attempts
            write.update_mask.field_paths.append("attempts")
        write.update_transforms.add(field_path=stamp, set_to_server_value=1)
        return self._commit(write).update_time


class Stubs(Raw):
    """
    The same on a bare stub of gRPC, without any client library.
    """

    name = "s: bare stubs by hand"

    def __init__(self, client: firestore.Client) -> None:
        super().__init__(client)
        channel = self.api.transport.grpc_channel
        self._call = channel.unary_unary(
            "/google.firestore.v1.Firestore/Commit",
            request_serializer=self.request.SerializeToString,
            response_deserializer=CommitResponse.pb().FromString,
        )

    def _commit(self, write: Any) -> Any:
        request = self.request(database=self.database, writes=[write])
        return self._call(request, timeout=10, metadata=self.metadata).write_results[0]


class BenchOrder(LockedModel, collection="bench_c"):
    kind: str
    order: str
    amount: int
    email: str


class _Captured:
    """
    Replaces Cloud Tasks, which the other variants do not call either: keeps the pushes.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def create(self, push: Any) -> bool:
        self.bodies[push.url.split("bench_c%2F")[1].split("&")[0]] = push.body
        return True


class Library:
    """
    The library: schedule(), then the delivery of its task.
    """

    name = "c: gcp-oncetask"
    coalesce = False

    def __init__(self, client: firestore.Client) -> None:
        config = Config(
            project=client.project, location="l", verify="off", base_url="https://bench.test", coalesce=self.coalesce
        )
        self.locker = Locker(client, config=config)
        self.tasks = _Captured()
        self.locker._runtime.tasks = self.tasks
        self.locker._runtime.trail_to(Nowhere())
        self.spec = HandlerSpec(Entities(BenchOrder), _handle, Policy(), None, renew=True)

    def run(self, id_: str) -> None:
        self.locker.schedule(BenchOrder(id=id_, **TASK), "/task")
        body = self.tasks.bodies.pop(id_)
        delivery = parse(self.locker._runtime, body)
        assert isinstance(delivery, Delivery), delivery
        ended = execute(self.locker._executor, self.spec, delivery, TaskHeaders(), None, {})
        assert ended.outcome is Outcome.COMPLETED, ended


class Shared(Library):
    """
    The library, whose threads share calls.
    """

    name = "d: gcp-oncetask, shared calls"
    coalesce = True


def _handle(order: BenchOrder, attempt: Attempt) -> None:
    assert order.amount == 1999
    assert attempt.number == 1


class Nowhere(io.StringIO):
    """
    A stream that drops the evidence trail of the tasks.
    """

    def write(self, text: str) -> int:
        return len(text)


NUMBERS = itertools.count()
VARIANTS = (Idiom, Raw, Stubs, Library, Shared)
__all__ = ["NUMBERS", "VARIANTS", "Idiom", "Library", "Nowhere", "Raw", "Shared", "Stubs", "Variant"]

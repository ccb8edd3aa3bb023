"""
Measure the CPU time that the library adds to one push request, over a bare Flask view that reads the request and answers.

The target is for the work without I/O: header checks, JSON, lookup, the answer. It is measured with a delivery that is
answered without a call. Shown beside it are the whole push, claimed, run and settled with a Firestore that answers at once,
and a view that makes the same two writes by hand with plain messages.
"""

from __future__ import annotations

import functools
import json
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from google.cloud.firestore_v1.types import CommitResponse
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.variants import BenchOrder, Library, Raw
from gcp_emulator.channel import InProcessChannel, firestore_client
from gcp_emulator.clock import SystemClock as EmulatorClock
from gcp_emulator.firestore import FirestoreServer
from gcp_emulator.oidc import OidcIssuer
from gcp_oncetask.clock import SystemClock
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.services.identity import Identity, Verifier

_Response = CommitResponse.pb()
ROUNDS = 7


class _ByHand(Raw):
    """
    The writes of variant b, straight through the channel.
    """

    def __init__(self, client: Any, commit: Callable[..., Any], metadata: Any) -> None:
        super().__init__(client)
        self._call, self._sent = commit, metadata

    def _commit(self, write: Any) -> Any:
        request = self.request(database=self.database, writes=[write])
        return self._call(request, timeout=10, metadata=self._sent).write_results[0]

    def push(self, id_: str) -> None:
        """
        Claim and complete the document.
        """
        name = f"{self.database}/documents/bench_b/{id_}"
        version = self._change(name, Timestamp(seconds=1), "leased", "leasedAt", attempts=1)
        self._change(name, version, "completed", "done")


def measure(requests: int = 400) -> dict[str, float]:
    """
    Return milliseconds of CPU: of a bare view; over that, of the library without I/O, of a whole push, of its two writes by
    hand; and of the verification of a token, which is not included in the others. Each of seven rounds makes so many
    *requests* of each sort.
    """
    # A delivery of another environment is logged as an error, and logging is I/O.
    logging.getLogger("gcp_oncetask").setLevel(logging.CRITICAL)
    app = Flask(__name__)
    body = _prepare(app)
    elsewhere = json.dumps({**json.loads(body), "env": "ELSEWHERE"}).encode()
    client = app.test_client()
    headers = {"X-CloudTasks-TaskRetryCount": "0"}
    calls = [
        functools.partial(client.post, path, data=data, headers=headers)
        for path, data in (("/bare", body), ("/task", elsewhere), ("/task", body), ("/by-hand", body))
    ]
    assert [json.loads(call().data)["outcome"] for call in calls] == ["completed", "foreign", "completed", "completed"]
    rounds = [[_once(call, requests) for call in calls] for _ in range(ROUNDS)]
    bare, *more = (statistics.median(times) for times in zip(*rounds, strict=True))
    share, whole, by_hand = (time - bare for time in more)
    return {
        "bare_ms": bare,
        "share_ms": share,
        "whole_ms": whole,
        "by_hand_ms": by_hand,
        "verification_ms": _verification(requests),
    }


def _prepare(app: Flask) -> bytes:
    library = Library(firestore_client(InProcessChannel([FirestoreServer().service]), "bench"))
    library.locker.schedule(
        BenchOrder(id="1", kind="charge", order="42", amount=1999, email="ann@example.com"), "/task"
    )
    wire: Any = library.locker._runtime.wire
    calls = wire._open()
    answers = {transforms: _answer(transforms) for transforms in range(3)}

    class Instant:
        """
        A channel whose calls answer at once.
        """

        forks, client, prefix, database, metadata = (
            calls.forks,
            calls.client,
            calls.prefix,
            calls.database,
            calls.metadata,
        )

        @staticmethod
        def commit(request: Any, timeout: float, metadata: Any) -> Any:
            request.SerializeToString()
            return answers[len(request.writes[0].update_transforms) if request.writes else 0]

    wire._calls = Instant

    @app.post("/bare")
    def bare() -> Any:
        from flask import request

        request.get_data()
        return {"outcome": "completed", "reason": "x"}, 200

    by_hand = _ByHand(library.locker.client, Instant.commit, Instant.metadata)

    @app.post("/by-hand")
    def writes() -> Any:
        from flask import request

        request.get_data()
        by_hand.push("1")
        return {"outcome": "completed", "reason": "x"}, 200

    @app.post("/task")
    @locked_handler(library.locker, BenchOrder)
    def task(order: BenchOrder, attempt: Any) -> None:
        return None

    return library.tasks.bodies["1"]


def _answer(transforms: int) -> Any:
    response = _Response()
    response.commit_time.GetCurrentTime()
    result = response.write_results.add()
    result.update_time.GetCurrentTime()
    for _ in range(transforms):
        result.transform_results.add().timestamp_value.GetCurrentTime()
    return response


def _verification(requests: int) -> float:
    issuer = OidcIssuer(EmulatorClock())
    issuer.start()
    try:
        verifier = Verifier(
            mode="token", audiences=("https://x",), callers=("a@b",), certs_url=issuer.certs_url, clock=SystemClock()
        )
        # A token per request, as Cloud Tasks makes one per dispatch.
        headers = iter([f"Bearer {issuer.token('https://x', 'a@b')}" for _ in range(requests * ROUNDS)])
        assert isinstance(verifier.check(f"Bearer {issuer.token('https://x', 'a@b')}"), Identity)
        return statistics.median(_once(lambda: verifier.check(next(headers)), requests) for _ in range(ROUNDS))
    finally:
        issuer.stop()


def _once(call: Callable[[], Any], requests: int) -> float:
    start = time.process_time()
    for _ in range(requests):
        call()
    return (time.process_time() - start) * 1000 / requests

"""
What the library adds to one push request: CPU of the view over a bare Flask view, with a Firestore that answers at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from google.cloud.firestore_v1.types import CommitResponse

from benchmarks.variants import BenchOrder, Library
from gcp_emulator.clock import SystemClock as EmulatorClock
from gcp_emulator.oidc import OidcIssuer
from gcp_oncetask.clock import SystemClock
from gcp_oncetask.flask import locked_handler
from gcp_oncetask.identity import Identity, Verifier

_Response = CommitResponse.pb()
ROUNDS = 7
REQUESTS = 400


def measure() -> dict[str, float]:
    """
    Milliseconds of CPU: the library's share of one push without and with verification of its token, bare Flask for scale.
    """
    logging.getLogger("gcp_oncetask").setLevel(logging.WARNING)
    app = Flask(__name__)
    body = _prepare(app)
    client = app.test_client()
    headers = {"X-CloudTasks-TaskRetryCount": "0"}
    bare = _cpu(lambda: client.post("/bare", data=body, headers=headers))
    full = _cpu(lambda: client.post("/task", data=body, headers=headers))
    return {"bare_flask_ms": bare, "library_ms": full - bare, "verification_ms": _verification()}


def _prepare(app: Flask) -> bytes:
    import os

    from google.cloud.firestore import Client

    os.environ["FIRESTORE_EMULATOR_HOST"] = "127.0.0.1:1"
    try:
        library = Library(Client(project="bench"))
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]
    wire: Any = library.locker.engine.wire
    calls = wire._open()
    answers = {0: _answer(0), 2: _answer(2)}

    class Instant:
        """
        The channel's callables, answering at once.
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
    library.locker.schedule(
        BenchOrder(id="1", kind="charge", order="42", amount=1999, email="ann@example.com"), "/task"
    )

    @app.post("/bare")
    def bare() -> Any:
        from flask import request

        request.get_data()
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


def _verification() -> float:
    issuer = OidcIssuer(EmulatorClock())
    issuer.start()
    try:
        verifier = Verifier(
            mode="token", audiences=("https://x",), callers=("a@b",), certs_url=issuer.certs_url, clock=SystemClock()
        )
        # A token per request, as Cloud Tasks makes one per dispatch.
        headers = iter([f"Bearer {issuer.token('https://x', 'a@b')}" for _ in range(REQUESTS * ROUNDS)])
        assert isinstance(verifier.check(f"Bearer {issuer.token('https://x', 'a@b')}"), Identity)
        return _cpu(lambda: verifier.check(next(headers)))
    finally:
        issuer.stop()


def _cpu(call: Callable[[], Any]) -> float:
    best = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(REQUESTS):
            call()
        best.append((time.process_time() - start) * 1000 / REQUESTS)
    return sorted(best)[ROUNDS // 2]

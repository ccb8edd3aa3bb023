"""
A stand-in for Firestore that answers at once: it stores nothing and refuses nothing, so that only the client's work is measured.

``python -m benchmarks.instant`` serves it in a process of its own, prints its address, and ends when its input is closed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from gcp_emulator.faults import Faults
from gcp_emulator.firestore import messages as m
from gcp_emulator.port import Port
from gcp_emulator.rpc import Method, RpcError, Service

SCHEDULED = "/bench_a/"
"""Part of the names of the documents that a read finds, as they are after their creation; all others are missing."""


def service() -> Service:
    """
    Return the service: the calls that the variants of ``benchmarks.variants`` make.
    """
    methods = {
        "GetDocument": Method(_get, m.GetDocumentRequest, m.Document),
        "BatchGetDocuments": Method(_batch_get, m.BatchGetDocumentsRequest, m.BatchGetDocumentsResponse, stream=True),
        "BeginTransaction": Method(_begin, m.BeginTransactionRequest, m.BeginTransactionResponse),
        "Commit": Method(_commit, m.CommitRequest, m.CommitResponse),
        "BatchWrite": Method(_batch_write, m.BatchWriteRequest, m.BatchWriteResponse),
    }
    return Service("google.firestore.v1.Firestore", methods, Faults())


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now


def _get(request: Any) -> Any:
    raise RpcError(grpc.StatusCode.NOT_FOUND, request.name)


def _batch_get(request: Any) -> Iterator[Any]:
    now = _now()
    for name in request.documents:
        answer = m.BatchGetDocumentsResponse(read_time=now)
        if SCHEDULED in name:
            answer.found.name = name
            answer.found.create_time.CopyFrom(now)
            answer.found.update_time.CopyFrom(now)
            answer.found.fields["status"].string_value = "scheduled"
            answer.found.fields["attempts"].integer_value = 0
        else:
            answer.missing = name
        yield answer


def _begin(_: Any) -> Any:
    return m.BeginTransactionResponse(transaction=b"t")


def _commit(request: Any) -> Any:
    response = m.CommitResponse(commit_time=_now())
    _results(response, request.writes)
    return response


def _batch_write(request: Any) -> Any:
    response = m.BatchWriteResponse()
    _results(response, request.writes)
    for _ in request.writes:
        response.status.add()
    return response


def _results(response: Any, writes: Any) -> None:
    now = _now()
    for write in writes:
        result = response.write_results.add(update_time=now)
        for _ in write.update_transforms:
            result.transform_results.add(timestamp_value=now)


@contextmanager
def instant_firestore() -> Iterator[str]:
    """
    Serve it in a process of its own; yields its address.
    """
    command = [sys.executable, "-m", "benchmarks.instant"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)


def main() -> int:
    port = Port([service()])
    print(port.start(), flush=True)
    sys.stdin.read()
    port.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
Cloud Functions in a process of their own, and the CloudEvents that Eventarc would send them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from google.cloud.firestore import Client
from google.cloud.firestore_v1.types import GetDocumentRequest
from google.events.cloud.firestore import DocumentEventData

from gcp_emulator.ports import free_port
from tests.support.patience import patient

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """
    Different ones.
    """
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


@contextmanager
def serving(
    target: str, environment: Mapping[str, str], *, source: Path = ROOT / "functions" / "main.py", port: int = 0
) -> Iterator[str]:
    """
    One function under functions-framework, as Cloud Run serves it; yields its URL.
    """
    port = port or free_port()
    signature = "cloudevent" if target == "dispatch" else "http"
    command = [sys.executable, "-m", "functions_framework", "--source", str(source), "--target", target]
    command += ["--signature-type", signature, "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _await(port, process, output)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(patient(30))


def _await(port: int, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, os.pread(output.fileno(), 65_536, 0).decode()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the function does not listen"
            time.sleep(0.05)


def post(url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """
    Status and text of the answer.
    """
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=patient(60)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def stored(client: Client, path: str) -> bytes | None:
    """
    The document as it is stored: a serialized ``google.firestore.v1.Document``; None if there is none.
    """
    from google.api_core.exceptions import NotFound

    api: Any = client._firestore_api
    try:
        found = api.get_document(GetDocumentRequest(name=client.document(path)._document_path))
    except NotFound:
        return None
    return bytes(type(found).serialize(found))


def send_written(
    url: str, client: Client, path: str, *, before: bytes | None = None, after: bytes | None = None, id_: str = "1"
) -> tuple[int, str]:
    """
    Send the CloudEvent of a write to a function, in the binary mode and with the attributes of Eventarc.
    """
    event = DocumentEventData.pb(DocumentEventData())
    # The event's documents have the form of the API's.
    if before is not None:
        event.old_value.ParseFromString(before)
    if after is not None:
        event.value.ParseFromString(after)
    database = client._database
    headers = {
        "Content-Type": "application/protobuf",
        "ce-specversion": "1.0",
        "ce-id": id_,
        "ce-type": "google.cloud.firestore.document.v1.written",
        "ce-source": f"//firestore.googleapis.com/projects/{client.project}/databases/{database}",
        "ce-subject": f"documents/{path}",
        "ce-time": "2026-01-01T00:00:00.000000Z",
        "ce-dataschema": "https://googleapis.github.io/google-cloudevents/schemas/google/events/cloud/firestore.proto",
        "ce-project": client.project,
        "ce-location": "us-central1",
        "ce-database": database,
        "ce-namespace": "(default)",
        "ce-document": path,
    }
    return post(url, event.SerializeToString(), headers)


def as_json(text: str) -> Any:
    """
    The answer's JSON.
    """
    return json.loads(text)

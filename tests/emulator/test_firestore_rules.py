"""
``firestore.rules`` as Google's emulator enforces them, for clients of the web and mobile SDKs.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import Client

from gcp_emulator.firestore import GoogleFirestore
from gcp_emulator.firestore.google import find
from tests.support.patience import patient

ROOT = Path(__file__).parents[2]
PROJECT = "demo-local"
PLACE = "    // Your collections:\n"
LOCK = {"mapValue": {"fields": {"status": {"stringValue": "completed"}}}}
pytestmark = [pytest.mark.google, pytest.mark.skipif(find() is None, reason="Google's emulator is not installed")]


def pattern() -> str:
    """
    The documented rules for a collection of the user's.
    """
    [found] = re.findall(
        r"```text\n(match /orders/.*?)```", (ROOT / "docs" / "how-to" / "functions.md").read_text(), re.DOTALL
    )
    return str(found)


class Rest:
    """
    Firestore's REST interface, as the SDKs of browsers and phones are subject to it.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def call(self, method: str, path: str, fields: Any = None, *, user: str | None = None, query: str = "") -> int:
        """
        Status of one request, by *user* or by nobody.
        """
        url = f"http://{self.address}/v1/projects/{PROJECT}/databases/(default)/documents/{path}{query}"
        body = None if fields is None else json.dumps({"fields": fields}).encode()
        request = urllib.request.Request(url, data=body, method=method)
        if user is not None:
            request.add_header("Authorization", f"Bearer {token(user)}")
        try:
            with urllib.request.urlopen(request, timeout=patient(30)) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def token(user: str) -> str:
    """
    What the emulator takes for a signed-in user: an identity token without a signature.
    """
    claims = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": user,
        "user_id": user,
        "iat": 0,
        "exp": 4102444800,
        "auth_time": 0,
        "firebase": {"sign_in_provider": "password", "identities": {}},
    }
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), ""])


@pytest.fixture(scope="module")
def firestore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleFirestore]:
    """
    The emulator with the project's rules and the documented pattern in them.
    """
    rules = (ROOT / "firestore.rules").read_text()
    assert PLACE in rules
    path = tmp_path_factory.mktemp("rules") / "firestore.rules"
    path.write_text(rules.replace(PLACE, PLACE + pattern()))
    server = GoogleFirestore(memory="256m", rules=path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def rest(firestore: GoogleFirestore) -> Rest:
    """
    The interface, on documents that the library has written.
    """
    firestore.wipe(PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore.address)
        owner = Client(project=PROJECT, credentials=AnonymousCredentials())
        for path in ("onceTasks/1", "onceTasks/1/deep/1", "onceLocks/1", "onceSessions/1", "onceJournals/1"):
            owner.document(path).set({"env": "E", "lock": {"status": "scheduled"}})
        owner.document("orders/locked").set({"amount": 1, "owner": "ann", "lock": {"status": "scheduled", "token": 1}})
        owner.document("orders/plain").set({"amount": 1, "owner": "ann"})
    return Rest(firestore.address)


@pytest.mark.parametrize("user", [None, "ann"])
@pytest.mark.parametrize(
    "path",
    [
        "onceTasks/1",
        "onceTasks/new",
        "onceTasks/1/deep/1",
        "onceLocks/1",
        "onceLocks/new",
        "onceSessions/1",
        "onceJournals/1",
    ],
)
def test_library_collections_are_closed(rest: Rest, path: str, user: str | None) -> None:
    """
    Nobody reads, creates, changes or deletes there, signed in or not.
    """
    said = [
        rest.call("GET", path, user=user),
        rest.call("PATCH", path, {"env": {"stringValue": "X"}}, user=user),
        rest.call("DELETE", path, user=user),
        rest.call("GET", path.rpartition("/")[0], user=user),
    ]

    assert said == [403, 403, 403, 403]


def test_rules_let_the_owner_of_a_document_work(rest: Rest) -> None:
    """
    The pattern forbids no more than it must: the user's fields are read, created, changed and deleted by their owner.
    """
    fields = {"amount": {"integerValue": "5"}, "owner": {"stringValue": "ann"}}

    assert rest.call("GET", "orders/locked", user="ann") == 200
    assert rest.call("PATCH", "orders/new", fields, user="ann") == 200
    assert rest.call("PATCH", "orders/locked", fields, user="ann", query="?updateMask.fieldPaths=amount") == 200
    assert rest.call("DELETE", "orders/plain", user="ann") == 200
    assert rest.call("GET", "orders/locked", user="bob") == 403
    assert rest.call("GET", "orders/locked") == 403


@pytest.mark.parametrize(
    ("method", "path", "fields", "query"),
    [
        pytest.param("PATCH", "orders/new", {"lock": LOCK}, "", id="created with a lock"),
        pytest.param("PATCH", "orders/plain", {"lock": LOCK}, "?updateMask.fieldPaths=lock", id="given a lock"),
        pytest.param("PATCH", "orders/locked", {"lock": LOCK}, "?updateMask.fieldPaths=lock", id="lock replaced"),
        pytest.param(
            "PATCH", "orders/locked", {"lock": LOCK}, "?updateMask.fieldPaths=lock.status", id="a field of it changed"
        ),
        pytest.param("PATCH", "orders/locked", {}, "?updateMask.fieldPaths=lock.token", id="a field of it deleted"),
        pytest.param("PATCH", "orders/locked", {}, "?updateMask.fieldPaths=lock", id="lock deleted"),
        pytest.param("PATCH", "orders/locked", {}, "", id="set without merge"),
        pytest.param("DELETE", "orders/locked", None, "", id="document deleted"),
    ],
)
def test_lock_of_a_users_document_is_closed(
    rest: Rest, method: str, path: str, fields: dict[str, Any] | None, query: str
) -> None:
    """
    Even the owner can't set, change or delete it.
    """
    if fields is not None:
        fields = {**fields, "owner": {"stringValue": "ann"}}
        if query:
            query += "&updateMask.fieldPaths=owner"
    before = rest.call("GET", path, user="ann")

    assert rest.call(method, path, fields, user="ann", query=query) == 403
    assert rest.call("GET", path, user="ann") == before

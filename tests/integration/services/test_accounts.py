"""
The account of a program's credentials, by real files and real HTTP.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import credentials

from gcp_oncetask.services import identity
from gcp_oncetask.services.identity import account


class Google:
    """
    Google's token server: it refreshes tokens, and tells about them.

    Attributes:
        told: Its answer about a token: status and body.
        asked: Paths and fields of the requests.
    """

    def __init__(self) -> None:
        self.told: tuple[int, Any] = (200, {"email": "ann@example.com", "email_verified": "true"})
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                google.asked.append((self.path, fields))
                status, body = (
                    (200, {"access_token": "t-1", "expires_in": 3600}) if self.path == "/token" else google.told
                )
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    made = Google()
    monkeypatch.setattr(identity, "_ABOUT_TOKENS", f"{made.url}/tokeninfo")
    monkeypatch.setattr(credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{made.url}/token")
    yield made
    made.server.shutdown()
    made.server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, facts: dict[str, str]) -> None:
    """
    Let these be the credentials.
    """
    file = folder / "credentials.json"
    file.write_text(json.dumps(facts))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))


PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


def test_service_account_is_known_by_its_key(google: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    name = "ops@demo-local.iam.gserviceaccount.com"
    facts = {"type": "service_account", "client_email": name, "private_key": pem, "token_uri": f"{google.url}/token"}
    use(monkeypatch, tmp_path, facts)
    assert account() == name
    assert google.asked == []


def test_person_is_named_by_google_and_the_token_is_in_no_address(
    google: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, tmp_path, PERSON)
    assert account() == "ann@example.com"
    assert [path for path, _ in google.asked] == ["/token", "/tokeninfo"]
    assert google.asked[1][1] == {"access_token": ["t-1"]}


@pytest.mark.parametrize(
    "told",
    [
        (200, {"email": "ann@example.com", "email_verified": "false"}),
        (200, {"email": "ann@example.com"}),
        (200, {"azp": "c"}),
        (200, {"email": "", "email_verified": "true"}),
        (400, {"error": "invalid_token"}),
        (500, {"email": "ann@example.com", "email_verified": "true"}),
    ],
)
def test_person_without_a_verified_name_is_not_known(
    google: Google, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: tuple[int, Any]
) -> None:
    google.told = told
    use(monkeypatch, tmp_path, PERSON)
    assert account() is None


def test_without_credentials_there_is_no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert account() is None
    use(monkeypatch, tmp_path, {"type": "odd"})
    assert account() is None

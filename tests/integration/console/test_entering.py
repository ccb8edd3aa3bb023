"""
Who enters the console: the proxy's people, service accounts, on the local cloud everybody; and with which rights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from gcp_oncetask import Locker
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.tasks import TaskManager
from tests.integration.services.test_proxy_identity import NAMES, bad_tokens
from tests.support.console_app import BASE, ORIGIN, OURS, VIEWER, Browser, Parcel, app_of, get, register

PAGES = (
    "/",
    "/list",
    "/task?path=x/y",
    "/timeline?path=x/y",
    "/act?path=x/y&verb=run",
    "/many?verb=reset",
    "/acts",
    "/schedules",
    "/workers",
    "/queues",
    "/static/0/console.css",
)
ROBOT = "ops@demo-local.iam.gserviceaccount.com"


def started(environ: dict[str, str], secret: str) -> subprocess.CompletedProcess[str]:
    """
    A Cloud Run service whose module makes the console.
    """
    code = (
        "from flask import Flask; from gcp_oncetask import Locker; from gcp_oncetask.tasks import TaskManager; "
        "from gcp_oncetask.console import console; app = Flask('a'); "
        f"app.secret_key = {secret!r} or None; app.register_blueprint(console(TaskManager(Locker()))); print('started')"
    )
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("ONCE", "GOOGLE", "FIRESTORE"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=quiet | environ, capture_output=True, text=True, check=False
    )


def test_op_41_console_does_not_start_half_configured() -> None:
    """
    A server without proxy and accounts ends with a ConfigError that names the settings; with them and a secret it starts.
    """
    bare = {"K_SERVICE": "console", "GOOGLE_CLOUD_PROJECT": "p"}
    full = bare | {
        "ONCETASK_CONSOLE_AUDIENCE": "/projects/1/locations/r/services/console",
        "ONCETASK_CONSOLE_OPERATORS": "ann@example.com",
        "ONCETASK_CONSOLE_ORIGIN": "https://console.test",
    }
    done = started(bare, "x")
    assert done.returncode == 1
    assert "ConfigError" in done.stderr
    for name in ("ONCETASK_CONSOLE_AUDIENCE", "ONCETASK_CONSOLE_OPERATORS", "ONCETASK_CONSOLE_ORIGIN"):
        assert name in done.stderr
    assert started(full, "x").stdout == "started\n"
    # The local cloud's address does not open a service.
    assert started(bare | {"FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"}, "x").returncode == 1


def test_op_48_start_without_a_secret_is_refused() -> None:
    """
    A random key for each process would refuse the forms of the other instances.
    """
    full = {
        "K_SERVICE": "console",
        "GOOGLE_CLOUD_PROJECT": "p",
        "ONCETASK_CONSOLE_AUDIENCE": "/projects/1/locations/r/services/console",
        "ONCETASK_CONSOLE_OPERATORS": "ann@example.com",
        "ONCETASK_CONSOLE_ORIGIN": "https://console.test",
    }
    done = started(full, "")
    assert done.returncode == 1
    assert "secret_key" in done.stderr


def test_op_41_local_cloud_is_open_and_says_so(loopback: Any, make_manager: Any) -> None:
    """
    Without any setting the console opens on the local cloud, for loopback hosts alone, and its bar says LOCAL.
    """
    manager = make_manager(firestore_emulator=loopback.environment()["FIRESTORE_EMULATOR_HOST"])
    client = app_of(manager, secret=None).test_client()

    answer = get(client, "/")
    assert answer.status_code == 200
    assert "<strong>LOCAL</strong>" in answer.text
    assert "(unproven)" in answer.text
    assert get(client, "/", headers={"Host": "rebound.example"}).status_code == 403


def test_op_41_proxy_closes_the_local_cloud_too(open_desk: Any) -> None:
    """
    Where a proxy is configured, it counts on the local cloud as well.
    """
    desk = open_desk(firestore_emulator="127.0.0.1:1")
    assert get(desk.browser(None), "/").status_code == 403
    assert get(desk.browser(), "/").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_op_42_each_page_is_closed_to_a_bad_token(desk: Any, name: str) -> None:
    """
    Each page answers 403 without a word of the task, whatever is wrong with the proxy's token.
    """
    desk.manager.create_task(Parcel(number="1", note="hidden words"))
    token = bad_tokens(desk.issuer.proxy, desk.issuer.proxy._clock.micros() // 1_000_000)[name]
    headers = {} if token is None else {"x-goog-iap-jwt-assertion": token}
    # Only the unsigned header of the proxy counts for nothing.
    headers |= {"x-goog-authenticated-user-email": "accounts.google.com:ann@example.com"}
    client = desk.browser(None)

    path = TaskName("DEFAULT", "parcel", "1").path
    for page in (*PAGES, f"/task?path={path}"):
        answer = get(client, page, headers=headers)
        assert answer.status_code == 403
        assert answer.text == "Refused. The log of this service says why.\n"
    assert client.post(f"{BASE}/contents", data={"path": path}, headers=headers | OURS).status_code == 403
    assert desk.issuer.fetches <= 1


def test_op_43_pages_without_keys_can_not_tell(desk: Any) -> None:
    """
    With cached keys pages are served while the key file is away; without any key the answer is 503, not 403.
    """
    assert get(desk.browser(), "/").status_code == 200
    desk.issuer.fail(None)
    desk.cloud.advance(hours=2)
    assert get(desk.browser(), "/").status_code == 200

    other = TaskManager(Locker(config=desk.manager.locker.config))
    desk.cloud.use(other.locker)
    client = Browser(app_of(other))
    client.environ_base.update(desk.browser().environ_base)
    answer = get(client, "/")
    assert answer.status_code == 503
    assert "log" in answer.text


def test_op_44_viewer_sees_no_contents(desk: Any) -> None:
    """
    A viewer's POST by hand is refused, even with a token of its own name; nothing is shown.
    """
    desk.manager.create_task(Parcel(number="1", note="hidden words"))
    path = TaskName("DEFAULT", "parcel", "1").path
    viewer = desk.browser(VIEWER)
    page = get(viewer, "/task", query_string={"path": path})
    assert page.status_code == 200
    assert "An operator may see them." in page.text
    assert "hidden words" not in page.text
    assert "hidden words" not in get(desk.browser(), "/task", query_string={"path": path}).text

    from gcp_oncetask.console.access import Role, Visitor
    from gcp_oncetask.console.signing import Forms
    from tests.support.console_app import SECRET

    forged = Forms([SECRET], desk.manager.locker._runtime.clock).token(
        Visitor(VIEWER, True, Role.VIEWER), "contents", path
    )
    answer = viewer.post(f"{BASE}/contents", data={"path": path, "token": forged}, headers=OURS)
    assert answer.status_code == 403
    assert "hidden words" not in answer.text


@pytest.mark.parametrize(
    ("email", "claims", "role"),
    [
        ("ann@example.com", {}, "operator"),
        ("ANN@Example.com", {}, "operator"),
        ("val@example.com", {}, "viewer"),
        ("bob@example.com", {"hd": "example.com"}, "viewer"),
        ("both@example.com", {"hd": "example.com"}, "operator"),
        ("bob@example.com", {}, None),
        ("bob@example.com", {"hd": "example.com.evil.test"}, None),
        ("eve@evil.test", {}, None),
    ],
)
def test_op_44_stronger_role_wins(open_desk: Any, email: str, claims: dict[str, str], role: str | None) -> None:
    """
    An account in both lists is an operator; a domain counts by the token's claim alone, not by the account's text.
    """
    desk = open_desk(console_operators=("ann@example.com", "both@example.com"))
    answer = get(desk.browser(email, **claims), "/")

    assert answer.status_code == (403 if role is None else 200)
    assert role is None or f", {role}" in answer.text


def test_service_account_enters_with_an_identity_token(open_desk: Any) -> None:
    """
    A token for the console's origin opens; one for another audience, or of another account, does not.
    """
    desk = open_desk(console_viewers=(ROBOT,), oidc_certs_url=None)
    desk = open_desk(console_viewers=(ROBOT,), oidc_certs_url=desk.issuer.certs_url)
    client = desk.browser(None)
    for audience, account, status in (
        (ORIGIN, ROBOT, 200),
        ("https://tasks.test", ROBOT, 403),
        (ORIGIN, "x@demo-local.iam.gserviceaccount.com", 403),
    ):
        header = {"Authorization": f"Bearer {desk.issuer.token(audience, account)}"}
        assert get(client, "/", headers=header).status_code == status


def test_proxy_on_a_service_with_deliveries_is_refused(open_desk: Any) -> None:
    """
    A proxy on the Cloud Run service itself would stop Cloud Tasks, so the console does not work beside deliveries.
    """
    audience = "/projects/123/locations/europe-west1/services/orders"
    desk = open_desk(console_audience=audience)
    assert get(desk.browser(), "/").status_code == 503

    manager = TaskManager(Locker(config=desk.manager.locker.config))
    register(manager)
    desk.cloud.use(manager.locker)
    client = Browser(app_of(manager, deliveries=False))
    token = desk.issuer.proxy.token(audience, "ann@example.com")
    assert get(client, "/", headers={"x-goog-iap-jwt-assertion": token}).status_code == 200


def test_answers_have_the_headers(desk: Any) -> None:
    """
    Pages are not stored and run no foreign code; static files are stored; the application's own pages keep their headers.
    """
    desk.app.add_url_rule("/own", "own", lambda: "mine")
    client = desk.browser()
    page = get(client, "/")
    policy = page.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "Content-Security-Policy" not in client.get("/own").headers
    [css] = [part.split('"')[0] for part in page.text.split('href="') if part.split('"')[0].endswith(".css")]
    file = client.get(css)
    assert file.status_code == 200
    assert "immutable" in file.headers["Cache-Control"]
    assert client.get(css.replace("console.css", "other")).status_code == 404
    for sign in ("<script>", "style=", "onclick", "javascript:"):
        assert sign not in page.text

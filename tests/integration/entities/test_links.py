"""
Links by which people answer durable handlers, over real HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from html import unescape
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import requests
from flask import Flask
from pydantic import BaseModel
from werkzeug.serving import make_server

from gcp_oncetask import (
    CancelledByRequest,
    Config,
    ConfigError,
    EventTimeoutError,
    LockedModel,
    Locker,
    Status,
    UsageError,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.rules import link_tokens
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.console_app import AUDIENCE
from tests.support.durable import SECOND
from tests.support.patience import patient
from tests.support.tasks import Latest, Service, Work

NEW, OLD = "new-key-" + "n" * 32, "old-key-" + "o" * 32


class Approval(BaseModel):
    """
    A payload.
    """

    yes: bool


class Site:
    """
    A deployment whose pages are served on a loopback port.
    """

    def __init__(self, cloud: OncetaskCloud, **config: Any) -> None:
        self.links: dict[str, str] = {}
        self.life = timedelta(days=7)
        self.timeout = timedelta(days=3)
        self.options: dict[str, Any] = {}
        self.asks: Callable[[Any], None] = lambda attempt: None
        self.service = Service(cloud, link_keys=(NEW,), **config).handle(retry=SECOND)
        self.service.act = self.act
        self.cloud = cloud

    def act(self, task: Any, attempt: Any) -> str:
        for label in ("Yes", "No"):
            asked = {"text": "Refund order 42?", "label": label, "for_": "ann@example.com", **self.options}
            self.links[label] = attempt.link("approval", Approval(yes=label == "Yes"), expires=self.life, **asked)
        self.asks(attempt)
        try:
            return "refunded" if attempt.wait_event("approval", Approval, timeout=self.timeout).yes else "kept"
        except EventTimeoutError:
            return "nobody"

    def start(self) -> Site:
        self.service.create("a")
        self.cloud.run_until_idle()
        return self

    def get(self, label: str = "Yes") -> SimpleNamespace:
        return self.ask("GET", self.links[label])

    def post(self, label: str = "Yes", **headers: str) -> SimpleNamespace:
        return self.ask("POST", self.links[label], **headers)

    def ask(self, method: str, url: str, app: Flask | None = None, **headers: str) -> SimpleNamespace:
        """
        Send a request to the path and query of *url* at a real server.
        """
        with served(app or self.service.app) as origin:
            path = url.removeprefix("https://tasks.test")
            answer = requests.request(method, origin + path, headers=headers, timeout=patient(10))
        return SimpleNamespace(
            status=answer.status_code, text=unescape(answer.text), raw=answer.text, headers=answer.headers
        )

    @property
    def result(self) -> Any:
        self.cloud.run_until_idle()
        return self.service.lock("a").result

    @property
    def events(self) -> int:
        return len(self.service.lock("a").received) // 12


@contextmanager
def served(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def site(oncetask_cloud: OncetaskCloud) -> Site:
    """
    A task that waits for an answer.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    return Site(oncetask_cloud)


def test_a_page_asks_before_it_sends(site: Site) -> None:
    site.start()
    before = site.service.lock("a")
    for method in ("GET", "HEAD", "GET"):
        page = site.ask(method, site.links["Yes"])
        assert page.status == 200
    assert "<h1>Refund order 42?</h1>" in page.text
    assert '<form method="post"><button type="submit">Yes</button></form>' in page.text
    assert "works until 2026-01-08 00:00 UTC" in page.text
    assert site.service.lock("a") == before
    page = site.post()
    assert (page.status, "Your answer was sent: Yes" in page.text, "<form" in page.text) == (200, True, False)
    assert site.result == "refunded"


def test_the_page_is_kept_by_no_cache_and_loads_nothing(site: Site) -> None:
    site.start()
    for page in (site.get(), site.ask("GET", "/oncetask/link?t=x"), site.post()):
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<script" not in page.text
        assert "src=" not in page.text


def test_the_words_of_a_page_are_escaped(site: Site) -> None:
    site.options = {"text": "<img src=x onerror=alert(1)>\u202e", "for_": '"><b>ann'}
    site.start()
    page = site.get()
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in page.raw
    assert "<img" not in page.raw
    site.post()
    assert "<b>ann" not in site.get().raw


def test_the_event_and_the_act_are_one_commit(site: Site) -> None:
    site.start()
    site.service.start_counting()
    site.post()
    assert site.service.firestore().get("Commit") == 1
    [act] = site.service.lock("a").acts
    assert (act.verb, act.by, act.proven, act.status) == ("answer", "ann@example.com", False, "scheduled")
    assert act.note == "'approval': Yes"
    [line] = [entry for entry in site.cloud.local.logging.entries if entry.insert_id.startswith("act-")]
    assert "answer by ann@example.com" in str(line.json_payload)


def test_du_65_a_link_that_is_clicked_twice_counts_once(site: Site) -> None:
    site.start()
    assert site.post().status == 200
    again = site.post()
    assert again.status == 409
    assert "Already answered" in again.text
    assert "ann@example.com (unproven) answered at 2026-01-01 00:00 UTC: Yes" in again.text
    looked = site.get()
    assert (looked.status, "Already answered" in looked.text, "<form" in looked.text) == (200, True, False)
    assert (site.events, site.result) == (1, "refunded")
    # After the end the page says the same.
    assert "Already answered" in site.get().text


def test_du_65_the_first_of_two_answers_wins(site: Site) -> None:
    site.start()
    site.post("No")
    other = site.post("Yes")
    assert (other.status, "answered at 2026-01-01 00:00 UTC: No" in other.text) == (409, True)
    assert (site.events, site.result) == (1, "kept")


def test_du_65_of_answers_at_once_one_counts(site: Site) -> None:
    site.start()
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(site.post, ["Yes", "No"] * 4))
    assert sorted(page.status for page in pages) == [200, *[409] * 7]
    assert (site.events, len(site.service.lock("a").acts)) == (1, 1)


def test_du_65_a_link_comes_too_late_after_the_time_out(site: Site) -> None:
    site.start()
    site.cloud.advance(days=3, minutes=1)
    for page in (site.get(), site.post()):
        assert (page.status, "Too late" in page.text, "<form" in page.text) == (410, True, False)
    assert (site.events, site.service.lock("a").acts, site.result) == (0, (), "nobody")


def test_du_65_a_link_comes_too_late_while_the_handler_goes_on(site: Site) -> None:
    seen: list[Any] = []

    def act(task: Any, attempt: Any) -> str:
        said = site.act(task, attempt)
        attempt.run("after", lambda: seen.append((site.get().status, site.post().status)))
        attempt.sleep("pause", timedelta(days=1))
        return said

    site.service.act = act
    site.start()
    site.cloud.advance(days=3, minutes=1)
    assert seen == [(410, 410)]
    # The end of the wait is in the journal now, and no more in the record's wait.
    assert (site.get().status, site.post().status) == (410, 410)
    assert site.events == 0


def test_du_65_a_link_comes_too_late_when_the_end_of_the_wait_is_sealed(site: Site) -> None:
    def act(task: Any, attempt: Any) -> str:
        said = site.act(task, attempt)
        for number in range(8):
            attempt.run(f"large-{number}", lambda: "x" * 4000)
        attempt.sleep("pause", timedelta(days=1))
        return said

    site.service.act = act
    site.start()
    site.cloud.advance(days=3, minutes=1)
    lock = site.service.lock("a")
    assert lock.chunks
    assert b"approval" not in b"".join(row[:60] for row in lock.journal)
    assert (site.get().status, site.post().status, site.events) == (410, 410, 0)


def test_du_65_an_event_of_another_sender_closes_the_question(site: Site) -> None:
    site.start()
    site.service.manager.send(Work, "a", "approval", Approval(yes=False))
    assert site.result == "kept"
    assert (site.get().status, site.post().status, site.events) == (410, 410, 1)


def test_du_65_an_event_that_the_handler_has_not_taken_yet_closes_the_question(site: Site) -> None:
    site.start()
    site.service.manager.send(Work, "a", "approval", Approval(yes=False))
    for page in (site.get(), site.post()):
        assert (page.status, "Too late" in page.text, "another way has answered" in page.text) == (410, True, True)
    assert (site.result, site.events) == ("kept", 1)


def test_du_65_a_link_of_a_cancelled_wait_is_not_thanked_for(site: Site) -> None:
    """
    Before the handler knows of its cancellation, and after that.
    """
    site.start()
    assert site.service.manager.cancel_task(Work, "a")
    for _ in range(2):
        for page in (site.get(), site.post()):
            assert (page.status, "the task was cancelled" in page.text, "Thank you" in page.text) == (410, True, False)
        site.cloud.run_until_idle()
    assert (site.service.lock("a").status, site.events) == (Status.CANCELLED, 0)


@pytest.mark.parametrize("cancelled", [True, False])
def test_du_65_an_answer_that_may_not_be_taken_is_told_so(site: Site, cancelled: bool) -> None:
    """
    The handler has made its links and not come to its wait; the task is cancelled, or another sender was first.
    """
    pages: list[SimpleNamespace] = []

    def press() -> None:
        if cancelled:
            assert site.service.manager.cancel_task(Work, "a")
        else:
            site.service.manager.send(Work, "a", "approval", Approval(yes=False))
        pages.extend([site.get(), site.post(), site.post()])

    site.asks = lambda attempt: attempt.run("press", press)
    site.start()
    site.cloud.run_until_idle()
    asked, sent, again = pages
    why = "The task was cancelled at 2026-01-01 00:00 UTC" if cancelled else "Another answer came before this one"
    assert (asked.status, f"{why}, so" in asked.text, "<form" in asked.text) == (200, True, True)
    assert (sent.status, "Perhaps too late" in sent.text, f"{why}, so" in sent.text) == (202, True, True)
    assert "Thank you" not in sent.text
    assert (again.status, "Already answered" in again.text) == (409, True)
    lock = site.service.lock("a")
    assert (lock.status, lock.result) == ((Status.CANCELLED, None) if cancelled else (Status.COMPLETED, "kept"))


def test_an_answer_that_a_compensation_asks_for_is_thanked_for(site: Site) -> None:
    """
    The question is of after the cancellation, so its answer is taken.
    """

    def act(task: Any, attempt: Any) -> Any:
        try:
            return site.act(task, attempt)
        except CancelledByRequest:
            site.links["Yes"] = attempt.link("undo", Approval(yes=True), expires=site.life)
            seen.append(attempt.wait_event("undo", Approval, timeout=None).yes)

    seen: list[bool] = []
    site.service.act = act
    site.start()
    site.cloud.advance(minutes=1)
    assert site.service.manager.cancel_task(Work, "a")
    site.cloud.advance(minutes=1)
    page = site.post()
    assert (page.status, "Thank you" in page.text) == (200, True)
    site.cloud.run_until_idle()
    assert (seen, site.service.lock("a").status) == ([True], Status.CANCELLED)


def test_du_65_each_changed_character_is_refused(site: Site) -> None:
    site.start()
    link = site.links["Yes"]
    begin = link.index("?t=") + 3
    token = link[begin:]
    client = site.service.app.test_client()
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        changed = f"{token[:at]}{other}{token[at + 1 :]}"
        page = client.post(f"/oncetask/link?t={changed}")
        assert page.status_code == 403, at
    for wrong in ("", "x", ".", "é.é", token[:-1], token + "A", token.replace(".", "..")):
        assert client.get("/oncetask/link", query_string={"t": wrong}).status_code == 403
    assert "Refused" in site.ask("GET", link[:-1]).text
    assert site.events == 0


def test_du_65_a_key_may_be_rotated(site: Site, oncetask_cloud: OncetaskCloud) -> None:
    site.start()

    def page(*keys: str) -> SimpleNamespace:
        config = Config(base_url="https://tasks.test", link_keys=keys)
        locker = Locker(config=config)
        oncetask_cloud.use(locker)
        app = Flask("rotated")
        app.register_blueprint(blueprint(locker))
        return site.ask("GET", site.links["Yes"], app)

    assert page(OLD, NEW).status == 200
    assert page(NEW, OLD).status == 200
    assert page(OLD).status == 403
    assert page().status == 503
    assert site.post().status == 200


def test_an_expired_link_is_refused(site: Site) -> None:
    site.timeout, site.life = timedelta(days=30), timedelta(days=1)
    site.start()
    site.cloud.advance(days=1, minutes=1)
    for page in (site.get(), site.post()):
        assert (page.status, "expired at 2026-01-02 00:00 UTC" in page.text) == (410, True)
    assert site.events == 0


def test_a_replayed_handler_makes_the_same_links(site: Site) -> None:
    made: list[dict[str, str]] = []

    def ask(attempt: Any) -> None:
        made.append(dict(site.links))
        attempt.run("mail", lambda link: None, site.links["Yes"])
        attempt.sleep("pause", timedelta(hours=1))

    site.asks = ask
    site.start()
    site.cloud.advance(hours=2)
    assert len(made) == 2
    assert made[0] == made[1]
    assert site.post().status == 200
    assert site.result == "refunded"


def test_an_answer_before_the_wait_is_kept_for_it(site: Site) -> None:
    site.asks = lambda attempt: attempt.sleep("pause", timedelta(hours=1))
    site.start()
    assert site.post().status == 200
    assert site.post("No").status == 409
    site.cloud.advance(hours=2)
    assert site.result == "refunded"


def test_an_answer_is_taken_by_its_own_wait_alone(site: Site) -> None:
    def act(task: Any, attempt: Any) -> list[bool]:
        said = []
        for name in ("first", "second"):
            site.links[name] = attempt.link(name, Approval(yes=name == "first"), expires=60 * 60, event="approval")
            said.append(attempt.wait_event(name, Approval, event="approval", timeout=None).yes)
        return said

    site.service.act = act
    site.start()
    site.post("first")
    assert site.result is None
    assert "Already answered" in site.get("first").text
    site.post("second")
    assert site.result == [True, False]


def test_a_link_of_a_task_that_is_gone_or_began_anew_is_closed(site: Site) -> None:
    site.service.handle(Latest, retry=SECOND)
    site.service.manager.create_task(Latest(name="l", note="1"))
    site.cloud.run_until_idle()
    old = site.links["Yes"]
    site.service.manager.create_task(Latest(name="l", note="2"))
    site.cloud.run_until_idle()
    assert site.links["Yes"] != old
    assert site.ask("POST", old).status == 410
    assert site.post().status == 200
    site.start()
    site.service.manager.cancel_task(Work, "a")
    site.service.settle(10)
    assert site.service.lock("a").status is Status.CANCELLED
    assert site.post().status == 410
    site.service.manager.delete_task(Work, "a")
    assert (site.get().status, site.post().status) == (410, 410)


def test_a_link_of_another_environment_is_refused(site: Site, oncetask_cloud: OncetaskCloud) -> None:
    site.start()
    locker = Locker(config=Config(base_url="https://tasks.test", env="OTHER", link_keys=(NEW,)))
    oncetask_cloud.use(locker)
    app = Flask("other")
    app.register_blueprint(blueprint(TaskManager(locker)))
    assert site.ask("POST", site.links["Yes"], app).status == 403


def test_an_entity_asks_too_where_only_the_sweep_is_served(oncetask_cloud: OncetaskCloud) -> None:
    class Order(LockedModel, collection="orders"):
        id: str
        note: str = ""

    links: list[str] = []
    locker = Locker(config=Config(base_url="https://tasks.test", link_keys=(NEW,)))
    oncetask_cloud.use(locker)
    app = Flask("orders")
    app.register_blueprint(blueprint(locker))

    @app.post("/orders")
    @locked_handler(locker, Order)
    def work(order: Order, attempt: Any) -> bool:
        links.append(attempt.link("approval", {"yes": True}, expires=60 * 60))
        return attempt.wait_event("approval", Approval, timeout=60 * 60).yes

    oncetask_cloud.mount("https://tasks.test", app)
    locker.schedule(Order(id="1"), "/orders")
    oncetask_cloud.run_until_idle()
    client = app.test_client()
    path = links[0].removeprefix("https://tasks.test")
    page = client.get(path)
    assert (page.status_code, "An answer is wanted: approval" in page.text) == (200, True)
    assert '{"yes": true}' in unescape(page.text)
    assert client.post(path).status_code == 200
    oncetask_cloud.run_until_idle()
    lock = locker.show("orders/1")
    assert (lock.result, lock.acts[0].by) == (True, "the holder of the link")


def test_the_person_behind_a_proxy_is_proven(oncetask_cloud: OncetaskCloud) -> None:
    issuer = oncetask_cloud.local.oidc
    issuer.start()
    try:
        site = Site(oncetask_cloud, console_audience=AUDIENCE, console_keys_url=issuer.proxy_keys_url).start()
        token = issuer.proxy.token(AUDIENCE, "bob@example.com")
        assert site.post(**{"x-goog-iap-jwt-assertion": token}).status == 200
    finally:
        issuer.stop()
    [act] = site.service.lock("a").acts
    assert (act.by, act.proven, act.claimed) == ("bob@example.com", True, "ann@example.com")
    assert "bob@example.com, as ann@example.com answered at" in site.get().text


@pytest.mark.parametrize("configured", [True, False])
def test_a_header_that_no_proxy_has_signed_proves_nothing(oncetask_cloud: OncetaskCloud, configured: bool) -> None:
    site = Site(oncetask_cloud, console_audience=AUDIENCE if configured else None).start()
    assert site.post(**{"x-goog-iap-jwt-assertion": "bob@example.com"}).status == 200
    [act] = site.service.lock("a").acts
    assert (act.by, act.proven, act.claimed) == ("ann@example.com", False, None)


def test_a_store_that_is_away_is_told_and_loses_nothing(site: Site) -> None:
    site.start()
    site.cloud.faults.fail("Commit", code=grpc.StatusCode.PERMISSION_DENIED)
    page = site.post()
    assert (page.status, "try again" in page.text) == (503, True)
    assert site.post().status == 200
    assert (site.events, site.result) == (1, "refunded")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": ""}, "text is ''"),
        ({"label": 3}, "label is 3"),
        ({"url": "ftp://x"}, "url is"),
        ({"expires": timedelta(days=400)}, "expires"),
        ({"expires": -1}, "expires"),
        ({"text": "x" * 2000}, "characters, and may have 2,000"),
        ({"answer": object()}, "the answer"),
    ],
)
def test_a_wrong_argument_is_refused(site: Site, options: dict[str, Any], words: str) -> None:
    def act(task: Any, attempt: Any) -> None:
        given = {"answer": 1, "expires": 60, **options}
        with pytest.raises(UsageError, match=words):
            attempt.link("approval", given.pop("answer"), **given)

    site.service.act = act
    site.start()
    assert site.service.lock("a").status is Status.COMPLETED


def test_without_a_key_the_error_says_how_to_make_one(oncetask_cloud: OncetaskCloud) -> None:
    told: list[str] = []

    def act(task: Any, attempt: Any) -> None:
        with pytest.raises(ConfigError, match="ONCETASK_LINK_KEYS is not set") as error:
            attempt.link("approval", expires=60)
        told.append(str(error.value))

    service = Service(oncetask_cloud)
    service.handle()
    service.act = act
    service.create("b")
    oncetask_cloud.run_until_idle()
    assert "openssl rand -hex 32" in told[0]
    with pytest.raises(ConfigError, match="32 to 200 characters") as error:
        Config(link_keys=("short-secret",))
    assert "short-secret" not in str(error.value)
    assert NEW not in repr(Config(link_keys=(NEW,)))


def test_what_a_link_signs_can_be_read_back() -> None:
    from tests.unit.rules.test_rules import NOW

    now = NOW.replace(microsecond=0)
    claims = link_tokens.LinkClaims("t/1", "E", "k", "w", "e", {"a": [1, "ü"]}, now, now, "Question ü?", None, None)
    token = link_tokens.sign(claims, NEW)
    assert link_tokens.verified(token, [OLD, NEW]) == claims
    assert link_tokens.verified(token, [OLD]) is None
    assert replace_last(token) != token
    assert link_tokens.verified(replace_last(token), [NEW]) is None


def replace_last(token: str) -> str:
    # The last character of a digest has bits that its bytes do not have.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) ^ 1]

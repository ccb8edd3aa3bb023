"""
Bad input: each row of the table in ``docs/reference/outcomes.md`` has a clear error, and loses nothing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, request

from gcp_oncetask import (
    Attempt,
    Config,
    ConfigError,
    LockedModel,
    Locker,
    Status,
    StoreError,
    TaskConflictError,
    UsageError,
)
from gcp_oncetask.flask import blueprint, locked_handler
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import ACCOUNT, OncetaskCloud
from tests.support.orders import URL, Order, Shop, make_shop

AUDIENCE = "https://oncetask.test"


class Caller:
    """
    Posts deliveries of its own making, with or without a good token.
    """

    def __init__(self, cloud: OncetaskCloud, shop: Shop) -> None:
        self.cloud = cloud
        self.client = shop.app.test_client()
        shop.locker.schedule(Order(id="42", amount=1), "/tasks/order")
        [task] = cloud.local.tasks.tasks()
        self.body: bytes = task.http_request.body
        self.good = f"Bearer {cloud.local.oidc.token(AUDIENCE, ACCOUNT)}"

    def post(self, body: bytes | None = None, authorization: str | None = "good", **headers: str) -> Any:
        """
        The answer to a delivery.
        """
        token = self.good if authorization == "good" else authorization
        if token is not None:
            headers["Authorization"] = token
        return self.client.post("/tasks/order", data=self.body if body is None else body, headers=headers)

    def changed(self, **changes: Any) -> bytes:
        """
        The body with some fields changed.
        """
        return json.dumps({**json.loads(self.body), **changes}).encode()


@pytest.fixture
def caller(oncetask_cloud: OncetaskCloud, shop: Shop) -> Caller:
    """
    A caller who knows the shop's one delivery.
    """
    return Caller(oncetask_cloud, shop)


def untouched(shop: Shop) -> bool:
    """
    Whether the order still waits for its first attempt, and nothing ran.
    """
    lock = shop.locker.show("orders/42")
    return (lock.status, lock.token, shop.charges) == (Status.SCHEDULED, 0, [])


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda oidc: None, 401),
        (lambda oidc: "Basic dXNlcjpwYXNz", 401),
        (lambda oidc: "Bearer garbage", 401),
        (lambda oidc: "Bearer a.b.c", 401),
        (lambda oidc: f"Bearer {oidc.forged(AUDIENCE, ACCOUNT)}", 401),
        (lambda oidc: f"Bearer {oidc.token(AUDIENCE, ACCOUNT, lifetime=-60)}", 401),
        (lambda oidc: f"Bearer {oidc.token('https://else.where', ACCOUNT)}", 401),
        (lambda oidc: f"Bearer {oidc.token(AUDIENCE, ACCOUNT, iss='https://evil.test')}", 401),
        (lambda oidc: f"Bearer {oidc.token(AUDIENCE, 'somebody@else.test')}", 403),
        (lambda oidc: f"Bearer {oidc.token(AUDIENCE, None)}", 403),
    ],
)
def test_caller_without_good_identity_is_refused(shop: Shop, caller: Caller, make: Any, status: int) -> None:
    """
    No token, garbage, forged, expired, wrong audience or issuer: 401; another account: 403; nothing runs.
    """
    answer = caller.post(authorization=make(caller.cloud.local.oidc), **{"X-CloudTasks-QueueName": "default"})

    assert status == answer.status_code, answer.json
    assert untouched(shop)


SECRETS = (
    AUDIENCE,
    URL,
    ACCOUNT,
    "second@callers.test",
    "demo-local",
    "staging-7",
    "127.0.0.1",
    "certs",
    "orders/42",
    "Error",
)
"""What is configured here, where things are, what was asked for, and what went wrong inside."""


@pytest.mark.parametrize("path", ["/tasks/order", "/oncetask/deliver", "/oncetask/sweep"])
@pytest.mark.parametrize("break_", [None, "certificates", "settings"])
def test_nobody_is_told_what_is_configured(
    oncetask_cloud: OncetaskCloud, caplog: pytest.LogCaptureFixture, path: str, break_: str | None
) -> None:
    """
    Who is not known gets one sentence for each status, with the settings' names, from every route; the log has the reason.
    """
    locker = Locker(config=Config(env="staging-7", audience=(AUDIENCE, URL)))
    oncetask_cloud.use(locker)
    callers = (ACCOUNT, "second@callers.test")
    locker._runtime.config = replace(locker._runtime.config, callers=callers)
    if break_ == "settings":
        locker._runtime.config = replace(locker._runtime.config, audience=(), base_url=None)
    app = Flask("told")
    app.register_blueprint(blueprint(TaskManager(locker)))
    app.post("/tasks/order")(locked_handler(locker, Order)(lambda order, attempt: None))
    if break_ == "certificates":
        oncetask_cloud.local.oidc.fail(None)
    oidc = oncetask_cloud.local.oidc
    tokens = [None, "Bearer a.b.c", f"Bearer {oidc.forged(AUDIENCE, ACCOUNT)}"]
    tokens += [f"Bearer {oidc.token(*who)}" for who in (("https://x.test", ACCOUNT), (AUDIENCE, "x@else.test"))]
    told: dict[int, set[str]] = {}
    for token in tokens:
        query = "?oncetask_document=orders/42&oncetask_sequence=1"
        answer = app.test_client().post(path + query, headers={} if token is None else {"Authorization": token})
        told.setdefault(answer.status_code, set()).add(answer.text)
        assert not [secret for secret in SECRETS if secret in answer.text + str(answer.headers)], answer.text

    expected = {None: {401, 403}, "certificates": {401, 500}, "settings": {500}}[break_]
    assert (set(told), [len(texts) for texts in told.values()]) == (expected, [1] * len(expected))
    names = {401: "ONCETASK_AUDIENCE", 403: "ONCETASK_CALLERS", 500: "log of this service"}
    assert all(names[status] in texts.pop() for status, texts in told.items())
    reason = {
        None: f"ONCETASK_AUDIENCE accepts: {AUDIENCE}",
        "certificates": "could not be fetched",
        "settings": "is not set",
    }
    assert reason[break_] in caplog.text


@pytest.mark.parametrize(
    "query", ["&".join("a" * 200), "oncetask_document=%ff%00/%", "&" * 300, "oncetask_sequence=" + "9" * 400]
)
def test_odd_query_of_nobody_is_401(shop: Shop, caller: Caller, query: str) -> None:
    """
    What a stranger writes behind the path, more fields than are counted included, is no error of this service.
    """
    assert caller.client.post(f"/tasks/order?{query}").status_code == 401


REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.mark.parametrize("path", ["/tasks/order", "/oncetask/sweep"])
@pytest.mark.parametrize(
    ("verify", "service", "change", "status"),
    [
        ("platform", "orders", lambda good, other: {"Authorization": good}, 200),
        ("platform", "orders", lambda good, other: {"Authorization": removed(good)}, 200),
        ("platform", "orders", lambda good, other: {"x-serverless-authorization": removed(good)}, 200),
        (
            "platform",
            "orders",
            lambda good, other: {"Authorization": good, "X-Serverless-Authorization": removed(other)},
            403,
        ),
        (
            "platform",
            "orders",
            lambda good, other: {"Authorization": removed(good), "X-Serverless-Authorization": other},
            403,
        ),
        ("platform", "orders", lambda good, other: {"Authorization": removed(good, alg="none")}, 401),
        ("platform", "orders", lambda good, other: {"Authorization": removed(good, "")}, 401),
        ("platform", "orders", lambda good, other: {"Authorization": removed(good, "x" * 342)}, 401),
        (
            "platform",
            "orders",
            lambda good, other: [("Authorization", removed(good)), ("Authorization", removed(good))],
            401,
        ),
        ("platform", None, lambda good, other: {"Authorization": removed(good)}, 401),
        ("platform", None, lambda good, other: {"Authorization": good}, 200),
        ("platform", "", lambda good, other: {"Authorization": removed(good)}, 401),
        ("token", "orders", lambda good, other: {"Authorization": removed(good)}, 401),
        ("token", "orders", lambda good, other: {"X-Serverless-Authorization": removed(good)}, 401),
        (
            "token",
            "orders",
            lambda good, other: {"Authorization": good, "X-Serverless-Authorization": removed(other)},
            200,
        ),
    ],
)
def test_headers_count_by_what_the_platform_has_verified(
    oncetask_cloud: OncetaskCloud,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    verify: Any,
    service: str | None,
    change: Any,
    status: int,
) -> None:
    """
    Behind IAM the header that it has looked at, and its removed signature where the platform can have removed it; else
    signatures alone.
    """
    monkeypatch.delenv("K_SERVICE", raising=False)
    shop = make_shop(Config(verify=verify))
    oncetask_cloud.mount(URL, shop.app)
    oncetask_cloud.use(shop.locker)
    shop.locker.schedule(Order(id="42"), f"{URL}/tasks/order")
    [task] = oncetask_cloud.local.tasks.tasks()
    if service is not None:
        monkeypatch.setenv("K_SERVICE", service)
    good, other = (
        f"Bearer {oncetask_cloud.local.oidc.token(AUDIENCE, email)}" for email in (ACCOUNT, "else@demo.test")
    )
    answer = shop.app.test_client().post(path, data=task.http_request.body, headers=change(good, other))

    assert status == answer.status_code, answer.json
    assert bool(shop.seen) is (status == 200 and path == "/tasks/order")


def removed(authorization: str, signature: str = REMOVED, alg: str = "RS256") -> str:
    """
    The header with another signature.
    """
    _, claims, _ = authorization.split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": alg, "kid": "k"}).encode()).decode().rstrip("=")
    return f"Bearer {head}.{claims}.{signature}"


def test_certificates_out_of_reach_are_no_refusal(shop: Shop, caller: Caller) -> None:
    """
    Where the certificates can't be fetched nobody's identity can be told: 500, and the task runs when they are back.
    """
    caller.cloud.local.oidc.fail(None)
    assert caller.post().status_code == 500
    assert untouched(shop)

    caller.cloud.local.oidc.heal()
    caller.cloud.advance(seconds=30)
    assert Status.COMPLETED is shop.locker.show("orders/42").status


def test_rotated_key_is_fetched(shop: Shop, caller: Caller) -> None:
    """
    A token signed with a new key is accepted once the certificates are fetched again.
    """
    caller.cloud.run_until_idle()
    caller.cloud.local.oidc.rotate(keep_old=False)
    caller.cloud.advance(seconds=30)
    shop.locker.schedule(Order(id="43"), "/tasks/order")
    caller.cloud.run_until_idle()

    assert Status.COMPLETED is shop.locker.show("orders/43").status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"env": "DEFAULT"',
        b"\xff\xfe",
        b"x" * 300_000,
        b"[" * 100_000,
    ],
)
def test_malformed_body_is_rejected_once_and_alerted(shop: Shop, caller: Caller, body: bytes) -> None:
    """
    An authorised body that is not one of ours is acknowledged, since retrying can't mend it, and a person is told.
    """
    answer = caller.post(body, **{"X-CloudTasks-TaskName": "t1"})

    assert (answer.status_code, answer.json["outcome"]) == (200, "rejected")
    assert ["t1" in alert.reason for alert in caller.cloud.alerts.sent] == [True]
    assert untouched(shop)


def test_body_that_a_hook_has_read_is_still_there(shop: Shop, caller: Caller) -> None:
    """
    An app whose hooks read the request's body before the handler loses no delivery.
    """
    seen = []
    shop.app.before_request(lambda: seen.append(len(request.get_data())))

    assert caller.post().json["outcome"] == "continued"
    assert seen[0] > 100


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"document": "orders"}, "rejected"),
        ({"document": "orders/__x__"}, "rejected"),
        ({"sequence": 0}, "rejected"),
        ({"sequence": "1"}, "rejected"),
        ({"sequence": True}, "rejected"),
        ({"version": "soon", "contents": base64.b64encode(b"\xff").decode()}, "unavailable"),
        ({"contents": "***"}, "rejected"),
        ({"waitUntil": "tomorrow"}, "rejected"),
        ({"env": "OTHER"}, "foreign"),
        ({"document": "orders/43", "contents": None}, "gone"),
        ({"sequence": 2, "contents": None}, "newer"),
    ],
)
def test_odd_delivery_has_its_outcome(shop: Shop, caller: Caller, changes: dict[str, Any], outcome: str) -> None:
    """
    A delivery that does not fit its document is refused by name, and the document is untouched.
    """
    answer = caller.post(caller.changed(**changes))

    assert outcome == answer.json["outcome"], answer.json
    assert untouched(shop)


def test_contents_that_were_tampered_with_do_not_outlive_the_precondition(shop: Shop, caller: Caller) -> None:
    """
    Contents are a hint: with an old version the claim reads the document, and the handler gets what is stored.
    """
    shop.locker.client.document("orders/42").update({"amount": 7})
    caller.post()

    assert [json.loads(json.dumps(a._running.snapshot.document.fields["amount"].integer_value)) for a in shop.seen] == [
        7
    ]


def test_stored_fields_that_do_not_fit_are_a_failed_attempt(shop: Shop, caller: Caller) -> None:
    """
    A document that its model can't read is a failed attempt with the field's name, bounded like any other.
    """
    shop.locker.client.document("orders/42").update({"amount": "many"})
    assert caller.post().status_code == 500

    lock = shop.locker.show("orders/42")
    assert (lock.status, lock.attempts) == (Status.SCHEDULED, 1)
    assert "amount" in lock.errors[-1].message


def test_set_over_a_locked_document_is_told_and_alerted(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    A set() without merge removes the lock: the handler's settling raises, the delivery ends, a person is told.
    """

    def charge(order: Order, attempt: Attempt) -> None:
        shop.locker.client.document("orders/42").set({"amount": 5})

    shop.on_charge = charge
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.run_until_idle()

    assert [d.status for d in oncetask_cloud.deliveries] == [200]
    [alert] = oncetask_cloud.alerts.sent
    assert "set()" in alert.reason
    assert shop.locker.client.document("orders/42").get().to_dict() == {"amount": 5}


def test_other_environment_is_refused_by_name(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    An entity locked by one environment can't be scheduled, cancelled or reset by another.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    other = make_shop(Config(env="staging"))
    oncetask_cloud.use(other.locker)
    order = other.locker.get(Order, "42")
    assert order is not None
    with pytest.raises(TaskConflictError, match="'DEFAULT', not 'staging'"):
        other.locker.schedule(order, f"{URL}/tasks/order")
    with pytest.raises(TaskConflictError, match="'DEFAULT', not 'staging'"):
        other.locker.cancel(Order, "42")


def test_unreachable_firestore_is_an_error_that_says_so(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    While Firestore is down schedule() raises StoreError within its patience, and a delivery is answered 500.
    """
    shop.locker.schedule(Order(id="42"), "/tasks/order")
    oncetask_cloud.faults.fail("*", times=None, message="down")
    with pytest.raises(StoreError, match="down"):
        shop.locker.schedule(Order(id="43"), "/tasks/order")
    oncetask_cloud.run_until_idle()
    assert [d.status for d in oncetask_cloud.deliveries] == [500]

    oncetask_cloud.faults.clear()
    oncetask_cloud.advance(minutes=2)
    assert Status.COMPLETED is shop.locker.show("orders/42").status


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"ONCETASK_QUEU": "x"}, "Did you mean ONCETASK_QUEUE"),
        ({"ONCE_TASK_ENV": "a b"}, "letters, digits"),
        ({"ONCETASK_VERIFY": "maybe"}, "must be .token., .platform. or .off."),
        ({"ONCETASK_DISPATCH_DEADLINE_SECONDS": "5"}, "15 to 1800"),
        ({"ONCETASK_DISPATCH_DEADLINE_SECONDS": "soon"}, "a number of seconds"),
        ({"ONCETASK_LOG_CONTENTS": "perhaps"}, "true or false"),
        ({"ONCETASK_BASE_URL": "orders.test"}, "https://"),
        ({"ONCETASK_ALERT_TO": "ann@example.com"}, "ONCETASK_SMTP_URL is not"),
        ({"ONCETASK_SHARDS": "0"}, "1 to 1000"),
        ({"ONCETASK_QUEUE": "a b"}, "queue id"),
    ],
)
def test_wrong_setting_is_named(environ: dict[str, str], sentence: str) -> None:
    """
    Each wrong setting is refused when the configuration is read, in a sentence that names it.
    """
    with pytest.raises(ConfigError, match=sentence):
        Config.from_env(environ)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lease_duration": 0}, "lease_duration"),
        ({"lease_duration": 1000, "lease_timeout": 700}, "lease_timeout"),
        ({"lease_timeout": 120}, "ONCETASK_REQUEST_TIMEOUT_SECONDS"),
        ({"run_limit": 10}, "run_limit"),
        ({"max_attempts": 0}, "at least 1"),
        ({"on_unknown": "shrug"}, "quarantine"),
        (
            {"alert_on": ("everything",)},
            "an event of alert_on is .everything.; it must be .takeover., .failure. or .quarantine.",
        ),
    ],
)
def test_contradicting_durations_are_refused_at_decoration(options: dict[str, Any], sentence: str) -> None:
    """
    Relations between durations are checked before anything is served, one sentence each.
    """
    with pytest.raises(ConfigError, match=sentence):
        locked_handler(Locker(config=Config()), Order, **options)


def test_wrong_use_is_refused_where_it_is_written(oncetask_cloud: OncetaskCloud, shop: Shop) -> None:
    """
    Coroutines, models without collection, naive times, two times and paths without base URL are refused in words.
    """

    async def later(order: Order, attempt: Attempt) -> None:
        """
        A coroutine.
        """

    class Bare(LockedModel):
        """
        A model without a collection.
        """

    with pytest.raises(UsageError, match="async"):
        locked_handler(shop.locker, Order)(later)
    with pytest.raises(UsageError, match="collection"):
        locked_handler(shop.locker, Bare)
    with pytest.raises(UsageError, match="not both"):
        shop.locker.schedule(Order(id="1"), "/x", delay=1, at=oncetask_cloud.clock_now())
    with pytest.raises(UsageError, match="time zone"):
        shop.locker.schedule(Order(id="1"), "/x", at=oncetask_cloud.clock_now().replace(tzinfo=None))
    with pytest.raises(UsageError, match="needs a url"):
        shop.locker.schedule(Order(id="1"))
    with pytest.raises(ConfigError, match="gcloud run services describe"):
        Locker(config=Config(verify="off", project="p", location="l")).schedule(Order(id="1"), "/x")
    assert shop.locker.get(Order, "1") is None

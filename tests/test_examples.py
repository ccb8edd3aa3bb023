"""
The examples run, and do what they say.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gcp_oncetask import ConfigError
from gcp_oncetask.testing.cloud import OncetaskCloud

ROOT = Path(__file__).parent.parent


def play(example: str, counts: str, *arguments: str) -> tuple[int, dict[str, int], str]:
    """
    Run an example; exit code, numbers of the lines that begin as *counts* says, all that was said.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{example}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    facts = {name: int(number) for name, number in re.findall(rf"^({counts}) (\d+)$", done.stdout, re.MULTILINE)}
    return done.returncode, facts, done.stdout + done.stderr


def graph(*arguments: str) -> tuple[int, dict[str, int], str]:
    """
    Run the graph's processes.
    """
    return play("graph_lock", "lines [a-z ]+", *arguments)


def test_graph_is_whole_under_the_lock() -> None:
    """
    Four processes, forty lines: none is lost, each has both ends.
    """
    status, facts, said = graph()

    assert status == 0, said
    assert facts == {"lines added": 40, "lines lost": 0, "lines with one end": 0}


def test_graph_is_damaged_without_the_lock() -> None:
    """
    The same without the lock loses lines, and says so: the lock is what keeps the graph whole.
    """
    status, facts, said = graph("--unlocked")

    assert status == 1, said
    assert facts["lines lost"] > 0, said


@pytest.fixture
def webhook(oncetask_cloud: OncetaskCloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    """
    Posts an event to the endpoint; returns status and answer.
    """
    monkeypatch.setenv("WEBHOOK_SECRET", "s3cret")
    from examples.webhook import app as example

    oncetask_cloud.use(example.locker)
    client = example.app.test_client()

    def post(event: Any, secret: str = "s3cret") -> tuple[int, Any]:
        body = json.dumps(event).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        answer = client.post("/webhooks/payments", data=body, headers={"X-Signature": signature})
        return answer.status_code, answer.json

    post.example = example
    return post


EVENT = {"id": "e1", "account": "ann", "amount": 5}


def test_webhook_books_each_event_once(oncetask_cloud: OncetaskCloud, webhook: Any) -> None:
    """
    A copy, also a month later, gets the first one's answer; another event the next number.
    """
    for _ in range(3):
        assert webhook(EVENT) == (200, {"account": "ann", "amount": 5, "number": 1})
        oncetask_cloud.advance(days=30)
    assert webhook({**EVENT, "id": "e2"}) == (200, {"account": "ann", "amount": 5, "number": 2})

    bookings = webhook.example.locker.client.collection("accounts/ann/bookings").stream()
    assert {each.id: each.get("number") for each in bookings} == {"e1": 1, "e2": 2}


def test_webhook_survives_a_crash_between_booking_and_answer(
    oncetask_cloud: OncetaskCloud, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Booked, and dead before that was recorded: 409 until the lease ends, then the same booking, once.
    """
    from tests.support.orders import Killed

    example = webhook.example

    def die(**_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(example, "Booking", die)
        with pytest.raises(Killed):
            webhook(EVENT)
    assert webhook(EVENT)[0] == 409
    oncetask_cloud.advance(seconds=31)
    assert webhook(EVENT) == (200, {"account": "ann", "amount": 5, "number": 1})
    assert len(list(example.locker.client.collection("accounts/ann/bookings").stream())) == 1


def test_webhook_refuses_what_it_should(oncetask_cloud: OncetaskCloud, webhook: Any) -> None:
    """
    A wrong signature, a wrong event, other contents for an id; and says 500 when Firestore is away.
    """
    assert webhook(EVENT, secret="guess")[0] == 401
    assert webhook({"id": "e1"}) == (400, {"error": "not an event: 2 fields are wrong"})
    assert webhook(EVENT)[0] == 200
    assert webhook({**EVENT, "amount": 6})[0] == 422
    oncetask_cloud.faults.fail("*", times=None)
    assert webhook({**EVENT, "id": "e3"})[0] == 500


@pytest.mark.parametrize(
    ("example", "names"), [("webhook", {"WEBHOOK_SECRET"}), ("orders", {"PAYMENTS_URL", "RECEIPTS_URL"})]
)
def test_example_that_lacks_its_own_settings_does_not_start(
    monkeypatch: pytest.MonkeyPatch, example: str, names: set[str]
) -> None:
    """
    An application of the examples names all of its own settings that are missing when it is loaded.
    """
    for name in names:
        monkeypatch.delenv(name, raising=False)
    path = ROOT / "examples" / example / "app.py"
    with pytest.raises(ConfigError) as caught:
        runpy.run_path(str(path))

    assert all(name in str(caught.value) for name in names)


def sync(*arguments: str) -> tuple[int, dict[str, int], str]:
    """
    Run the queue that keeps a service in step.
    """
    return play("sync_queue", "[a-z ]+", *arguments)


def test_sync_queue_keeps_the_service_in_step_with_few_calls() -> None:
    """
    400 updates of 5 customers: the newest of each is there, two calls of one customer never overlap, many calls are saved.
    """
    status, facts, said = sync()

    assert status == 0, said
    assert facts["updates"] == 400
    assert facts["calls"] + facts["calls saved"] == 400
    assert facts["calls saved"] >= 100, said
    assert facts["customers out of date"] == facts["calls of one customer at the same time"] == 0


def test_sync_queue_with_a_call_per_update_saves_nothing() -> None:
    """
    Without coalescing each update is a call, and those of one customer meet: that is what the queue is for.
    """
    status, facts, said = sync("--each", "--updates", "60")

    assert (status, facts["calls"], facts["calls saved"]) == (1, 60, 0), said
    assert facts["calls of one customer at the same time"] > 0

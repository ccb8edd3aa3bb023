"""
``oncetask_cloud.check``: fifteen wrong handlers, each found with a sentence that names its mistake and the line; ten right ones.
"""

from __future__ import annotations

import itertools
import random
import re
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gcp_oncetask import NOT_DONE, FixedDelay, NotDone, UsageError
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.checked import Parcel, Payments, entity, once
from tests.support.tasks import Work

DAYS = timedelta(days=3)
payments = Payments()
numbers = itertools.count(1)
seen: list[Any] = []


# --- wrong ones: the line with the mistake ends in "# here" ---


def effect_outside(task: Any, attempt: Any) -> Any:
    payments.mail("begun")  # here
    return attempt.run("charge", payments.charge, attempt.key, 3)


def effect_in_finally(task: Any, attempt: Any) -> Any:
    try:
        attempt.run("charge", payments.charge, attempt.key, 3)
        attempt.sleep("wait", DAYS)
    finally:
        payments.mail("over")  # here


def bare_except(task: Any, attempt: Any) -> Any:
    try:
        attempt.sleep("wait", DAYS)
    except:  # noqa: E722  # here
        return "failed"
    return "slept"


def return_in_finally(task: Any, attempt: Any) -> Any:
    try:
        attempt.sleep("wait", DAYS)
    finally:
        return "over"  # noqa: B012  # here


def lost_swallowed(task: Any, attempt: Any) -> Any:
    try:
        return attempt.run("charge", payments.charge, attempt.key, 3)
    except Exception:  # here
        return "failed"


def key_from_the_clock(task: Any, attempt: Any) -> Any:
    return attempt.run("charge", payments.charge, f"{attempt.key}-{time.time()}", 3)  # here


def chance_in_arguments(task: Any, attempt: Any) -> Any:
    return attempt.run("charge", payments.charge, str(uuid.uuid4()), 3)  # here


def random_branch(task: Any, attempt: Any) -> Any:
    way = random.random()  # here
    return attempt.run(f"way-{way}", payments.charge, attempt.key, 3)


def argument_changed(task: Any, attempt: Any) -> Any:
    cart = {"sum": 1}

    def add(cart: dict[str, int]) -> None:  # here
        cart["sum"] += 1

    attempt.run("add", add, cart)
    attempt.run("charge", payments.charge, attempt.key, 3)
    return cart["sum"]


def outer_variable(task: Any, attempt: Any) -> Any:
    total = 0

    def count() -> None:  # here
        nonlocal total
        total += 1

    attempt.run("count", count)
    attempt.run("charge", payments.charge, attempt.key, 3)
    return total


def set_order(task: Any, attempt: Any) -> Any:
    for number, item in enumerate({"a", "b"}):  # here
        attempt.run(f"pack-{number}", payments.charge, item, 3)


def name_from_a_counter(task: Any, attempt: Any) -> Any:
    return attempt.run(f"charge-{next(numbers)}", payments.charge, attempt.key, 3)  # here


def field_before_a_wait(parcel: Parcel, attempt: Any) -> Any:
    parcel.state = "waiting"  # here
    attempt.sleep("wait", DAYS)


def entity_outside(parcel: Parcel, attempt: Any) -> Any:
    def mark() -> None:
        client = attempt._running.runtime.store.wire.client
        client.document("parcels/p").update({"state": "packed"})

    if parcel.state == "new":  # here
        attempt.run("mark", mark)
    attempt.sleep("wait", DAYS)


def answer_not_by_key(task: Any, attempt: Any) -> Any:
    return attempt.run("number", lambda: next(numbers))  # here


WRONG = {
    effect_outside: "mail is called outside a run",
    effect_in_finally: "mail is called in a finally",
    bare_except: "Suspended is swallowed",
    return_in_finally: "Suspended is swallowed",
    lost_swallowed: "LeaseLostError is swallowed",
    key_from_the_clock: "time.time() is called outside a run",
    chance_in_arguments: "uuid.uuid4() is called outside a run",
    random_branch: "random() is called outside a run",
    argument_changed: "changes its argument",
    outer_variable: "writes an outer variable",
    set_order: "the order of a set",
    name_from_a_counter: "names and their order must not come from what changes",
    field_before_a_wait: "a suspension saves no fields",
    entity_outside: "the entity is read outside a run",
    answer_not_by_key: "Its function was called 2 times",
}
EFFECTS = (payments.charge, payments.mail)


@pytest.mark.parametrize("handler", WRONG, ids=lambda handler: handler.__name__)
def test_a_wrong_handler_is_found_with_its_line(oncetask_cloud: OncetaskCloud, handler: Any) -> None:
    start = entity(handler) if handler in (field_before_a_wait, entity_outside) else once(handler)
    with pytest.raises(AssertionError) as caught:
        oncetask_cloud.check(start, effects=EFFECTS)
    text = str(caught.value)
    [line] = [line for line in text.split("\n") if WRONG[handler] in line][:1] or [text]
    assert WRONG[handler] in line, text
    number = int(re.search(r"test_checking\.py:(\d+)", line)[1])  # type: ignore[index]  # else the test fails
    assert Path(__file__).read_text().splitlines()[number - 1].endswith("# here"), text


# --- right ones ---


def plain(task: Any, attempt: Any) -> Any:
    return attempt.run("charge", payments.charge, attempt.key_of("charge"), 3)


def several(task: Any, attempt: Any) -> Any:
    return [attempt.run(f"pack-{item}", payments.charge, item, 3) for item in sorted({"a", "b"})]


def sleeping(task: Any, attempt: Any) -> Any:
    attempt.run("charge", payments.charge, attempt.key, 3)
    attempt.sleep("wait", DAYS)
    return attempt.run("ship", payments.charge, attempt.key_of("ship"), 4)


def asked_once(task: Any, attempt: Any) -> Any:
    def find(key: str) -> Any:
        return f"charge of {payments.charges[key]}" if key in payments.charges else NOT_DONE

    key = attempt.key_of("charge")
    return attempt.options(once=True, verify=find).run("charge", payments.charge, key, 3)


def once_with_a_person(task: Any, attempt: Any) -> Any:
    return attempt.options(once=True).run("charge", payments.charge, attempt.key, 3)


def declined(task: Any, attempt: Any) -> Any:
    def decline() -> None:
        raise NotDone("declined")

    try:
        attempt.options(once=True, retry=FixedDelay(delay=1, max_attempts=2)).run("charge", decline)
    except Exception as error:
        if "charge" not in str(error):
            raise
        if attempt.lost.is_set():
            raise
    return attempt.run("refund", payments.charge, attempt.key, 0)


def time_and_chance(task: Any, attempt: Any) -> Any:
    at, key = attempt.now("at"), attempt.uuid("key")
    attempt.run("charge", payments.charge, str(key), 3)
    return f"{at} {key}"


def waiting(task: Any, attempt: Any) -> Any:
    return attempt.wait_event("approval", str, timeout=timedelta(days=7))


def logged(task: Any, attempt: Any) -> Any:
    begun = time.time()
    result = attempt.run("charge", payments.charge, attempt.key, 3)
    if time.time() < begun:
        return None
    return result


def field_at_the_end(parcel: Parcel, attempt: Any) -> Any:
    attempt.sleep("wait", DAYS)
    parcel.state = attempt.run("charge", payments.charge, attempt.key, 3)


RIGHT = [
    plain,
    several,
    sleeping,
    asked_once,
    once_with_a_person,
    declined,
    time_and_chance,
    waiting,
    logged,
    field_at_the_end,
]


@pytest.mark.parametrize("handler", RIGHT, ids=lambda handler: handler.__name__)
def test_a_right_handler_passes(oncetask_cloud: OncetaskCloud, handler: Any) -> None:
    def approve(cloud: OncetaskCloud, manager: Any) -> None:
        if handler is waiting:
            cloud.advance(hours=1)
            manager.send(Work, "a", "approval", "yes")

    start = entity(handler) if handler is field_at_the_end else once(handler, approve)
    oncetask_cloud.check(start, effects=EFFECTS)


def test_an_effect_that_can_not_be_seen_is_refused(oncetask_cloud: OncetaskCloud) -> None:
    with pytest.raises(UsageError, match="written in Python"):
        oncetask_cloud.check(once(plain), effects=[print])

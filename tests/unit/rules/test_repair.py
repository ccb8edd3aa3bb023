"""
The record that a person's reset makes of a damaged one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gcp_oncetask import Status
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, Put
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.repair import Wishes, repair
from gcp_oncetask.rules.writes import epoch_milliseconds

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = DecisionContext(T0, T0, "E/push/007", "E")
SOUND: dict[str, Any] = {
    "env": "E",
    "sequence": 7,
    "base": 4,
    "keyed": 70,
    "status": Status.FAILED,
    "token": 9,
    "scheduled_token": 8,
    "url": "https://x/y",
    "queue": "q",
    "granted_at": T0 - timedelta(hours=1),
    "leased_at": T0 - timedelta(seconds=20),
}


def repaired(lost: tuple[str, ...] = (), wishes: Wishes | None = None, **found: Any) -> Put | CallRefused:
    kept = {name: value for name, value in (SOUND | found).items() if name not in lost}
    return repair(kept, lost, wishes or Wishes(), "n", AT)


def made(*lost: str, wishes: Wishes | None = None, **found: Any) -> Lock:
    put = repaired(lost, wishes, **found)
    assert isinstance(put, Put)
    assert put.dispatch
    return put.lock


def made_of(found: dict[str, Any]) -> Lock:
    put = repair(found, (), Wishes(), "n", AT)
    assert isinstance(put, Put)
    return put.lock


def test_what_can_be_read_is_kept() -> None:
    """
    The step, the token, and the idempotency key of a step that did not complete.
    """
    lock = made("max_attempts")

    assert (lock.sequence, lock.step, lock.token, lock.keyed) == (8, 3, 9, 70)
    assert (lock.status, lock.scheduled_by, lock.url, lock.queue) == (Status.SCHEDULED, "n", "https://x/y", "q")
    assert made("max_attempts", status=Status.COMPLETED).keyed == 71
    assert made("base", "queue", wishes=Wishes(step=3)).step == 3
    later = T0 + timedelta(hours=1)
    assert made("max_attempts", status=Status.SCHEDULED, wait_until=later).wait_until == later
    assert made("max_attempts", wait_until=later).wait_until is None
    wanted = made("max_attempts", wanted=3, granted=2)
    assert (wanted.wanted, wanted.granted) == (3, 2)
    assert (made("max_attempts", wanted=2, granted=3).wanted, made("token", token=1).token > 9) == (3, True)
    nothing = repair({name: SOUND[name] for name in SOUND if name not in ("token", "url")}, (), Wishes(), "n", AT)
    assert isinstance(nothing, CallRefused)
    pulled = {name: SOUND[name] for name in SOUND if name not in ("token", "scheduled_token", "url", "queue")}
    assert made_of(pulled).token == 0


def test_what_can_not_be_read_is_beyond_all_that_was() -> None:
    """
    Token, sequence and key.
    """
    now = epoch_milliseconds(T0)

    assert made("token").token == now
    assert made("token", "scheduled_token").token == now
    assert made(token=7).token == now
    assert made("sequence", wishes=Wishes(step=2)).sequence == now + 1
    assert made("sequence", wishes=Wishes(step=2)).step == 2
    assert made("keyed", wishes=Wishes(new_key=True)).keyed // 1000 == now


@pytest.mark.parametrize(
    ("lost", "found", "refusal"),
    [
        ((), {"env": "F"}, Refusal.FOREIGN),
        ((), {"erased": True}, Refusal.ERASED),
        ((), {"status": Status.LEASED, "run_limit_seconds": 7200.0}, Refusal.RUNNING),
        (("status",), {"run_limit_seconds": 7200.0}, Refusal.RUNNING),
        (("url",), {}, Refusal.DAMAGED),
        (("key",), {}, Refusal.DAMAGED),
        (("sequence",), {}, Refusal.DAMAGED),
        (("keyed",), {}, Refusal.DAMAGED),
        (("wanted", "granted"), {}, Refusal.DAMAGED),
    ],
)
def test_what_only_a_person_knows_is_asked_for(lost: tuple[str, ...], found: dict[str, Any], refusal: Refusal) -> None:
    """
    And a lease that may be held is waited for, from its last renewal on.
    """
    refused = repaired(lost, None, **found)

    assert isinstance(refused, CallRefused)
    assert refused.refusal is refusal
    assert refused.until == (T0 + timedelta(seconds=40) if refusal is Refusal.RUNNING else None)


def test_lease_that_is_over_is_not_waited_for() -> None:
    """
    By its run limit, here.
    """
    assert made("max_attempts", status=Status.LEASED).status is Status.SCHEDULED

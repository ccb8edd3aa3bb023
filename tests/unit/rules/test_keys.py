"""
The record of a resource key: who holds it, and all of it that stays when it is taken.
"""

from __future__ import annotations

from gcp_oncetask.rules.keys import holds, taken, unused
from gcp_oncetask.rules.record import Lock, Status

TASK = "onceTasks/c9:work:DEFAULT:1"


def test_key_that_nobody_had_yet() -> None:
    assert unused("E") == Lock(env="E", sequence=1, status=Status.COMPLETED)
    assert taken(None, "E", TASK, 3, "n") == Lock(
        env="E", sequence=1, status=Status.LEASED, holder=TASK, token=3, scheduled_by="n"
    )


def test_key_that_is_taken_keeps_the_rest_of_its_record() -> None:
    """
    Its time to be looked at is that of the tasks that wait for it.
    """
    known = unused("E").but(due="E/key/000/2026-01-01T00:00:00.000000Z", needs=("tomorrow",), sequence=7)
    now = taken(known, "E", TASK, 3, "n")
    assert (now.due, now.needs, now.sequence) == (known.due, known.needs, 7)
    assert (now.status, now.holder, now.token) == (Status.LEASED, TASK, 3)


def test_attempt_holds_only_a_key_that_is_leased_to_it() -> None:
    key = taken(None, "E", TASK, 3, "n")
    assert holds(key, TASK, 3)
    assert not holds(None, TASK, 3)
    assert not holds(key, TASK, 2)
    assert not holds(key, "onceTasks/x", 3)
    assert not holds(key.but(status=Status.COMPLETED), TASK, 3), "an older release may leave the holder's name"

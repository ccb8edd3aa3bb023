"""
Names of documents: none belongs to two things, and each is recognised by its path.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask import Status
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules import document_paths as paths
from gcp_oncetask.rules.document_paths import TaskName
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.timestamps import instant

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = T0 + timedelta(hours=1)


def record(status: Status, **values: object) -> Lock:
    return Lock.of({"env": "E", "sequence": 1, "status": status, **values})


def test_two_things_never_share_a_document() -> None:
    """
    Neither two kinds, environments and ids, nor a key, a queue, windows, reminders, a digest, a collection and an origin.
    """
    made = [
        *(TaskName(env, kind, id_).path for env in "EF" for kind in ("k", "l") for id_ in ("1", "2", "a/b", "a:b")),
        *(paths.key_path(env, key) for env in "EF" for key in ("1", "2")),
        *(paths.queue_path(env, queue) for env in "EF" for queue in ("q", "r")),
        *(paths.windows_path(env, event, kind) for env in "EF" for event in ("a", "b") for kind in ("k", "l")),
        *(paths.reminder_path(env) for env in "EF"),
        *(paths.digest_path(env, id_) for env in "EF" for id_ in ("1", "2")),
        *(paths.collection_path(env, name) for env in "EF" for name in ("1", "2", "x" * 1500, "y" * 1500)),
        *(paths.origin_path(env, name) for env in "EF" for name in ("1", "2")),
    ]

    assert len(set(made)) == len(made)
    assert all(path.count("/") == 1 and len(path.partition("/")[2].encode()) <= 1500 for path in made)


def test_documents_are_recognised_by_their_paths() -> None:
    """
    Once-tasks, keys and digests are those of their own collections.
    """
    task, key, digest = TaskName("E", "k", "a/b ü").path, paths.key_path("E", "1"), paths.digest_path("E", "1")

    assert paths.parse_task_path(task) == TaskName("E", "k", "a/b ü")
    for path in (task, key, digest, f"{task}/notes/1", f"users/1/{task}", f"{key}/notes/1", "orders/1"):
        assert paths.is_task(path) is (path == task)
        assert (paths.parse_task_path(path) is not None) is (path == task)
        assert paths.is_key(path) is (path == key)
        assert paths.is_digest(path) is (path == digest)
    assert not paths.is_key("onceLocks/00:E:lock:1")


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        ("orders", "orders/1", True),
        ("orders", "orders/1/items/2", False),
        ("users/{user}/orders", "users/1/orders/2", True),
        ("users/{user}/orders", "users/1/orders/2/items/3", False),
        ("users/{user}/orders", "users/1/bills/2", False),
    ],
)
def test_documents_fit_templates(template: str, path: str, fits: bool) -> None:
    """
    Documents in subcollections do not.
    """
    assert (paths.fitting(template).fullmatch(path) is not None) is fits


def test_longest_resource_key_fits_wherever_it_is_stored() -> None:
    """
    In the id of its document and in the indexed texts of its tasks: none is longer than Firestore takes.
    """
    size = next(n for n in range(1500, 0, -1) if accepted("x" * n))
    key = "x" * size
    waits = record(Status.SCHEDULED, wait_until=T0, key=key)
    texts = (
        paths.key_path("E", key).partition("/")[2],
        paths.resource_of("k", waits, key),
        paths.parked_place("E", key, T0, T0),
    )

    assert 1300 < size < 1500
    assert max(len(text) for text in texts) <= 1500
    for wrong in ("", 7, "\ud800"):
        with pytest.raises(UsageError):
            paths.check_resource_key("E", "k", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["k", "a/b", "a%2Fb", "ä: {x}", " ", "0"])
@pytest.mark.parametrize("due", [None, LATER])
def test_key_is_read_from_the_place_of_a_task_that_waits_for_it(key: str, due: datetime | None) -> None:
    assert paths.parked_key(paths.parked_place("E", key, due, T0)) == key


@pytest.mark.parametrize(
    "place",
    ["", "E", "E/k", "E/k/x", "E//x/y", "E/k/x/y/z", "E/%ff/x/y", "E/%6B/x/y", "E/%zz/x/y", f"E/{'k' * 1500}/x/y"],
)
def test_place_that_was_written_by_hand_has_no_key(place: str) -> None:
    assert paths.parked_key(place) is None


def accepted(key: str) -> bool:
    try:
        paths.check_resource_key("E", "k", key)
    except UsageError:
        return False
    return True


def test_strings_of_tasks_sort_and_separate() -> None:
    """
    Those of other keys, kinds and states are in other ranges; within one the earlier time comes first.
    """
    soon, late, ended = (
        record(Status.SCHEDULED),
        record(Status.SCHEDULED, wait_until=T0),
        record(Status.FAILED, wait_until=T0),
    )
    live, done = (paths.resource_prefix("E", "k", "key", live=one) for one in (True, False))

    assert paths.resource_of("k", soon, "key") < paths.resource_of("k", late, "key")
    assert paths.resource_of("k", late, "key").startswith(f"{live}/")
    assert paths.resource_of("k", ended, "key").startswith(f"{done}/")
    assert not done.startswith(live)
    assert paths.parked_prefix("E", "key") != paths.parked_prefix("E", "other")
    assert paths.parked_place("E", "key", T0, LATER) < paths.parked_place("E", "key", LATER, T0)
    assert paths.parked_place("E", "key", None, T0) < paths.parked_place("E", "key", None, LATER)
    assert paths.pull_lane("k") != paths.pull_lane("l")
    assert len({paths.state_prefix("E", "k", state) for state in (None, "scheduled", "leased")}) == 3
    asked = record(Status.LEASED, cancel_requested_at=T0)
    assert paths.state_of("k", asked) == f"E/k/{paths.CANCELLING}/0"
    assert paths.state_of("k", late) == f"E/k/scheduled/{instant(T0)}"
    assert paths.state_of("k", record(Status.CANCELLED, cancel_requested_at=T0)) == "E/k/cancelled/0"

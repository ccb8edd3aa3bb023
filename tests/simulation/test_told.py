"""
The checks that a person is told of what stands still, on small histories.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from gcp_oncetask import Lock, Status
from tests.simulation.checks.refused import Refused
from tests.simulation.checks.standing import Begun, Stand, Standing
from tests.simulation.hub import SECOND
from tests.simulation.troubles.refusals import _STORE, GONE, Refusals, too_large

PATH = "onceTasks/aa:DEFAULT:work:a"
LARGE = too_large(f"projects/p/databases/(default)/documents/{PATH}", 0)
FIRESTORE = "firestore/permission_denied"
_DENIED = next(each for each in _STORE if each.alerts == FIRESTORE)


def process(name: str, **changes: Any) -> Any:
    """
    A process that nothing has hurt.
    """
    given = {"name": name, "env": "DEFAULT", "frozen": False, "dead": False, "hurt_until": 0, "failed_at": 0}
    return SimpleNamespace(**given | changes)


# --- sweeps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "over", "right"),
    [
        pytest.param(12, False, True, id="the other sweep has looked at it, and tells at its end"),
        pytest.param(9, False, False, id="it was looked at before this sweep"),
        pytest.param(12, True, False, id="the other sweep is over"),
    ],
)
def test_sweep_need_not_tell_what_another_sweep_is_about_to_tell(*, moved: int, over: bool, right: bool) -> None:
    """
    The other sweep is judged at its own end.
    """
    told: list[str] = []
    hub = SimpleNamespace(now=8 * SECOND)
    world: Any = SimpleNamespace(hub=hub, stuck=5.0, mail_down=False, counts=Counter[str]())
    watch: Any = SimpleNamespace(records={PATH: SimpleNamespace(owed=(), url="u", due_at=1)})
    standing = Standing(watch, world, lambda _, sentence: told.append(sentence))
    stand = standing._stands[PATH] = Stand(1, "a/queue", sure=True)
    other, mine = process("other"), process("mine")
    first: Begun = standing.sweep_begins(other)
    hub.now = 10 * SECOND
    begun: Begun = standing.sweep_begins(mine)
    stand.looked_at_by, stand.looked_at = other, moved * SECOND
    if over:
        standing.sweep_is_over(first)
    hub.now = 20 * SECOND
    standing.swept(begun)
    standing.sweep_is_over(begun)
    assert (told == []) is right
    standing.swept(first)
    assert told


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fetches", [True, False])
def test_task_of_workers_stands_still_because_of_a_refusal_while_a_worker_takes_tasks(*, fetches: bool) -> None:
    """
    Without one, it stands still for another reason, of which the alarm of its lane tells. A pushed task needs none.
    """
    hub: Any = SimpleNamespace(now=0, time=lambda: None)
    pulled = Lock(env="DEFAULT", sequence=1, status=Status.SCHEDULED)
    standing = Refused(hub, lambda: fetches)
    standing.longest({PATH: pulled}, LARGE)
    hub.now = 60 * SECOND
    found = standing.longest({PATH: pulled}, LARGE)
    assert (None if found is None else found.seconds) == (60 if fetches else None)

    pushed = {PATH: pulled.but(url="https://app.test/run", queue="projects/p/locations/l/queues/q")}
    standing = Refused(hub, lambda: fetches)
    standing.longest(pushed, LARGE)
    hub.now = 120 * SECOND
    assert standing.longest(pushed, LARGE) == (PATH, 60)


@pytest.mark.parametrize(
    ("tellers", "refused", "right"),
    [
        pytest.param(["one"], {"one": 100}, True, id="the process that is refused has told it today"),
        pytest.param(["one"], {"one": 100, "two": 100}, False, id="another one is refused, and has not"),
        pytest.param(["one"], {"one": 100, "two": 190}, True, id="another one was refused just now"),
        pytest.param(["one"], {"one": 100, "dead": 100}, True, id="another one is dead"),
        pytest.param([], {"one": 100}, False, id="no process has told it"),
        pytest.param(["one"], {}, False, id="no process is refused"),
    ],
)
def test_process_tells_once_a_day_that_firestore_refuses_it(
    tellers: list[str], refused: dict[str, int], *, right: bool
) -> None:
    world: Any = SimpleNamespace(
        hub=SimpleNamespace(now=200 * SECOND), counts=Counter[str](), processes=[process("one"), process("two")]
    )
    refusals = Refusals(world)
    alert: Any = SimpleNamespace(document=FIRESTORE, documents=())
    for name in tellers:
        refusals.mailed(process(name), alert)
    refusals._refused = {name: seconds * SECOND for name, seconds in refused.items()}
    assert refusals._was_told_before(_DENIED) is right
    # An alert about a document, or a queue, is not one of those that come once a day.
    assert not refusals._was_told_before(GONE)
    assert not refusals._was_told_before(LARGE)

"""
The checks that a person is told of what stands still, on small histories.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.simulation.checks.standing import Begun, Stand, Standing
from tests.simulation.hub import SECOND

PATH = "onceTasks/aa:DEFAULT:work:a"


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

"""
The programs of durable handlers: the words that one says, in their order. A later deployment has other ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

SORTS = ("run", "run", "retried", "once", "once", "blind", "sleep", "nap", "wait", "timed", "value", "transaction")
"""Sorts of words; each has a method ``_{sort}`` in the history. Those of children, lists and pages are in ``families``."""
_DELAYS = {
    "nap": (1.0, 3.0),
    "sleep": (40.0, 300.0, 1500.0),
    "timed": (60.0, 400.0),
    "retried": (1.0, 2.0, 45.0),
    "poll": (3.0, 90.0),
}


class Word(NamedTuple):
    """
    One word of a program.

    Attributes:
        sort: Its sort.
        name: Its name.
        delay: Seconds that it sleeps, waits, or is away between two tries.
    """

    sort: str
    name: str
    delay: float


def program(seed: int, task: str, words: int, version: int, sorts: Sequence[str] = SORTS) -> tuple[Word, ...]:
    """
    The words that the handler of *task* says, of *sorts*, in the deployment *version*: 0 is the first one. A later one has
    dropped some, added some, and has others in another order.
    """
    draw = random.Random(f"program {seed} {task}")
    found = [_drawn(draw, f"{number}", sorts) for number in range(draw.randint(1, words))]
    if not version:
        return tuple(found)
    draw = random.Random(f"edit {seed} {task} {version}")
    found = [word for word in found if draw.random() < 0.85]
    for number in range(draw.randint(0, 2)):
        found.insert(draw.randint(0, len(found)), Word("run", f"run added {version} {number}", 2.0))
    if len(found) > 1 and draw.random() < 0.5:
        at = draw.randrange(len(found) - 1)
        found[at : at + 2] = [found[at + 1], found[at]]
    return tuple(found)


def _drawn(draw: random.Random, number: str, sorts: Sequence[str]) -> Word:
    sort = draw.choice(sorts)
    return Word(sort, f"{sort} {number}", draw.choice(_DELAYS.get(sort, (2.0,))))

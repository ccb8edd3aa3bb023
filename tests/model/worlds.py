"""
Two worlds of tasks: a chain of one entity, and two once-tasks that need the same resource key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gcp_oncetask.rules.document_paths import key_path
from tests.model import documents
from tests.model.replay import Answer, Call, Request, run
from tests.model.tasks import TaskWorld

PATH: Final = "jobs/a"
KEY: Final = "k"
TASKS: Final = ("onceTasks/00:work:DEFAULT:1", "onceTasks/00:work:DEFAULT:2")
_Docs = tuple[tuple[str, int], ...]


def _made(call: Call, docs: _Docs, stamp: int) -> tuple[_Docs, bytes]:
    """
    Run *call*, which makes a document; returns the documents, and the body of its delivery.
    """
    answers: tuple[Answer, ...] = ()
    body = b""
    while isinstance(asked := run(call, answers), Request):
        value = None
        if asked.kind == "commit":
            done = documents.commit(docs, asked.value, 0, stamp)
            assert done is not None
            docs, value = done
        elif asked.kind == "create":
            body = asked.value
        answers = (*answers, Answer(asked.kind, 0, None, value))
    return docs, body


def chain(**options: Any) -> TaskWorld:
    """
    Return the world of one chain.
    """
    docs, body = _made(Call("schedule", (PATH,), 1, 0), ((PATH, documents.MISSING),), 0)
    return TaskWorld(docs, (body,), **options)


def shared_key(**options: Any) -> TaskWorld:
    """
    Return the world of two tasks that need the same key.
    """
    key = key_path("DEFAULT", KEY)
    docs: _Docs = tuple(sorted((path, documents.MISSING) for path in (*TASKS, key)))
    bodies = []
    for at, path in enumerate(TASKS):
        docs, body = _made(Call("create", (path, KEY), at + 1, 0), docs, at)
        bodies.append(body)
    return TaskWorld(docs, tuple(bodies), key=key, steps_of_chain=1, **options)


WORLDS: Final[dict[str, Callable[[], TaskWorld]]] = {
    "one step": lambda: chain(steps_of_chain=1, last=5, budget=1),
    "two steps": lambda: chain(steps_of_chain=2, last=2, budget=1),
    "shared key": lambda: shared_key(last=1, budget=0),
}
"""The worlds that ``make test`` explores: five instants are enough for a takeover without evidence."""
LARGE: Final[dict[str, Callable[[], TaskWorld]]] = {
    "one step, two faults": lambda: chain(steps_of_chain=1, last=5, budget=2),
    "two steps, all of the time": lambda: chain(steps_of_chain=2, last=5, budget=1),
    "two steps, two faults": lambda: chain(steps_of_chain=2, last=2, budget=2),
    "shared key, a takeover": lambda: shared_key(last=3, budget=0),
    "shared key, a person": lambda: shared_key(last=1, budget=1, faults=("freed key",)),
}
"""Those that ``make test-all`` explores beside them."""

"""
People among the sessions of workers: they delete their documents, and damage them, at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask.store.codec import encode
from tests.simulation.clients import ROOT
from tests.support.damages import FAR

if TYPE_CHECKING:
    from tests.simulation.workers.checker import Session
    from tests.simulation.workers.history import WorkersHistory

FIELDS: dict[str, tuple[Any, ...]] = {
    "id": (DELETE_FIELD, 7),
    "kinds": (DELETE_FIELD, None, "pulledwork", 7, [], ["other"]),
    "beatAt": (DELETE_FIELD, None, "noon", FAR),
    "ttlSeconds": (DELETE_FIELD, None, "long", -60, float("nan"), 1e300),
    "live": (DELETE_FIELD, 7, "nonsense"),
    "env": (DELETE_FIELD, 7),
    "expireAt": (DELETE_FIELD, None),
}
"""What is written into a field, or that it is removed."""


def set_up(history: WorkersHistory) -> None:
    """
    Let them begin.
    """
    if history.plan.has("sessions"):
        history.hub.spawn(history.world.cloud, _meddle, history)


def _meddle(history: WorkersHistory) -> None:
    world, draw = history.world, history.draw
    while world.trouble:
        history.hub.sleep(draw.expovariate(1 / 40))
        for session in list(history.checker.sessions.values()):
            if session.ended or not session.there or not world.hit("sessions", 0.3):
                continue
            if draw.random() < 0.4:
                world.counts["sessions deleted by a person"] += 1
                world.write(delete=ROOT + session.path)
            else:
                _damage(history, session)


def _damage(history: WorkersHistory, session: Session) -> None:
    world, draw = history.world, history.draw
    field = draw.choice(list(FIELDS))
    value = draw.choice(FIELDS[field])
    fields = {} if value is DELETE_FIELD else {field: encode(value)}
    world.counts["sessions damaged"] += 1
    world.tell("a person", f"damages {field} of {session.path}: {value!r:.40}")
    world.write(
        update={"name": ROOT + session.path, "fields": fields},
        update_mask={"field_paths": [field]},
        current_document={"exists": True},
    )

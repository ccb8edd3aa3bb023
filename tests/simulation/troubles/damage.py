"""
People who damage records by hand, without knowing it, and repair them once they are told: by hand or by ``reset``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from google.cloud.firestore import DELETE_FIELD

from gcp_oncetask import AlreadyScheduledError, DamagedError, OncetaskError, Status
from gcp_oncetask.observe.alerts import Alert
from gcp_oncetask.rules import expires_at
from gcp_oncetask.rules.record import STORED_NAMES
from gcp_oncetask.store.codec import encode
from gcp_oncetask.store.lock_codec import decode_lock
from tests.simulation.clients import ROOT
from tests.simulation.hub import SECOND
from tests.simulation.world import Process
from tests.support.damages import DAMAGES, Damage
from tests.support.released import NEW

if TYPE_CHECKING:
    from tests.simulation.chains.history import History
    from tests.simulation.tasks.history import TasksHistory

_LOST = {"due", "parked"}
"""Without these nothing finds the record any more but a delivery."""
_BY_HAND = {"url", "queue", "key", "env"}
"""What a reset knows nothing of."""


def set_up(history: History) -> None:
    """
    Let them begin.
    """
    if history.plan.has("damages"):
        history.hub.spawn(history.world.cloud, _damage_some, history, set[Any]())


def set_up_keys(history: TasksHistory) -> None:
    """
    Let those begin that damage resource keys.
    """
    if history.plan.has("key_damages"):
        history.hub.spawn(history.world.cloud, _damage_keys, history)


def _damage_keys(history: TasksHistory) -> None:
    """
    Damage the documents of resource keys, held and free; nobody makes these anew by a call.
    """
    world, checker, before = history.world, history.checker, set[Any]()
    while world.trouble:
        history.hub.sleep(history.draw.expovariate(1 / 120))
        for path, key in list(checker.keys.items()):
            once = (path, key.lock.sequence, key.lock.token)
            if path in checker.damages.now or once in before or not world.hit("key_damages", 0.3):
                continue
            before.add(once)
            world.counts["keys damaged"] += 1
            world.counts["keys damaged while they are held"] += key.lock.status is Status.LEASED
            _damage(history, path, _how(history, key.lock.status))


def _how(history: History, status: Status) -> Damage:
    # The release before does not see that a value is damaged that it does not know, and goes on.
    unseen = _LOST | ({STORED_NAMES[name] for name in NEW} if history.plan.has("versions") else set[str]())
    return history.draw.choice([how for how in DAMAGES if status in how.statuses and how.field not in unseen])


def _damage_some(history: History, before: set[Any]) -> None:
    world, hub, draw, checker = history.world, history.hub, history.draw, history.checker
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 120))
        for path, lock in list(checker.locks.items()):
            live = lock.status in (Status.SCHEDULED, Status.LEASED) and not lock.paused
            once = (path, lock.sequence, lock.token)
            # The same damage of the same record is told once.
            if not live or path in checker.damages.now or once in before:
                continue
            if world.hit("damages", 0.2):
                before.add(once)
                _damage(history, path, _how(history, lock.status))


def _damage(history: History, path: str, how: Damage) -> None:
    world, checker, known = history.world, history.checker, len(history.world.alerts)
    kept = strike(history, path, how)
    if kept is None:
        return
    world.counts["records damaged"] += 1
    lock = checker.locks.get(path)
    world.counts["records damaged while they run"] += lock is not None and lock.status is Status.LEASED
    world.counts["records with a key damaged"] += lock is not None and lock.key is not None
    world.counts["generators and their occurrences damaged"] += history.recurs(path)
    history.hub.spawn(world.cloud, _repair, history, path, how, kept, known)


def strike(history: History, path: str, how: Damage) -> dict[str, Any] | None:
    """
    Damage the record at *path*. Returns the values that were there; None if they were no other ones.
    """
    world = history.world
    document = world.stored(path)
    whole = document.fields["lock"].map_value.fields
    names = names_of(how)
    changes = {how.field: how.value} | dict(how.also)
    written = {name: encode(value) for name, value in changes.items() if value is not DELETE_FIELD}
    if not _is_damage(document, path, names, written):
        # This record may have that value.
        return None
    history.checker.damages.now[path] = whole
    history.checker.damages.struck[path] += 1
    write(history, path, names, written)
    world.tell("a person", f"damages {how.field} of {path}: {how.value!r:.40}")
    return {name: whole[name] for name in names if name in whole}


def names_of(how: Damage) -> tuple[str, ...]:
    """
    The attributes that are changed.
    """
    return (how.field, *(name for name, _ in how.also))


def _is_damage(document: Any, path: str, names: tuple[str, ...], written: dict[str, Any]) -> bool:
    changed = type(document)()
    changed.CopyFrom(document)
    fields = changed.fields["lock"].map_value.fields
    for name in names:
        fields.pop(name, None)
    for name, value in written.items():
        fields[name].CopyFrom(value)
    try:
        decode_lock(changed, path)
    except DamagedError:
        return True
    return False


def write(history: History, path: str, names: tuple[str, ...], fields: Any) -> None:
    """
    Write *fields* of the record by hand, and remove those of *names* that are missing in them.
    """
    lock = {"lock": {"map_value": {"fields": fields}}} if fields else {"lock": {"map_value": {}}}
    mask = {"field_paths": [f"lock.{name}" for name in names]}
    history.world.write(
        update={"name": ROOT + path, "fields": lock}, update_mask=mask, current_document={"exists": True}
    )


def _repair(history: History, path: str, how: Damage, kept: Any, known: int) -> None:
    """
    Wait until a mail tells of it; then repair it, unless the record has been made anew meanwhile, and damaged once more.
    """
    world, hub, draw, damages = history.world, history.hub, history.draw, history.checker.damages
    struck = damages.struck[path]
    while not any(_tells(history, alert, path) for alert in world.alerts[known:]):
        hub.sleep(30)
        if path not in damages.now:
            return
        if not world.trouble and history.is_unused(path):
            break
    world.counts["damages told"] += any(_tells(history, alert, path) for alert in world.alerts[known:])
    hub.sleep(draw.expovariate(1 / 60))
    if path in history.checker.locks and draw.random() < 0.5 and how.field not in _BY_HAND and _reset(history, path):
        world.counts["records made anew"] += 1
        return
    if path in damages.now and damages.struck[path] == struck:
        world.tell("a person", f"repairs {path}")
        world.counts["records repaired by hand"] += 1
        write(history, path, names_of(how), kept)


def _tells(history: History, alert: Alert, path: str) -> bool:
    # The release before sends a digest as an alert about the document of the digest, in which a person finds the others.
    listed = history.watch.alerts.listed(alert.document)
    first = f"{path}: its lock is damaged" in alert.reason
    return first or (alert.damaged and path in (alert.document, *alert.documents, *listed))


def _reset(history: History, path: str) -> bool:
    """
    Make the record anew, when its last lease is surely over.
    """
    hub, checker = history.hub, history.checker
    lock, new_key = checker.locks.get(path), False
    if lock is None:
        return True
    life = checker.lives[path]
    if lock.status is Status.LEASED:
        # Where the damage hides its end, the library can't know it.
        until = expires_at(lock) + timedelta(seconds=1)
        hub.sleep(max(0.0, (until - hub.time()).total_seconds()))
    # A call of a process that sleeps may come when another one has made it anew, and that has failed.
    checker.revivals.reset.add(path)
    end = hub.now + 3600 * SECOND
    while path in checker.damages.now and checker.lives[path] == life and hub.now < end:
        # It may have been made anew meanwhile, and damaged once more.
        step = checker.locks[path].step
        told = history.on_some(partial(_anew, history=history, path=path, step=step, new_key=new_key))
        if isinstance(told, DamagedError) and "new_key" in str(told):
            new_key = True
            checker.idempotency.renewed.add(path)
        elif isinstance(told, OncetaskError) and not isinstance(told, DamagedError | AlreadyScheduledError):
            history.world.counts["resets of damaged records refused"] += 1
        hub.sleep(20)
    return path not in checker.damages.now


def _anew(process: Process, *, history: History, path: str, step: int, new_key: bool) -> Any:
    history.checker.damages.asked(process, path)
    return process.locker.reset_path(path, step=step, new_key=new_key)

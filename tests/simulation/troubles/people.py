"""
People around chains and once-tasks: they delete and reset documents, call the verbs with entities that they loaded long ago, and
resolve quarantines in every way, and dismiss what has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gcp_emulator.rpc import RpcError
from gcp_emulator.tasks.messages import DeleteTaskRequest, PurgeQueueRequest
from gcp_oncetask import (
    AlreadyFinishedError,
    AlreadyScheduledError,
    LockBusyError,
    OncetaskError,
    Status,
    StoreError,
    TaskNotFoundError,
)
from gcp_oncetask.entities.acted import SAME
from tests.simulation.clients import ROOT
from tests.simulation.hub import SECOND
from tests.simulation.world import QUEUE, Process

if TYPE_CHECKING:
    from tests.simulation.chains.history import History

_TOLD = (AlreadyFinishedError, AlreadyScheduledError, LockBusyError, StoreError, TaskNotFoundError)
"""What a call may be refused with whose entity is out of date."""


def set_up(history: History) -> None:
    """
    Let them begin.
    """
    hub, cloud, plan = history.hub, history.world.cloud, history.plan
    if plan.has("resolves"):
        hub.spawn(cloud, _resolve, history)
        hub.spawn(cloud, _dismiss, history)
    if plan.has("purges"):
        hub.spawn(cloud, _purge, history)


def set_up_chains(history: History) -> None:
    """
    Let those begin that change entities.
    """
    hub, cloud, plan = history.hub, history.world.cloud, history.plan
    for path in history.chains:
        if plan.has("outsiders"):
            hub.spawn(cloud, _call_from_outside, history, path)
        if plan.has("deletes"):
            hub.spawn(cloud, _delete, history, path)
        if plan.has("resets"):
            hub.spawn(cloud, _reset, history, path)


def _resolve(history: History) -> None:
    """
    Decide about what is quarantined, two at once now and then; or leave it for a while.
    """
    world, hub, draw, checker = history.world, history.hub, history.draw, history.checker
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 60))
        for path, lock in list(checker.locks.items()):
            if lock.status is Status.QUARANTINED and world.hit("resolves", 0.5):
                leave(history, path)
                for drawn in draw.sample(("run", "complete", "fail", "cancel", "reset"), draw.choice((1, 1, 2))):
                    how = decided(history, drawn)
                    checker.by_hand.add(path)
                    checker.asked(path)
                    checker.revivals.reset.add(path)
                    world.counts[f"resolved amid troubles: {how}"] += 1
                    world.tell("a person", f"resolves {path}: {how}")
                    hub.spawn(world.cloud, history.on_some, verb(history, path, how))


def decided(history: History, how: str) -> str:
    """
    In place of *how* the finding that the step has happened, now and then. It has draws of its own, so that a history plays as it
    did until a person decides.
    """
    if how in ("run", "complete") and history.findings.random() < 0.4:
        return "happened, and goes on" if how == "run" else "happened, and ends"
    return how


def verb(history: History, path: str, how: str) -> Callable[[Process], Any]:
    """
    A call by which a person leads the record at *path* out of where it is.
    """

    if how.startswith("happened"):
        history.checker.revivals.happened.add(path)

    def call(process: Process) -> Any:
        match how:
            case "cancel":
                return process.locker.cancel_path(path)
            case "reset":
                history.checker.damages.asked(process, path)
                return process.locker.reset_path(path)
            case "happened, and goes on":
                params = history.checker.locks[path].params
                return process.locker.resolve_path(path, "happened", next=SAME, params=params, result="found")
            case "happened, and ends":
                return process.locker.resolve_path(path, "happened", end=True, result="found")
        return process.locker.resolve_path(path, how)

    return call


def _dismiss(history: History) -> None:
    """
    Take failed records off the list of those that need a person: in one history of four amid the troubles, in the others
    when the troubles are over.
    """
    world, hub, checker, draw = history.world, history.hub, history.checker, history.findings
    amid = draw.random() < 0.25
    closing: int | None = None
    # The lists are looked at 1200 s after all has ended, and a call may take a while.
    while not history.over:
        hub.sleep(draw.expovariate(1 / 240))
        closing = hub.now + 600 * SECOND if history.ended and closing is None else closing
        if closing is not None and hub.now >= closing:
            return
        if world.trouble and not amid:
            continue
        for path, lock in list(checker.locks.items()):
            if lock.status is not Status.FAILED or draw.random() < 0.5:
                continue
            seen = (checker.lives[path], lock.sequence)
            checker.dismissing.add(path)
            checker.asked(path)
            told = history.on_some(lambda process, path=path: _dismissed(process, path))
            world.tell("a person", f"dismisses {path}: {told}")
            if told is True and path in checker.locks and seen == (checker.lives[path], checker.locks[path].sequence):
                checker.dismissed[path] = seen
                world.counts["dismissed"] += 1


def _dismissed(process: Process, path: str) -> bool:
    process.locker.dismiss_path(path)
    return True


def leave(history: History, path: str) -> None:
    """
    Leave what is quarantined for a while, in which an old Cloud Task of it is delivered once more.
    """
    name = path.rpartition("/")[2]
    records = [record for record in history.world.tasks.dispatches if name.encode() in record.dispatch.body]
    if records:
        history.world.counts["stale deliveries while quarantined"] += 1
        history.hub.spawn(history.world.cloud, history.world.tasks.redeliver, records[-1])
        history.hub.sleep(20)


def _purge(history: History) -> None:
    """
    Purge the queue, or delete a Cloud Task of it.
    """
    world, hub, draw = history.world, history.hub, history.draw
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 120))
        tasks = world.tasks.tasks(QUEUE)
        if not tasks or not world.hit("purges", 0.5):
            continue
        if draw.random() < 0.4:
            world.tell("a person", f"purges the queue of {len(tasks)} Cloud Tasks")
            world.counts["queues purged"] += 1
            world.tasks.service.call("PurgeQueue", PurgeQueueRequest(name=QUEUE))
            continue
        world.counts["Cloud Tasks deleted"] += 1
        try:
            world.tasks.service.call("DeleteTask", DeleteTaskRequest(name=draw.choice(tasks).name))
        except RpcError:
            # Its delivery has just ended.
            continue


def _delete(history: History, path: str) -> None:
    """
    Delete a document and all that its handlers wrote, whoever runs it; half of them are made again.
    """
    world, hub, draw, checker = history.world, history.hub, history.draw, history.checker
    hub.sleep(draw.random() * history.plan.minutes * 90)
    if not world.trouble or path not in checker.locks or not world.hit("deletes", 0.5):
        return
    world.write(delete=ROOT + path)
    world.write(delete=f"{ROOT}moves/{path.removeprefix('jobs/')}")
    if draw.random() < 0.7:
        hub.sleep(draw.expovariate(1 / 20))
        history.produce(path)


def _reset(history: History, path: str) -> None:
    """
    Run what has failed, or was cancelled, once more.
    """
    world, hub, draw, checker = history.world, history.hub, history.draw, history.checker
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 300))
        lock = checker.locks.get(path)
        if lock is not None and lock.finished and world.hit("resets", 0.5):
            checker.revivals.reset.add(path)
            checker.asked(path)
            history.on_some(verb(history, path, "reset"))


def _call_from_outside(history: History, path: str) -> None:
    """
    A program loads the entity, works for a while, and schedules, completes or cancels it.
    """
    world, hub, draw = history.world, history.hub, history.draw
    while world.trouble:
        hub.sleep(draw.expovariate(1 / 60))
        if path in history.checker.locks and world.hit("outsiders", 0.6):
            pause, how = draw.choice((0.0, 5.0, 60.0, 300.0)), draw.choice(("schedule", "complete", "schedule anew"))
            told = history.on_some(lambda process, pause=pause, how=how: _one_call(history, process, path, pause, how))
            if isinstance(told, OncetaskError) and not isinstance(told, _TOLD):
                history.checker.broken(path, f"{how} from outside was refused with {type(told).__name__}: {told}")


def _one_call(history: History, process: Process, path: str, pause: float, how: str) -> str:
    checker, locker, world = history.checker, process.locker, history.world
    job = history.loaded(process, path)
    if job is None:
        return "gone"
    life, sequence = checker.lives[path], job.lock.sequence
    history.hub.sleep(pause)
    world.tell(process.name, f"{how} of {path} from outside, loaded at sequence {sequence}")
    match how:
        case "schedule":
            job.count = 0
            checker.revivals.scheduled.add((path, life, sequence))
            locker.schedule(job, "/run")
        case "complete":
            checker.revivals.completed.add((path, life, sequence))
            locker.complete(job, result="from outside")
        case _:
            locker.schedule(type(job)(id=job.id, steps=job.steps), "/run")
            world.counts["made again from outside"] += 1
            return how
    world.counts[f"{how} from outside"] += 1
    return how

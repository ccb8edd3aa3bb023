"""
Batches of writes of which some fail: each write of a BatchWrite has a status of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from gcp_emulator.rpc import Service

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_WITHOUT_EFFECT = (
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.PERMISSION_DENIED,
)
_IN_DOUBT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)


def applied(world: World, process: Process, service: Service, request: Any) -> tuple[Any, Any]:
    """
    Apply a batch of *process*, of which single writes may fail, or take effect though their status says otherwise.

    Returns:
        The answer, and the request with the writes that took effect alone.
    """
    fates = [_fate(world, process, write) for write in request.writes]
    part = type(request)(database=request.database)
    part.writes.extend(write for write, (_, done) in zip(request.writes, fates, strict=True) if done)
    given = service.call("BatchWrite", part)
    answer, place = type(given)(), 0
    for code, done in fates:
        result, status = answer.write_results.add(), answer.status.add()
        if code is not None:
            status.code, status.message = code.value[0], "refused by the simulation"
        elif done:
            result.CopyFrom(given.write_results[place])
            status.CopyFrom(given.status[place])
        place += done
    _tell(world, process, request, answer)
    return answer, part


def _tell(world: World, process: Process, request: Any, answer: Any) -> None:
    """
    The process is told of each write that has failed, as of a commit.
    """
    for write, status in zip(request.writes, answer.status, strict=True):
        if status.code:
            alone = type(request)(database=request.database, writes=[write])
            world.failed(process, "Commit", alone, _CODES[status.code])
            world.refusals.ever = world.refusals.ever or _CODES[status.code] is grpc.StatusCode.PERMISSION_DENIED
    if any(map(_is_shared, request.writes)):
        world.counts["calls shared"] += 1
        world.counts["writes that shared a call"] += len(request.writes)


def _is_shared(write: Any) -> bool:
    """
    Whether it is a claim or the end of a lease: those are sent together only if their callers share a call.
    """
    return "lock.status" in write.update_mask.field_paths


def holders(writes: Iterable[Any]) -> set[str]:
    """
    Nonces that *writes* grant leases to.
    """
    locks = [write.update.fields["lock"].map_value for write in writes if "lock" in write.update.fields]
    return {lock.fields["holder"].string_value for lock in locks if "holder" in lock.fields}


def _fate(world: World, process: Process, write: Any) -> tuple[grpc.StatusCode | None, bool]:
    """
    What the caller is told of *write*, and whether it takes effect.
    """
    if not world.hit("failed_writes", 0.25):
        return None, True
    done = world.hub.rng.random() < 0.4
    code = world.hub.rng.choice(_IN_DOUBT if done else _WITHOUT_EFFECT)
    how = "in doubt" if done else "without effect"
    world.counts[f"single writes failed {how}"] += 1
    world.tell(process.name, f"the single write of {write.update.name or write.delete} fails {how}: {code.name}")
    process.unheard |= holders([write]) if done else set()
    return code, done

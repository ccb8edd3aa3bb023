"""
The periodic pass over due documents: dispatch again, judge expired leases, send owed alerts, remind people. It never runs user
code, and any number of sweeps may run at once.
"""

from __future__ import annotations

from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import ConfigError, StoreError
from gcp_oncetask.execution import endpoint
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.recovery import sweep as sweeping
from gcp_oncetask.recovery.sweep import Swept
from gcp_oncetask.reminders.slots import remind
from gcp_oncetask.rules.document_paths import LOCKS
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders
from gcp_oncetask.runtime.runtime import Runtime

__all__ = ["Swept", "sweep"]


def sweep(locker: Locker, *, collections: tuple[str, ...] | None = None, limit: int = 10_000) -> Swept:
    """
    Sweep all due documents; then send the mail about all records that still need a person, if it is due.

    If the query of a collection fails, the others are swept all the same; the error is logged at once and raised at the
    end.

    Args:
        locker: Gives the environment and the database.
        collections: Paths or templates; None: the library's own, those in which a process of this environment has scheduled,
            those of the models known to this process and those configured.
        limit: Most documents; the rest is left to the next sweep.

    Raises:
        ConfigError: No project is known; or a document needs a Cloud Task, and the account of its identity token is not
            known.
        StoreError: Firestore was unreachable or refused a query. The rest of the sweep was done; ``swept`` has its results.
    """
    runtime = runtime_of(locker)
    try:
        swept = sweeping.sweep(runtime, collections=collections, limit=limit)
    except StoreError as error:
        if "swept" in error.facts:
            _remind(runtime, error.swept)
        raise
    _remind(runtime, swept)
    return swept


def _remind(runtime: Runtime, swept: Swept) -> None:
    # A sweep of chosen collections leaves the library's own documents alone.
    if LOCKS in swept.collections:
        swept.reminded = remind(runtime)


def serve_sweep(locker: Locker, request: endpoint.IncomingRequest) -> endpoint.Answer:
    """
    Verify the caller, sweep, and answer with the results.
    """
    refused = endpoint.denied(runtime_of(locker), request, TaskHeaders())
    if refused is not None:
        return refused
    try:
        swept = sweep(locker)
    except (StoreError, ConfigError) as error:
        LOGGER.error("the sweep failed: %s", error)
        return endpoint.Answer({"error": str(error)}, endpoint.OUTCOME_STATUS[Outcome.UNAVAILABLE])
    return endpoint.Answer({name: getattr(swept, name) for name in swept.__slots__}, 200)

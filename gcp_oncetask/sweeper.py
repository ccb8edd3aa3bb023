"""
The periodic pass over due documents: dispatch again, judge expired leases, send owed alerts. It never runs user code, and
any number of sweeps may run at once.
"""

from __future__ import annotations

from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import ConfigError, StoreError
from gcp_oncetask.execution import endpoint
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.recovery import sweep as sweeping
from gcp_oncetask.recovery.sweep import Swept
from gcp_oncetask.rules.outcome import Outcome
from gcp_oncetask.rules.task_headers import TaskHeaders

__all__ = ["Swept", "sweep"]


def sweep(locker: Locker, *, collections: tuple[str, ...] | None = None, limit: int = 10_000) -> Swept:
    """
    Sweep all due documents.

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
    return sweeping.sweep(runtime_of(locker), collections=collections, limit=limit)


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

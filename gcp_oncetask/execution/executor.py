"""
The parts that pushed deliveries, workers, batches and ``@once`` share to run user code.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from gcp_oncetask.clock import Mark
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.execution.attempt import Middleware
from gcp_oncetask.execution.held_lease import HeldLease
from gcp_oncetask.execution.renewal import Renewals
from gcp_oncetask.execution.running import RunningAttempt
from gcp_oncetask.rules.decisions import Settlement, SettlementKind
from gcp_oncetask.runtime.runtime import Runtime


class Executor:
    """
    Runs user code under leases.

    Args:
        runtime: Shared parts of the deployment.
        middleware: Functions that run around each handler, the first one outermost.

    Attributes:
        renewals: Renews the leases of running attempts.
        attempts: The attempts that run in this process. One document may have two, one of which has lost its lease.
    """

    def __init__(self, runtime: Runtime, middleware: Sequence[Middleware] = ()) -> None:
        self.runtime: Final = runtime
        self.middleware: Final = tuple(middleware)
        self.renewals = Renewals(runtime.clock)
        self.attempts: Final[dict[RunningAttempt, None]] = {}

    def hand_back(self, paths: Collection[str]) -> int:
        """
        Release the leases of the attempts at *paths* that run in this process, and of the riders in their batches. No
        attempt is burned, and their handlers can write nothing more.

        Returns:
            Number of released leases.
        """
        released = 0
        here = [one for one in list(self.attempts) if (one.leader or one).context.document in paths]
        # The leader is last. It gives back the resource key, which its riders use.
        for attempt in sorted(here, key=lambda one: one.leader is None):
            try:
                attempt.settle(Settlement(kind=SettlementKind.RELEASE, nonce=self.runtime.clock.nonce()))
                released += 1
            except OncetaskError as error:
                attempt.context.log(logging.WARNING, "it could not be handed back: %s", error)
        return released

    @contextmanager
    def renewed(self, lease: HeldLease, since: Mark) -> Iterator[None]:
        """
        Renew *lease*, which was granted or renewed at *since*, while the context is entered.
        """
        self.renewals.add(lease, lease.policy.lease, since)
        try:
            yield
        finally:
            self.renewals.remove(lease)

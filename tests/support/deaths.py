"""
A cloud on which the process of a handler dies before or right after chosen remote calls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gcp_emulator.rpc import Service
from gcp_oncetask.testing.checking import PlayCloud
from gcp_oncetask.testing.watching_plays import Died, PlayWatch


class Death(NamedTuple):
    """
    One death of a process.

    Attributes:
        when: ``before`` a remote call, or right ``after`` it: it is applied, and nobody hears of it.
        number: Number of the remote call among those of all deliveries, 1-based.
    """

    when: str
    number: int


class DeathWatch(PlayWatch):
    """
    Lets processes die.

    Attributes:
        left: The deaths that have not come yet.
    """

    def __init__(self, *deaths: Death) -> None:
        super().__init__(None, [], {})
        self.left = set(deaths)

    def remote_call(self, method: str) -> None:
        if not self.delivering:
            return
        if self.dead:
            raise Died
        self.remote.append(method)
        self._fall("before")

    def answered(self) -> None:
        """
        A remote call has been applied, and its caller does not know that yet.
        """
        if self.delivering and not self.dead:
            self._fall("after")

    def _fall(self, when: str) -> None:
        death = Death(when, len(self.remote))
        if death in self.left:
            self.left.remove(death)
            self.die()


class DeadlyCloud(PlayCloud):
    """
    A cloud of one play, with the deaths of *watch*.
    """

    def __init__(self, watch: DeathWatch) -> None:
        super().__init__(watch)
        channel = self.local.channel
        through = channel._via

        def via(service: Service, name: str, request: Any, timeout: float | None) -> Any:
            answer = through(service, name, request, timeout)
            if service is not self.local.logging.service:
                watch.answered()
            return answer

        channel._via = via

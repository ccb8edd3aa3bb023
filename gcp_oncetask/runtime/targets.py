"""
The allow-list: the origins to which tasks may go, each with the audience of its identity tokens, and the projects in which
their queues may be. The list is checked before each Cloud Task is made, for any author of the URL, queue and headers.

An origin is allowed if it is that of ``ONCETASK_BASE_URL``, is one of ``ONCETASK_TARGETS``, or was registered (see
``store.registry``) by a process in which it is one of these. A queue is allowed in the project of this process, and in that
of ``ONCETASK_QUEUE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from gcp_oncetask.checks import urls
from gcp_oncetask.checks.values import is_queue, shown
from gcp_oncetask.config import Config
from gcp_oncetask.errors import UsageError
from gcp_oncetask.runtime.requirements import Place
from gcp_oncetask.store.registry import Origin, Registry


def configured(config: Config) -> dict[str, str]:
    """
    Return the audiences of the origins that *config* allows, by origin.
    """
    found: dict[str, str] = {}
    if config.base_url is not None and (origin := urls.origin_of(config.base_url)) is not None:
        # The service's own verifier accepts this audience.
        found[origin] = config.audience[0] if config.audience else urls.origin(config.base_url)
    for text in config.targets:
        origin, audience = urls.allowed(text, "ONCETASK_TARGETS")
        if "=" in text or origin not in found:
            found[origin] = audience
    return found


class Exchangeable(Protocol):
    """
    The parts of a process that may be exchanged while it runs.

    Attributes:
        config: Its settings.
        registry: The registry of its environment.
    """

    config: Config
    registry: Registry


class Targets:
    """
    The allow-list of one process.

    Args:
        process: Its settings and its registry.
        place: Its project.
    """

    def __init__(self, process: Exchangeable, place: Place) -> None:
        self._process = process
        self._place = place
        self._config: Config | None = None
        self._own: dict[str, Origin] = {}

    def own(self, url: str | None) -> Origin | None:
        """
        Return the origin of *url* if it is configured in this process, which may register it; else None.
        """
        origin = None if url is None else urls.origin_of(url)
        if origin is None:
            return None
        if self._config is not self._process.config:
            self._read()
        return self._own.get(origin)

    def check(self, url: str, queue: str, headers: Mapping[str, str] | None) -> str:
        """
        Return the audience of the identity token for a Cloud Task for *url* with *headers* in *queue*, a full name.

        Raises:
            UsageError: Such a Cloud Task may not be made; the message names the setting that allows it.
            StoreError: The origin is not configured, and the registry could not be read.
        """
        if headers:
            urls.headers(headers, "headers")
        project = _project_of(queue)
        known = (self._place.known_project, _project_of(self._process.config.queue))
        if project is None or (project not in known and project != self._place.project()):
            raise UsageError(
                f"The queue {shown(queue)} is not in the project {self._place.project()}. A queue of another project must be "
                "in that of ONCETASK_QUEUE, given there by its full name."
            )
        origin = urls.origin_of(url)
        if origin is None:
            raise UsageError(f"{urls.hidden(url)} is no URL to which a task can be delivered.")
        if self._config is not self._process.config:
            self._read()
        own = self._own.get(origin)
        if own is not None:
            return own.audience
        audience = self._process.registry.audience(origin)
        if audience is None:
            raise UsageError(
                f"{shown(origin)} is not where tasks may go: it is neither the origin of ONCETASK_BASE_URL, nor in "
                "ONCETASK_TARGETS, nor registered by a process that has it there. If identity tokens may be sent to it, set "
                f"ONCETASK_TARGETS={origin[:200]} (or {origin[:200]}=AUDIENCE)."
            )
        return audience

    def _read(self) -> None:
        config = self._process.config
        self._own = {origin: Origin(origin, audience) for origin, audience in configured(config).items()}
        self._config = config


@lru_cache
def _project_of(queue: str) -> str | None:
    """
    Return the project of a queue's full name; None if *queue* is not a full name.
    """
    return queue.split("/")[1] if "/" in queue and is_queue(queue) else None

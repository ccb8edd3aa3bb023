"""
The collections of a sweep, and the documents that are due in each of them. A collection whose query fails does not hold up
the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from gcp_oncetask.checks.values import printable
from gcp_oncetask.effects import refused
from gcp_oncetask.errors import StoreError, UsageError
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.document_paths import LOCKS, TASKS
from gcp_oncetask.runtime.runtime import Runtime
from gcp_oncetask.store.codec import Document
from gcp_oncetask.store.indexes import override
from gcp_oncetask.store.queries import areas_of, overdue


class Round:
    """
    One pass over all collections.

    Args:
        runtime: Shared parts.
        collections: Paths or templates; none: the library's own, the registered ones, those of the models known to this
            process and those configured.

    Attributes:
        collections: The collections of the pass.
        pulled: Kinds of once-tasks that have tasks in their workers' lane, due or not; complete at the end of the pass.
    """

    def __init__(self, runtime: Runtime, collections: Iterable[str] | None = None) -> None:
        self._runtime = runtime
        self._failures: list[StoreError] = []
        self.pulled: set[str] = set()
        self.collections: tuple[str, ...] = tuple(collections or self._known())

    def all_due(self) -> Iterator[tuple[Document, datetime]]:
        """
        Yield the documents that are due, collection by collection, each with the time of the read.
        """
        for area in areas_of(self.collections):
            try:
                pulled = self.pulled if str(area) == TASKS else None
                yield from overdue(self._runtime.store, area, self._runtime.config.env, pulled=pulled)
            except StoreError as error:
                self._failed(error, str(area), area.name, "lock.due")

    def error(self, **facts: Any) -> StoreError | None:
        """
        Return one error about all queries that failed, with *facts*; None if none failed.
        """
        if not self._failures:
            return None
        first = self._failures[0]
        told = tuple(printable(str(error)) for error in self._failures)
        made = StoreError("\n".join(told), **{**first.facts, **facts, "problems": told})
        made.__cause__ = first.__cause__
        return made

    def _known(self) -> list[str]:
        own = {TASKS, LOCKS}
        found = set(self._runtime.collections)
        try:
            found |= self._registered()
        except StoreError as error:
            self._failed(error, "the registry of collections", LOCKS, "registry")
        if not found and not self._failures:
            LOGGER.info(
                "the sweep knows no collection but the library's own: nothing was ever scheduled in another one"
            )
        return sorted(own | found)

    def _registered(self) -> set[str]:
        registry = self._runtime.registry
        known, now = registry.all()
        found = {each.collection for each in known if each.swept_until is None or now < each.swept_until}
        for collection in (each.collection for each in known if each.forgotten_at and each.collection in found):
            try:
                if (path := registry.due_in(collection)) is not None:
                    registry.remember(collection)
                    LOGGER.warning("%s is not forgotten any more: %s has a due time", collection, path)
            except StoreError as error:
                LOGGER.warning("whether %s may be forgotten is not known: %s", collection, error)
        return found

    def _failed(self, error: StoreError, where: str, group: str, field: str) -> None:
        """
        Note and log a failed query; if an index is missing, with the line that makes it. If Firestore refuses the caller, a
        person is told.
        """
        text = f"{where} can't be looked at: {error}"
        if getattr(error.facts.get("code"), "name", "") == "FAILED_PRECONDITION" and "index" in str(error):
            text = f"{text} {self._remedy(group, field)}"
        LOGGER.error("%s", text)
        made = StoreError(text, **error.facts)
        made.__cause__ = error
        self._failures.append(made)
        if made.final:
            refused.tell(self._runtime, made)

    def _remedy(self, group: str, field: str) -> str:
        named = [] if group == LOCKS else [each for each in self.collections if each.rpartition("/")[2] == group]
        try:
            line = json.dumps(override(group, field, named))
        except UsageError as error:
            return str(error)
        return f'Add to "fieldOverrides" of firestore.indexes.json, and deploy it: {line}'

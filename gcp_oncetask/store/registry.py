"""
The registry of collections: where the chains of an environment are, for sweeps that never imported their models.

A process reads a collection's document before its first schedule there, and creates it if it is missing: so no chain is
committed of which no sweep knows. It reads again after an hour, to learn that the collection was forgotten meanwhile.

Shape:
    onceLocks/{2 hex}:{env}:collection:{template}: ``registry`` (the environment; documents are found by it), ``collection``,
    ``createdAt`` (server time), ``schema``, and, of one that a person has forgotten, ``forgottenAt`` (server time). It has no
    lock, so it is never due.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.documents import BELOW_TASKS, LOCKS, collection_path, fitting
from gcp_oncetask.record import SCHEMA
from gcp_oncetask.store.codec import decode, encode
from gcp_oncetask.store.fates import WireError
from gcp_oncetask.store.queries import areas_of, range_query, with_due
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.store.store import Store

LINGERS: Final = timedelta(days=1)
"""For so long a forgotten collection is still swept: processes that do not know it yet may schedule there."""
_AGAIN: Final = 3600.0
"""Seconds after which a process reads again before it schedules."""
_REQUEST_TIME: Final = 1
_LOGGER: Final = logging.getLogger("gcp_oncetask")


class Registered(NamedTuple):
    """
    A collection that is known to the registry.

    Attributes:
        collection: Its path or template.
        forgotten_at: When a person forgot it; None: nobody did.
    """

    collection: str
    forgotten_at: datetime | None = None

    @property
    def swept_until(self) -> datetime | None:
        """
        When sweeps stop to look at it; None: they go on.
        """
        return None if self.forgotten_at is None else self.forgotten_at + LINGERS


class Registry:
    """
    The collections of one environment, and which of them this process has registered.

    Knows nothing of a parent's that is not true in a forked child, and has no lock that a fork could leave closed.

    Args:
        store: Where.
        clock: Tells when to read again.
        env: Environment.
    """

    def __init__(self, store: Store, clock: Clock, env: str) -> None:
        self._store = store
        self._clock = clock
        self._env = env
        self._looked: dict[str, Mark] = {}

    def register(self, collection: str) -> None:
        """
        Let every sweep of the environment know *collection*; call it before a commit that lets a document there be due.

        One read, at the first call in a process and then once an hour; one write, if it is new or was forgotten.

        Raises:
            StoreError: Firestore was unreachable or refused; nothing may be scheduled there then.
        """
        mark = self._clock.mark()
        looked = self._looked.get(collection)
        if looked is None or elapsed(looked, mark) >= _AGAIN:
            self.remember(collection)
            self._looked[collection] = mark

    def remember(self, collection: str) -> None:
        """
        As ``register``, whatever this process knows.
        """
        self._store.ensure(collection_path(self._env, collection), lambda seen: self._remembered(collection, seen))

    def register_path(self, path: str, templates: Iterable[str] = ()) -> None:
        """
        As ``register``, for the collection of the document at *path*: that of *templates* or of the registry which it fits,
        else its own. Once-tasks need none.
        """
        if path.startswith(BELOW_TASKS):
            return
        known = next((each for each in (*templates, *self._looked) if fitting(each).fullmatch(path)), None)
        if known is None:
            fits = (each.collection for each in self.all()[0] if fitting(each.collection).fullmatch(path))
            known = next(fits, path.rpartition("/")[0])
        self.register(known)

    def all(self) -> tuple[list[Registered], datetime]:
        """
        The registered collections in order, forgotten ones too, and the server's time.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        try:
            documents, read = self._store.wire.run_query(
                range_query(LOCKS, False, "registry", self._env, self._env, limit=0)
            )
        except WireError as error:
            raise error.translated(f"looking at registry in {LOCKS}", unknown=False) from error
        found = []
        for document in documents:
            collection = decode(document.fields["collection"]) if "collection" in document.fields else None
            if not isinstance(collection, str):
                _LOGGER.error("%s registers no collection", self._store.wire.path(document.name))
                continue
            at = decode(document.fields["forgottenAt"]) if "forgottenAt" in document.fields else None
            found.append(Registered(collection, at if isinstance(at, datetime) else None))
        return sorted(found, key=lambda each: each.collection), read or self._store.estimate()

    def due_in(self, collection: str) -> str | None:
        """
        Path of a document of *collection* that has a due time, passed or not; None: there is none.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        [area] = areas_of([collection])
        return with_due(self._store, area, self._env)

    def forget(self, collection: str) -> None:
        """
        Mark a registered collection as forgotten; one that is marked keeps its time, one that is not registered stays so.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        self._store.ensure(collection_path(self._env, collection), self._forgotten)
        self._looked.pop(collection, None)

    def _remembered(self, collection: str, seen: Snapshot) -> Any | None:
        known = seen.fields
        wanted = {"registry": encode(self._env), "collection": encode(collection), "schema": encode(SCHEMA)}
        wrong = [name for name, value in wanted.items() if known.get(name) != value]
        if not wrong and "forgottenAt" not in known:
            return None
        request = self._store.wire.request()
        write = self._store.wire.write(seen.path, request)
        for name in wrong:
            write.update.fields[name].CopyFrom(wanted[name])
        if seen.exists:
            # In the mask and not among the fields: the mark goes.
            write.update_mask.field_paths.extend([*wrong, "forgottenAt"])
            write.current_document.update_time.CopyFrom(seen.version)
        else:
            write.current_document.exists = False
            write.update_transforms.add(field_path="createdAt", set_to_server_value=_REQUEST_TIME)
        return request

    def _forgotten(self, seen: Snapshot) -> Any | None:
        if not seen.exists or "forgottenAt" in seen.fields:
            return None
        request = self._store.wire.request()
        write = self._store.wire.write(seen.path, request)
        write.update_mask.SetInParent()
        write.current_document.update_time.CopyFrom(seen.version)
        write.update_transforms.add(field_path="forgottenAt", set_to_server_value=_REQUEST_TIME)
        return request

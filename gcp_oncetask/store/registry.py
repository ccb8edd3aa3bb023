"""
The registry of an environment. It has the collections of its chains, for sweeps that never imported their models; and the
origins to which its tasks go, for processes in which these are not configured.

Before its first schedule in a collection or to a configured origin, a process reads their documents, and creates them if
they are missing. So sweeps can find and dispatch every committed task. The process reads again after an hour, to learn
whether they were forgotten meanwhile.

Shape:
    onceLocks/{2 hex}:{env}:collection:{template}: ``registry`` (the environment; documents are found by it),
    ``collection``, ``createdAt`` (server time), ``schema``, and ``forgottenAt`` (server time) if a person has forgotten it.
    The document has no lock, so it is never due. onceLocks/{2 hex}:{env}:origin:{origin}: ``registry`` ("{env}/origin"),
    ``origin``, ``audience`` (of the identity tokens that go there), ``createdAt``, ``schema``. The document has no lock
    either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeVar

from gcp_oncetask.checks.urls import allowed
from gcp_oncetask.clock import Clock, Mark, elapsed
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.document_paths import LOCKS, TASKS, collection_path, fitting, origin_path
from gcp_oncetask.rules.record import SCHEMA
from gcp_oncetask.store.codec import Document, decode, encode
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import areas_of, range_query, with_due
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.store.store import Store

DECLARED: Final[dict[str, type]] = {}
"""The models of this process, by the templates of their collections; filled when a class is made."""
T = TypeVar("T")
R = TypeVar("R")
LINGERS: Final = timedelta(days=1)
"""Time for which a forgotten collection is still swept, because processes that do not know it yet may schedule there."""
_AGAIN: Final = 3600.0
"""Seconds after which a process reads again before it schedules."""
_LEAST: Final = 10.0
"""Seconds between two reads for names that are not registered, so that many forged records do not cause as many queries."""
_REQUEST_TIME: Final = 1
_LOGGER: Final = logging.getLogger("gcp_oncetask")


class Registered(NamedTuple):
    """
    A registered collection.

    Attributes:
        collection: Its path or template.
        forgotten_at: Time at which a person forgot it; None: it is not forgotten.
    """

    collection: str
    forgotten_at: datetime | None = None

    @property
    def swept_until(self) -> datetime | None:
        """
        Time at which sweeps stop visiting it; None: they go on.
        """
        return None if self.forgotten_at is None else self.forgotten_at + LINGERS


class Origin(NamedTuple):
    """
    An origin to which tasks may go.

    Attributes:
        origin: The origin, in the form of ``urls.origin_of``.
        audience: Audience of the identity tokens that go there.
    """

    origin: str
    audience: str


class _LookedUp(Generic[T]):
    """
    A part of the registry, as it was read last.
    """

    def __init__(self) -> None:
        self._read: tuple[Mark, T] | None = None

    def find(self, mark: Mark, read: Callable[[], T], pick: Callable[[T], R | None]) -> R | None:
        """
        Return the entry that *pick* finds at *mark*. The part is read again if it is an hour old, or if it is ten seconds
        old and has no such entry.
        """
        known = self._read
        age = _AGAIN if known is None else elapsed(known[0], mark)
        found = pick(known[1]) if known is not None and age < _AGAIN else None
        if found is not None or age < _LEAST:
            return found
        fresh = read()
        self._read = mark, fresh
        return pick(fresh)


class Registry:
    """
    The collections and origins of one environment. It knows which of them this process has registered.

    It may be used in a forked child: all that it knows holds there, and it has no lock that a fork could leave locked.

    Args:
        store: The store.
        clock: Measures the time until the next read.
        env: Environment.
    """

    def __init__(self, store: Store, clock: Clock, env: str) -> None:
        self._store = store
        self._clock = clock
        self._env = env
        self._looked: dict[str | Origin, Mark] = {}
        self._collections = _LookedUp[tuple[list[Registered], datetime]]()
        self._origins = _LookedUp[dict[str, str]]()

    def register(self, collection: str | None, origin: Origin | None = None) -> None:
        """
        Register *collection* and *origin*, unless they are None, so that every sweep of the environment knows them. Call it
        before a commit that makes a document there due. Once-tasks need no collection.

        It costs one read at the first call in a process, and then once an hour; and one write if one of them is new or was
        forgotten.

        Raises:
            StoreError: Firestore was unreachable or refused; do not schedule there.
        """
        mark = self._clock.mark()
        wanted: list[str | Origin] = []
        for each in (collection, origin):
            if each is not None and each != TASKS:
                looked = self._looked.get(each)
                if looked is None or elapsed(looked, mark) >= _AGAIN:
                    wanted.append(each)
        if wanted:
            self._ensure(wanted)
            self._looked.update(dict.fromkeys(wanted, mark))

    def remember(self, collection: str) -> None:
        """
        Register *collection*, even if this process has registered it before.
        """
        self._ensure([collection])

    def _ensure(self, entries: Sequence[str | Origin]) -> None:
        paths = {self._path(each): each for each in entries}
        self._store.ensure(list(paths), lambda seen: self._remembered(paths, seen))

    def template_of(self, path: str, templates: Iterable[str] = (), *, forgotten: bool = False) -> str | None:
        """
        Return the collection in which the document at *path* counts: that of the once-tasks, one of *templates*, or a
        registered one (with *forgotten*, also a forgotten one); None if it counts in none.

        Reads the registry only if necessary, at most once an hour; for an unregistered path at most once in ten seconds.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        mine = (TASKS, *templates, *(each for each in self._looked if isinstance(each, str)))
        if (found := next((each for each in mine if fitting(each).fullmatch(path)), None)) is not None:
            return found

        def fits(known: tuple[list[Registered], datetime]) -> str | None:
            all_, now = known
            swept = (each for each in all_ if forgotten or each.swept_until is None or now < each.swept_until)
            return next((each.collection for each in swept if fitting(each.collection).fullmatch(path)), None)

        return self._collections.find(self._clock.mark(), self.all, fits)

    def audience(self, origin: str) -> str | None:
        """
        Return the audience of the tokens that go to a registered *origin*; None if it is not registered. Reads the registry
        as often as ``template_of``.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        return self._origins.find(self._clock.mark(), self.origins, lambda known: known.get(origin))

    def origins(self) -> dict[str, str]:
        """
        Return the audiences of the registered origins.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        found = {}
        for document in self._entries(self._origin_key)[0]:
            known = {name: decode(document.fields[name]) for name in ("origin", "audience") if name in document.fields}
            origin, audience = known.get("origin"), known.get("audience")
            try:
                sound = allowed(f"{origin}={audience}", "it") == (origin, audience)
            except UsageError:
                sound = False
            if sound:
                found[str(origin)] = str(audience)
            else:
                _LOGGER.error("%s registers no origin", self._store.wire.path(document.name))
        return dict(sorted(found.items()))

    def forget_origin(self, origin: str) -> None:
        """
        Delete the document of *origin*. A process that knows the origin from the registry alone sends no tasks there after
        an hour at most. A process in which it is configured registers it again.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """

        def deletion(seen: Mapping[str, Snapshot]) -> Any | None:
            [snapshot] = seen.values()
            if not snapshot.exists:
                return None
            request = self._store.wire.request()
            request.writes.append(self._store.wire.deletion(snapshot.path, snapshot.version))
            return request

        self._store.ensure([origin_path(self._env, origin)], deletion)
        for each in [each for each in self._looked if isinstance(each, Origin) and each.origin == origin]:
            self._looked.pop(each, None)

    def all(self) -> tuple[list[Registered], datetime]:
        """
        Return the registered collections in order, forgotten ones included, and the server's time.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        documents, read = self._entries(self._env)
        found = []
        for document in documents:
            collection = decode(document.fields["collection"]) if "collection" in document.fields else None
            if not isinstance(collection, str):
                _LOGGER.error("%s registers no collection", self._store.wire.path(document.name))
                continue
            at = decode(document.fields["forgottenAt"]) if "forgottenAt" in document.fields else None
            found.append(Registered(collection, at if isinstance(at, datetime) else None))
        return sorted(found, key=lambda each: each.collection), read or self._store.estimate()

    def _entries(self, key: str) -> tuple[list[Document], datetime | None]:
        try:
            return self._store.wire.run_query(range_query(LOCKS, False, "registry", key, key, limit=0))
        except WireError as error:
            raise error.translated(f"looking at registry in {LOCKS}", unknown=False) from error

    def due_in(self, collection: str) -> str | None:
        """
        Return the path of a document of *collection* that has a due time, passed or not; None if there is none.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        [area] = areas_of([collection])
        return with_due(self._store, area, self._env)

    def forget(self, collection: str) -> None:
        """
        Mark a registered collection as forgotten. A collection that is marked already keeps its time; one that is not
        registered is not added.

        Raises:
            StoreError: Firestore was unreachable or refused.
        """
        self._store.ensure([collection_path(self._env, collection)], self._forgotten)
        self._looked.pop(collection, None)

    @property
    def _origin_key(self) -> str:
        # An environment can't have this name, so releases that don't know origins don't find them.
        return f"{self._env}/origin"

    def _path(self, entry: str | Origin) -> str:
        if isinstance(entry, Origin):
            return origin_path(self._env, entry.origin)
        return collection_path(self._env, entry)

    def _remembered(self, entries: Mapping[str, str | Origin], seen: Mapping[str, Snapshot]) -> Any | None:
        request = self._store.wire.request()
        for path, snapshot in seen.items():
            self._add(entries[path], snapshot, request)
        return request if request.writes else None

    def _add(self, entry: str | Origin, seen: Snapshot, request: Any) -> None:
        if isinstance(entry, Origin):
            texts = {"registry": self._origin_key, "origin": entry.origin, "audience": entry.audience}
        else:
            texts = {"registry": self._env, "collection": entry}
        known = seen.fields
        wanted = {name: encode(text) for name, text in texts.items()}
        if "schema" not in known:
            # An entry keeps the schema with which it was made: two releases would else write it in turns.
            wanted["schema"] = encode(SCHEMA)
        wrong = [name for name, value in wanted.items() if known.get(name) != value]
        if not wrong and "forgottenAt" not in known:
            return
        write = self._store.wire.write(seen.path, request)
        for name in wrong:
            write.update.fields[name].CopyFrom(wanted[name])
        if seen.exists:
            # A field in the mask that is not among the fields is deleted: here the mark.
            write.update_mask.field_paths.extend([*wrong, "forgottenAt"])
            write.current_document.update_time.CopyFrom(seen.version)
        else:
            write.current_document.exists = False
            write.update_transforms.add(field_path="createdAt", set_to_server_value=_REQUEST_TIME)

    def _forgotten(self, read: Mapping[str, Snapshot]) -> Any | None:
        [seen] = read.values()
        if not seen.exists or "forgottenAt" in seen.fields:
            return None
        request = self._store.wire.request()
        write = self._store.wire.write(seen.path, request)
        write.update_mask.SetInParent()
        write.current_document.update_time.CopyFrom(seen.version)
        write.update_transforms.add(field_path="forgottenAt", set_to_server_value=_REQUEST_TIME)
        return request

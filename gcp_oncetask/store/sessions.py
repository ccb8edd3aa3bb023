"""
Sessions of workers: each has one small document, which only its own worker writes.

Shape:
    onceSessions/{2 hex}:{env}:{id}: ``env``, ``id``, ``kinds``, ``host``, ``ttlSeconds``, ``beatAt`` (server time),
    ``live`` (environment and a time after which the session is surely dead; sessions are found by a range of it),
    ``expireAt`` (for Firestore's TTL, long after the session counts as dead). A session that was ended by its worker has
    ``env``, ``id``, ``left`` (environment and time), ``expireAt``; other workers listen for ``left``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from gcp_oncetask.checks.values import LONGEST
from gcp_oncetask.rules.document_paths import AFTER
from gcp_oncetask.rules.statuses import FailureClass
from gcp_oncetask.rules.timestamps import instant, parse_instant
from gcp_oncetask.store.codec import Document, decode, put
from gcp_oncetask.store.failures import WireError
from gcp_oncetask.store.queries import range_query
from gcp_oncetask.store.store import Store

SESSIONS: Final = "onceSessions"
_REQUEST_TIME: Final = 1
_KEPT: Final = timedelta(days=1)
_Session: TypeAlias = tuple[str, tuple[str, ...], datetime, float]


def _path(env: str, id_: str) -> str:
    return f"{SESSIONS}/{hashlib.sha256(id_.encode()).hexdigest()[:2]}:{env}:{id_}"


def beat(store: Store, env: str, id_: str, *, kinds: Sequence[str], host: str, ttl: float, version: Any | None) -> Any:
    """
    Write a heartbeat of the session, on condition that its document still has *version* (None: there is no document yet).
    So a late heartbeat can't revive a session that has ended.

    Returns:
        The new version of the document.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    now, length = store.estimate(), timedelta(seconds=ttl)
    fields: dict[str, Any] = {
        "env": env,
        "id": id_,
        "kinds": list(kinds),
        "host": host,
        "ttlSeconds": ttl,
        # The estimate is a little behind the server's clock; with twice the ttl no living session is left out.
        "live": f"{env}/{instant(now + 2 * length)}",
        "expireAt": now + length + _KEPT,
    }
    request = _request(store, env, id_, fields)
    request.writes[0].update_transforms.add(field_path="beatAt", set_to_server_value=_REQUEST_TIME)
    return _commit(store, request, version, "a worker's heartbeat")


def end(store: Store, env: str, id_: str, version: Any | None) -> None:
    """
    End the session, whose document was last written as *version*, so that its shards are free at once.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    now = store.estimate()
    fields = {"env": env, "id": id_, "left": f"{env}/{instant(now)}", "expireAt": now + _KEPT}
    _commit(store, _request(store, env, id_, fields), version, "ending a worker's session")


def _request(store: Store, env: str, id_: str, fields: Mapping[str, Any]) -> Any:
    request = store.wire.request()
    write = store.wire.write(_path(env, id_), request)
    for name, value in fields.items():
        put(write.update.fields[name], value)
    return request


def _commit(store: Store, request: Any, version: Any | None, what: str) -> Any:
    try:
        try:
            return _on(store, request, version)
        except WireError as error:
            if error.failure is not FailureClass.MOVED:
                raise
            # An earlier commit whose answer was lost was applied, or the document was deleted. No other process writes it.
            return _on(store, request, store.get(store.wire.path(request.writes[0].update.name)).version)
    except WireError as error:
        raise error.translated(what, unknown=False) from error


def _on(store: Store, request: Any, version: Any | None) -> Any:
    condition = request.writes[0].current_document
    if version is None:
        condition.exists = False
    else:
        condition.update_time.CopyFrom(version)
    return store.wire.commit(request).write_results[0].update_time


def all_of(store: Store, env: str, damaged: Callable[[str], object] | None = None) -> tuple[list[_Session], datetime]:
    """
    Return id, kinds, last heartbeat and ttl of each session that may be alive, and the server's time. A damaged session is
    left out, because its worker, if it lives, writes it anew with its next heartbeat; *damaged* is told of its path.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    try:
        documents, read = store.wire.run_query(_since(env, "live", store.estimate()))
    except WireError as error:
        raise error.translated("looking for the workers' sessions", unknown=False) from error
    found = []
    for document in documents:
        session = _decoded(document, read)
        if session is not None:
            found.append(session)
        elif damaged is not None:
            damaged(store.wire.path(document.name))
    return found, read or store.estimate()


def _decoded(document: Document, read: datetime | None) -> _Session | None:
    """
    Return the session in *document*, which was *read* then; None if it is damaged.
    """
    fields = {key: decode(value) for key, value in document.fields.items()}
    id_, kinds, beat_at, ttl = (fields.get(name) for name in ("id", "kinds", "beatAt", "ttlSeconds"))
    if not isinstance(id_, str) or not isinstance(kinds, list) or not isinstance(beat_at, datetime):
        return None
    late = read is not None and beat_at > read
    if late or not isinstance(ttl, int | float) or not 0 < ttl <= LONGEST:
        return None
    return id_, tuple(kinds), beat_at, float(ttl)


class SessionRecord(NamedTuple):
    """
    A session, whether its worker lives or not.

    Attributes:
        id: Its id.
        host: Machine and process; empty: not known.
        kinds: Kinds whose tasks it pulls.
        beat_at: Server time of its last heartbeat; None: its worker has ended it.
        ttl: Seconds after a heartbeat after which it counts as dead.
        left_at: Time at which its worker ended it; None: it has not.
    """

    id: str
    host: str
    kinds: tuple[str, ...]
    beat_at: datetime | None
    ttl: float
    left_at: datetime | None


def described(
    store: Store, env: str, damaged: Callable[[str], object], kept: timedelta = _KEPT
) -> tuple[list[SessionRecord], datetime]:
    """
    Return the sessions that lived within the last time of length *kept*, by two queries, and the server's time. *damaged* is
    told the paths of damaged ones.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    found: dict[str, SessionRecord] = {}
    start = store.estimate() - kept
    for field in ("live", "left"):
        try:
            documents, read = store.wire.run_query(_since(env, field, start))
        except WireError as error:
            raise error.translated("looking for the workers' sessions", unknown=False) from error
        for document in documents:
            record = _record(document, read) if field == "live" else _left(document)
            if record is None:
                damaged(store.wire.path(document.name))
            else:
                found[record.id] = record
    return list(found.values()), read or store.estimate()


def _record(document: Document, read: datetime | None) -> SessionRecord | None:
    session = _decoded(document, read)
    if session is None:
        return None
    id_, kinds, beat_at, ttl = session
    host = decode(document.fields["host"]) if "host" in document.fields else ""
    return SessionRecord(id_, host if isinstance(host, str) else "", tuple(map(str, kinds)), beat_at, ttl, None)


def _left(document: Document) -> SessionRecord | None:
    id_, left = (decode(document.fields[name]) if name in document.fields else None for name in ("id", "left"))
    if not isinstance(id_, str) or not isinstance(left, str):
        return None
    try:
        return SessionRecord(id_, "", (), None, 0.0, parse_instant(left.rsplit("/", 1)[-1]))
    except ValueError:
        return None


def leaving_query(store: Store, env: str) -> Any:
    """
    Return a query to listen to, which shows each session that is ended by its worker from now on.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    return _since(env, "left", store.estimate())


def _since(env: str, field: str, start: datetime) -> Any:
    return range_query(SESSIONS, False, field, f"{env}/{instant(start)}", f"{env}{AFTER}", 0)

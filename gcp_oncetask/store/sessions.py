"""
Sessions of workers: one small document each, written by its own worker alone.

Shape:
    onceSessions/{2 hex}:{env}:{id}: ``env``, ``kinds``, ``host``, ``ttlSeconds``, ``beatAt`` (server time), ``expireAt`` (for
    Firestore's TTL, long after the session counts as dead).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from google.cloud.firestore_v1.types import query as _query

from gcp_oncetask.store.codec import decode, put
from gcp_oncetask.store.store import Store
from gcp_oncetask.store.wire import WireError

SESSIONS: Final = "onceSessions"
_QueryType: Final = _query.StructuredQuery.pb()
_EQUAL, _REQUEST_TIME = 5, 1
_KEPT: Final = timedelta(days=1)


def _path(env: str, id_: str) -> str:
    return f"{SESSIONS}/{hashlib.sha256(id_.encode()).hexdigest()[:2]}:{env}:{id_}"


def beat(store: Store, env: str, id_: str, *, kinds: Sequence[str], host: str, ttl: float) -> None:
    """
    Say that the session is alive.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    request = store.wire.request()
    write = request.writes.add()
    write.update.name = store.wire.name(_path(env, id_))
    fields: dict[str, Any] = {
        "env": env,
        "id": id_,
        "kinds": list(kinds),
        "host": host,
        "ttlSeconds": ttl,
        "expireAt": store.estimate() + timedelta(seconds=ttl) + _KEPT,
    }
    for name, value in fields.items():
        put(write.update.fields[name], value)
    write.update_transforms.add(field_path="beatAt", set_to_server_value=_REQUEST_TIME)
    _commit(store, request, "a worker's heartbeat")


def end(store: Store, env: str, id_: str) -> None:
    """
    The session is over: its shards are free at once.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    request = store.wire.request()
    request.writes.add().delete = store.wire.name(_path(env, id_))
    _commit(store, request, "ending a worker's session")


def _commit(store: Store, request: Any, what: str) -> None:
    try:
        store.wire.commit(request)
    except WireError as error:
        raise error.translated(what, unknown=False) from error


def all_of(store: Store, env: str) -> tuple[list[tuple[str, tuple[str, ...], datetime, float]], datetime]:
    """
    Id, kinds, last heartbeat and ttl of each session, dead ones included, and the server's time.

    Raises:
        StoreError: Firestore was unreachable or refused.
    """
    query: Any = _QueryType()
    query.from_.add(collection_id=SESSIONS)
    one = query.where.field_filter
    one.field.field_path = "env"
    one.op = _EQUAL
    one.value.string_value = env
    try:
        documents, read = store.wire.run_query(query)
    except WireError as error:
        raise error.translated("looking for the workers' sessions", unknown=False) from error
    found = []
    for document in documents:
        fields = {key: decode(value) for key, value in document.fields.items()}
        found.append((fields["id"], tuple(fields["kinds"]), fields["beatAt"], float(fields["ttlSeconds"])))
    return found, read or store.estimate()

"""
The listener of a database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gcp_emulator.firestore.database import Database
from gcp_emulator.firestore.execution import selects
from gcp_emulator.firestore.listen import Listener, Target
from gcp_emulator.firestore.paths import invalid
from gcp_emulator.firestore.query import Query
from gcp_emulator.firestore.transactions import Transaction
from gcp_emulator.firestore.writes import Stored
from gcp_emulator.rpc import RpcError


def listener_of(
    database: Database,
    lock: threading.Condition,
    identity: bytes,
    read_query: Callable[[Any, str], tuple[str, Query]],
    changed: Callable[[], None],
) -> Listener:
    """
    Return a listener of *database*.

    Args:
        database: The database.
        lock: Held while the database is read.
        identity: Of the server, for its resume tokens.
        read_query: Reads a query below a parent; returns the name of its database with it.
        changed: Called when the listener has something to tell.
    """

    def read(look: Callable[[int], Any]) -> Any:
        with lock:
            return look(database.reader(b"")[1])

    def query(target: Any) -> Target:
        name, wanted = read_query(target.structured_query, target.parent)
        if name != database.name:
            raise invalid(f'The query is not in database "{database.name}".')

        def look(past: Transaction | None) -> dict[str, Stored | None]:
            return {each.path: each for each in database.run(wanted, past).documents}

        def matches(path: str) -> bool:
            stored = database.get(path, None)
            return stored is not None and selects(wanted, stored)

        return Target(look, matches, [wanted.scope])

    def past(at: int) -> Transaction | None:
        try:
            return None if at <= database.wiped else database.reader(b"", at)[0]
        except RpcError:
            return None

    return Listener(
        database.name,
        identity,
        read=read,
        query=query,
        get=database.get,
        past=past,
        join=database.audience.add,
        changed=changed,
    )

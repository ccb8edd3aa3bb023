"""
What handlers are told of their transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gcp_oncetask import Attempt, ContentionError, StoreError


class Transactions:
    """
    The transactions of one world: of which nothing was written, as the library says, none takes effect, before or after.

    Attributes:
        broken: Notes a violation.
    """

    def __init__(self) -> None:
        self.broken: Callable[[str, str], None] = lambda path, sentence: None
        self._applied: set[bytes] = set()
        self._nothing: dict[bytes, str] = {}

    def run(self, attempt: Attempt, fn: Callable[[Any], Any]) -> Any:
        """
        Run *fn* in a transaction of *attempt*, and note what the library says of it.
        """
        ids: list[bytes] = []

        def noted(txn: Any) -> Any:
            # One that is tried again after contention has written nothing.
            self._are_told(ids[-1:], attempt)
            ids.append(txn.id)
            return fn(txn)

        try:
            return attempt.run_transaction(noted)
        except (ContentionError, StoreError) as error:
            if not error.facts.get("unknown"):
                self._are_told(ids[-1:], attempt)
            raise

    def committed(self, id_: bytes) -> None:
        """
        The transaction *id_* has taken effect.
        """
        self._applied.add(id_)
        if id_ in self._nothing:
            self.broken(
                self._nothing[id_], "its transaction took effect after its handler was told that nothing was written"
            )

    def _are_told(self, ids: Sequence[bytes], attempt: Attempt) -> None:
        path = attempt._running.context.document
        for id_ in ids:
            self._nothing[id_] = path
            if id_ in self._applied:
                self.broken(path, "its transaction took effect, and its handler was told that nothing was written")

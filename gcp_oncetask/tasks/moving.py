"""
A task that is created here in the same commit that deletes its document in another system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gcp_oncetask.rules.decisions import Put
from gcp_oncetask.runtime.runtime import Runtime


class Move:
    """
    The deletion of the other system's document, on condition that it is as it was read.

    A process of the other system that claims its task changes the document first. So either that process has the task, or it
    is created here, and never both.

    Args:
        runtime: Shared parts.
        path: Path of the document.
        version: Its update time.

    Attributes:
        lost: Whether a read has shown that the document has changed, or is gone.
    """

    def __init__(self, runtime: Runtime, path: str, version: Any) -> None:
        self._runtime, self._path, self._version = runtime, path, version
        self.lost = False

    def writes(self, put: Put) -> Sequence[Any]:
        """
        Return the deletion.
        """
        return [self._runtime.wire.deletion(self._path, self._version)]

    def done(self, results: Sequence[Any] | None) -> None:
        """
        Do nothing: the commit has the deletion.
        """

    def again(self) -> None:
        """
        Look whether the document is as it was.
        """
        found = self._runtime.store.document(self._path)
        self.lost = found is None or found.update_time != self._version

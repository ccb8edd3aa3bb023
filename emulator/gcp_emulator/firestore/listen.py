"""
Listen: send the results of queries and documents, and send them again at each commit that changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.paths import document_segments, invalid
from gcp_emulator.firestore.writes import Stored
from gcp_emulator.rpc import Mouth, RpcError, unimplemented

_ADD, _REMOVE, _CURRENT = 1, 2, 3


@dataclass(slots=True)
class Target:
    """
    A query or document that is listened to.

    Attributes:
        look: Returns its present documents, by path; None for a missing one.
        selects: Tells whether the present document at a path matches; a limit does not count.
        shown: The versions that were sent last.
    """

    look: Callable[[], dict[str, Stored | None]]
    selects: Callable[[str], bool]
    shown: dict[str, int] = field(default_factory=dict)


class Listener:
    """
    One Listen call.

    Args:
        database: Name of the database.
        read: Runs a function while nothing changes; returns its value and the time of the read (microseconds).
        query: Makes the two functions of a query target.
        get: Reads one document by path.
        observe: Registers a function to be called after every commit to the database, with the paths of its documents;
            returns a function that ends that.
    """

    def __init__(
        self,
        database: str,
        *,
        read: Callable[[Callable[[], Any]], tuple[Any, int]],
        query: Callable[[Any], Target],
        get: Callable[[str], Stored | None],
        observe: Callable[[Callable[[Collection[str]], None]], Callable[[], None]],
    ) -> None:
        self._database = database
        self._read = read
        self._query = query
        self._get = get
        self.observe = observe
        self._targets: dict[int, Target] = {}

    def asked(self, request: Any) -> Iterator[Any]:
        """
        Answer one request.
        """
        if request.WhichOneof("target_change") == "remove_target":
            self._targets.pop(request.remove_target, None)
            yield _told(_REMOVE, request.remove_target)
            return
        target = request.add_target
        if target.target_id in self._targets:
            raise invalid(f"Target id {target.target_id} is in use already.")
        try:
            made = self._look(target)
        except RpcError as error:
            refused = _told(_REMOVE, target.target_id)
            refused.target_change.cause.code = error.code.value[0]
            refused.target_change.cause.message = error.message
            yield refused
            return
        self._targets[target.target_id] = made
        yield _told(_ADD, target.target_id)
        changes, time = self._read(lambda: self._differences(target.target_id, made))
        yield from changes
        yield _told(_CURRENT, target.target_id, time)
        yield _told(0, None, time)

    def _look(self, target: Any) -> Target:
        if target.WhichOneof("resume_type") is not None:
            raise unimplemented("Resuming a listen target (leave resume_token and read_time out)")
        match target.WhichOneof("target_type"):
            case "query":
                return self._query(target.query)
            case "documents":
                paths = ["/".join(document_segments(name, self._database)) for name in target.documents.documents]
                return Target(lambda: {path: self._get(path) for path in paths}, paths.__contains__)
            case _:
                raise invalid("A target must be a query or documents.")

    def changed(self, paths: Collection[str]) -> Iterator[Any]:
        """
        Send the changes of the targets after a commit that has written the documents at *paths*.
        """

        def all_differences() -> list[Any]:
            touched = [
                (id_, target)
                for id_, target in self._targets.items()
                # A document that neither was shown nor matches now changes no result, also under a limit.
                if any(path in target.shown or target.selects(path) for path in paths)
            ]
            return [each for id_, target in touched for each in self._differences(id_, target)]

        changes, time = self._read(all_differences)
        if changes:
            yield from changes
            yield _told(0, None, time)

    def _differences(self, id_: int, target: Target) -> list[Any]:
        now = target.look()
        found = []
        for path, stored in now.items():
            if stored is not None and target.shown.get(path) != stored.version:
                response = m.ListenResponse()
                response.document_change.document.CopyFrom(stored.document)
                response.document_change.target_ids.append(id_)
                found.append(response)
        for path in (p for p in target.shown if now.get(p) is None):
            response = m.ListenResponse()
            gone = response.document_delete if self._get(path) is None else response.document_remove
            gone.document = f"{self._database}/documents/{path}"
            gone.removed_target_ids.append(id_)
            found.append(response)
        if not target.shown and not any(now.values()):
            found += [self._missing(path, id_) for path, stored in now.items() if stored is None]
        target.shown = {path: stored.version for path, stored in now.items() if stored is not None}
        return found

    def _missing(self, path: str, id_: int) -> Any:
        response = m.ListenResponse()
        response.document_delete.document = f"{self._database}/documents/{path}"
        response.document_delete.removed_target_ids.append(id_)
        return response


class ListenTalk:
    """
    One Listen call through a port.

    Args:
        listener: Makes the listener of a database, by its name.
        mouth: The way to the caller.
    """

    def __init__(self, listener: Callable[[str], Listener], mouth: Mouth) -> None:
        self._make = listener
        self._mouth = mouth
        self._listener: Listener | None = None
        self._done: Callable[[], None] | None = None

    def heard(self, request: Any) -> None:
        """
        Answer one request.
        """
        listener = self._listener
        if listener is None:
            listener = self._listener = self._make(request.database)
            self._done = listener.observe(self._changed)
        self._mouth.say(listener.asked(request))

    def over(self) -> None:
        """
        Hear of no more changes.
        """
        if self._done is not None:
            self._done()

    def _changed(self, paths: Collection[str]) -> None:
        listener = self._listener
        assert listener is not None
        self._mouth.soon(lambda: self._mouth.say(listener.changed(paths)))


def _told(change: int, id_: int | None, time: int | None = None) -> Any:
    response = m.ListenResponse()
    response.target_change.target_change_type = change
    if id_ is not None:
        response.target_change.target_ids.append(id_)
    if time is not None:
        m.set_time(response.target_change.read_time, time)
        response.target_change.resume_token = time.to_bytes(8, "big")
    return response

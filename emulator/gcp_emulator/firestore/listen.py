"""
Listen: send the results of queries and documents, and send them again at each commit that changes them.

A resume token is a time. The client has seen the results of that time, which are read from the database's history.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from gcp_emulator.firestore import messages as m
from gcp_emulator.firestore.audience import Interest, Told
from gcp_emulator.firestore.paths import document_segments, invalid
from gcp_emulator.firestore.transactions import Transaction
from gcp_emulator.firestore.writes import Stored
from gcp_emulator.rpc import Mouth, RpcError

_ADD, _REMOVE, _CURRENT, _RESET = 1, 2, 3, 4
Results = dict[str, Stored | None]


@dataclass(slots=True)
class Target:
    """
    A query or document that is listened to.

    Attributes:
        look: Returns its documents, by path, as a reader of a past time sees them or (None) as they are; None for a missing
            one.
        selects: Tells whether the present document at a path matches; a limit does not count.
        interests: The documents and collections that a change of the results begins with.
        shown: The versions that were sent last.
        touched: Paths that were written since.
        leave: Ends the telling of changes.
    """

    look: Callable[[Transaction | None], Results]
    selects: Callable[[str], bool]
    interests: Collection[Interest]
    shown: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    leave: Callable[[], None] | None = None


class Listener:
    """
    One Listen call to one database.

    Args:
        database: Name of the database.
        identity: Eight bytes that begin the resume tokens of this server.
        read: Runs a function while nothing changes, and returns its value. The function is given the time of the read
            (microseconds).
        query: Makes the target of a query.
        get: Reads one document by path.
        past: Returns the reader of a past time (microseconds); None if the documents of that time are not known.
        join: Registers a function to be called after every commit that concerns the interests of a target; returns a
            function that ends that.
        changed: Called, perhaps in another thread, when there is something to tell.
    """

    def __init__(
        self,
        database: str,
        identity: bytes,
        *,
        read: Callable[[Callable[[int], Any]], Any],
        query: Callable[[Any], Target],
        get: Callable[[str, Transaction | None], Stored | None],
        past: Callable[[int], Transaction | None],
        join: Callable[[Told, Collection[Interest]], Callable[[], None]],
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._identity = identity
        self._read = read
        self._query = query
        self._get = get
        self._past = past
        self._join = join
        self._changed = changed
        self._targets: dict[int, Target] = {}
        self._assigned = 0

    def asked(self, request: Any) -> list[Any]:
        """
        Answer one request.

        Raises:
            RpcError: The request ends the call.
        """
        if request.WhichOneof("target_change") == "remove_target":
            self._leave(request.remove_target)
            return [self._told(_REMOVE, request.remove_target)]
        target = request.add_target
        id_ = target.target_id
        if id_ == 0:
            id_ = self._assigned = self._assigned + 1
        elif self._assigned:
            return [
                self._refused(id_, invalid("This call has targets without an id, so this one can't have one either."))
            ]
        if id_ in self._targets:
            raise invalid(f"Target id {id_} is in use already.")
        try:
            made = self._look(target)
        except RpcError as error:
            return [self._refused(id_, error)]
        answers: list[Any] = self._read(lambda time: self._first(id_, made, target, time))
        if target.once:
            self._leave(id_)
            answers.append(self._told(_REMOVE, id_))
        return answers

    def news(self) -> list[Any]:
        """
        Return the changes of the targets since the last ones.
        """

        def found(time: int) -> list[Any]:
            changes = self._news()
            return [*changes, self._told(0, None, time)] if changes else []

        answers: list[Any] = self._read(found)
        return answers

    def over(self) -> None:
        """
        Hear of no more changes.
        """

        def leave(_: int) -> None:
            for id_ in tuple(self._targets):
                self._leave(id_)

        self._read(leave)

    def _leave(self, id_: int) -> None:
        target = self._targets.pop(id_, None)
        if target is not None and target.leave is not None:
            target.leave()

    def _first(self, id_: int, made: Target, asked: Any, time: int) -> list[Any]:
        """
        Begin with a target: send all its documents, or those that have changed since it was last seen.
        """
        resumed = asked.WhichOneof("resume_type") is not None
        reader = self._seen(asked) if resumed else None
        others = self._news()
        answers = [self._told(_ADD, id_)]
        if reader is not None:
            made.shown = _versions(made.look(reader))
        elif resumed:
            answers.append(self._told(_RESET, id_))
        answers += self._differences(id_, made, first=reader is None)
        if resumed and asked.HasField("expected_count"):
            count = m.ListenResponse()
            count.filter.target_id = id_
            count.filter.count = len(made.shown)
            answers.append(count)
        self._targets[id_] = made
        made.leave = self._join(lambda paths: self._touch(made, paths), made.interests)
        return [*others, *answers, self._told(_CURRENT, id_, time), self._told(0, None, time)]

    def _touch(self, target: Target, paths: Collection[str]) -> None:
        target.touched.update(paths)
        self._changed()

    def _seen(self, asked: Any) -> Transaction | None:
        """
        Return the reader of the time up to which the client has seen everything; None if that is not known any more.
        """
        if asked.WhichOneof("resume_type") == "read_time":
            return self._past(m.micros(asked.read_time))
        token = asked.resume_token
        if len(token) != len(self._identity) + 8 or not token.startswith(self._identity):
            return None
        return self._past(int.from_bytes(token[len(self._identity) :], "big"))

    def _look(self, target: Any) -> Target:
        match target.WhichOneof("target_type"):
            case "query":
                return self._query(target.query)
            case "documents":
                paths = ["/".join(document_segments(name, self._database)) for name in target.documents.documents]
                return Target(lambda past: {path: self._get(path, past) for path in paths}, paths.__contains__, paths)
            case _:
                raise invalid("A target must be a query or documents.")

    def _news(self) -> list[Any]:
        found = []
        for id_, target in self._targets.items():
            touched, target.touched = target.touched, set()
            # A document that neither was shown nor matches now changes no result, also under a limit.
            if any(path in target.shown or target.selects(path) for path in touched):
                found += self._differences(id_, target)
        return found

    def _differences(self, id_: int, target: Target, *, first: bool = False) -> list[Any]:
        now = target.look(None)
        found = []
        for path, stored in now.items():
            if stored is not None and target.shown.get(path) != stored.version:
                response = m.ListenResponse()
                response.document_change.document.CopyFrom(stored.document)
                response.document_change.target_ids.append(id_)
                found.append(response)
        gone = [path for path in target.shown if now.get(path) is None]
        found += [self._gone(path, id_, deleted=self._get(path, None) is None) for path in gone]
        if first:
            found += [self._gone(path, id_, deleted=True) for path, stored in now.items() if stored is None]
        target.shown = _versions(now)
        return found

    def _gone(self, path: str, id_: int, *, deleted: bool) -> Any:
        response = m.ListenResponse()
        gone = response.document_delete if deleted else response.document_remove
        gone.document = f"{self._database}/documents/{path}"
        gone.removed_target_ids.append(id_)
        return response

    def _refused(self, id_: int, error: RpcError) -> Any:
        response = self._told(_REMOVE, id_)
        response.target_change.cause.code = error.code.value[0]
        response.target_change.cause.message = error.message
        return response

    def _told(self, change: int, id_: int | None, time: int | None = None) -> Any:
        response = m.ListenResponse()
        response.target_change.target_change_type = change
        if id_ is not None:
            response.target_change.target_ids.append(id_)
        if time is not None:
            m.set_time(response.target_change.read_time, time)
            response.target_change.resume_token = self._identity + time.to_bytes(8, "big")
        return response


def _versions(results: Results) -> dict[str, int]:
    return {path: stored.version for path, stored in results.items() if stored is not None}


class ListenTalk:
    """
    One Listen call through a port.

    Args:
        listener: Makes the listener of a database by its name, which calls a function when it has something to tell.
        mouth: The way to the caller.
    """

    def __init__(self, listener: Callable[[str, Callable[[], None]], Listener], mouth: Mouth) -> None:
        self._make = listener
        self._mouth = mouth
        self._listener: Listener | None = None
        self._planned = False

    def heard(self, request: Any) -> None:
        """
        Answer one request.
        """
        if self._listener is None:
            self._listener = self._make(request.database, self._changed)
        self._mouth.say(self._listener.asked(request))

    def closed(self) -> None:
        """
        End the call, as the caller has.
        """
        self._mouth.end()

    def over(self) -> None:
        """
        Hear of no more changes.
        """
        if self._listener is not None:
            self._listener.over()

    def _changed(self) -> None:
        # Commits that follow each other closely are told at once.
        if not self._planned:
            self._planned = True
            self._mouth.soon(self._tell)

    def _tell(self) -> None:
        self._planned = False
        assert self._listener is not None
        self._mouth.say(self._listener.news())

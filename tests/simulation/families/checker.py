"""
The promise for families: a child is made once, its parent comes back when all have ended and not before, no item of a list or
page is handled again once its result is kept, no page is passed over, and a named transaction takes effect once.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gcp_oncetask import Status
from gcp_oncetask.rules.record import Lock, WaitFor, Woken
from tests.simulation.chains.checker import Running
from tests.simulation.clients import path_of
from tests.simulation.durables.checker import DurablesChecker, Work
from tests.simulation.families.plan import FamiliesPlan
from tests.simulation.tasks.history import Keyed
from tests.simulation.world import Process

PROMPT = 150.0
"""Virtual seconds within which a parent is woken where nothing goes wrong."""
ANY_NUMBER = 1_000_000
"""So many tolerated failures are any number."""


@dataclass
class FamiliesChecker(DurablesChecker):
    """
    Watches one world of durable handlers with families.

    Attributes:
        groups: The children of each word: digest -> documents.
        born: The document of each child, by the name in its payload.
        depths: Of each child, how many ancestors it has.
        pages: Of each work and loop the items that were handled.
    """

    plan: FamiliesPlan
    groups: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    born: dict[str, str] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    pages: defaultdict[tuple[Work, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    # --- words ---

    def calls(self, running: Running, name: str) -> None:
        """
        The function of a run, or of an item, is called.
        """
        super().calls(running, name)
        path, attempt = self.work(running)[0], running.attempt
        lock = self.locks.get(path)
        if lock is None or self.is_orphan(attempt) or lock.token != attempt.token or lock.status is not Status.LEASED:
            return
        row = self.entries[path, self.lives[path], lock.keyed, lock.granted].get(name)
        if row is not None and row.get("e", "done") in ("done", "failed"):
            self.broken(path, f"{name!r} is called, and its entry has its result")

    def mapped(self, running: Running, name: str, count: int, answer: list[Any], tolerate: int) -> None:
        """
        A map has returned: a result for each item, in the order of the items, but for those that have failed.
        """
        failed = sum(each is None for each in answer)
        if len(answer) != count or any(each is not None and each["item"] != at for at, each in enumerate(answer)):
            self.broken(self.work(running)[0], f"{name!r} has results of other items: {answer}")
        if failed > tolerate:
            self.broken(self.work(running)[0], f"{name!r} has returned with {failed} failures, and {tolerate} may be")

    def fetches(self, running: Running, name: str, at: int) -> None:
        """
        A page is fetched: all items of the pages before it were handled.
        """
        handled = self.pages[self.work(running), name]
        missing = [f"{name}:{page}.{n}" for page in range(at) for n in range(2) if f"{name}:{page}.{n}" not in handled]
        self.world.counts["pages fetched"] += 1
        if missing and not self.is_orphan(running.attempt):
            self.broken(self.work(running)[0], f"page {at} of {name!r} is fetched, and {missing} were not handled")

    def handled(self, running: Running, name: str, item: str) -> None:
        """
        An item of a page was handled.
        """
        self.pages[self.work(running), name].add(item)

    def paged(self, running: Running, name: str, last: int) -> None:
        """
        A loop over pages has ended.
        """
        count = len(self.pages[self.work(running), name])
        self.world.counts["loops over pages ended"] += 1
        if count != 2 * (last + 1) and not self.is_orphan(running.attempt):
            self.broken(self.work(running)[0], f"{name!r} has ended, and handled {count} items of {2 * (last + 1)}")

    def added(self, running: Running, name: str, where: str) -> None:
        """
        A named transaction has returned.
        """
        self.world.counts["named transactions answered"] += 1
        if not self.is_orphan(running.attempt) and self.world.stored(where) is None:
            self.broken(self.work(running)[0], f"{name!r} has an answer, and its writes are not there")

    def polls(self, running: Running, name: str, before: int | None) -> None:
        """
        A round of a poll begins with the state of *before*.
        """
        self.commits(running)
        path, attempt = self.work(running)[0], running.attempt
        lock = self.locks.get(path)
        self.world.counts["rounds of polls"] += 1
        if lock is None or self.is_orphan(attempt) or lock.token != attempt.token:
            return
        row = self.entries[path, self.lives[path], lock.keyed, lock.granted].get(name)
        known = None if row is None else row["v"]
        if known != before:
            self.broken(path, f"a round of {name!r} begins with {before}, and {known} is kept")

    def family(self, running: Running, name: str, made: Sequence[Keyed], found: Sequence[Any]) -> None:
        """
        The outcomes of children are there, in their order, as their records have them.
        """
        path = self.work(running)[0]
        self.world.counts["families answered"] += 1
        if len(made) != len(found):
            self.broken(path, f"{name!r} has {len(found)} outcomes of {len(made)} children")
        for data, outcome in zip(made, found, strict=False):
            child = self.locks.get(self.born.get(data.name, ""))
            if child is None or not isinstance(outcome, dict):
                continue
            if outcome["name"] != data.name or child.status is not Status.COMPLETED or child.result != outcome:
                self.broken(path, f"{name!r} has the outcome {outcome} of {data.name}, which is {child.status}")

    # --- records ---

    def observe(self, process: Process | None, name: str, request: Any) -> None:
        """
        Look at every document that a commit has touched.
        """
        super().observe(process, name, request)
        if name != "Commit":
            return
        for path in map(path_of, request.writes):
            if path.startswith("sums/"):
                self._added(path)

    def _added(self, path: str) -> None:
        fields = self.read(path)[1]
        self.world.counts["named transactions"] += 1
        task = str(fields["path"])
        if fields["n"] > 1 and f"{task} life {self.lives[task]}" not in self.late:
            self.broken(task, f"a named transaction has taken effect {fields['n']} times")
        lock = self.locks.get(task)
        if lock is not None and fields["word"] not in self.entries[task, self.lives[task], lock.keyed, lock.granted]:
            self.broken(task, "a named transaction has no entry in its commit")

    def _always(self, process: Process | None, path: str, before: Lock | None, lock: Lock, *, anew: bool) -> None:
        super()._always(process, path, before, lock, anew=anew)
        fields = self.stored[path]
        if "parent" in fields:
            self._child(path, before, lock, fields)
        if before is not None:
            self._parent(path, before, lock)

    def _child(self, path: str, before: Lock | None, lock: Lock, fields: dict[str, Any]) -> None:
        group, _, state = fields["parent"].partition("/")
        self.groups[group].add(path)
        self.depths[path] = fields["data"]["depth"]
        if self.born.setdefault(fields["data"]["name"], path) != path:
            self.broken(path, f"it is made for the same word as {self.born[fields['data']['name']]}")
        right = ("ended" if lock.status is Status.COMPLETED else "failed") if lock.finished else "open"
        if state != right:
            self.broken(path, f"it is {lock.status}, and its parent is told that it is {state}")
        self.world.counts["children"] += before is None
        if lock.finished and (before is None or not before.finished):
            self.world.counts[f"children {lock.status}"] += 1
            self._prompt(str(fields["parentPath"]))

    def _members(self, path: str, nonce: str) -> list[str]:
        digest = hashlib.sha256(f"{path}\n{nonce}".encode()).hexdigest()[:32]
        return [child for child in self.groups[digest] if child in self.locks]

    def _parent(self, path: str, before: Lock, lock: Lock) -> None:
        waited, wait = before.wait, lock.wait
        if wait is not None and wait.sort is WaitFor.CHILDREN and wait.ended is Woken.CHILDREN:
            self._woken(path, wait.nonce or "", wait.tolerate, fresh=waited is None or waited.ended is None)
        if wait is not None and wait.sort is WaitFor.CHILDREN and wait.ended is None and waited is None:
            self.world.counts["waits for children"] += 1
            self._prompt(path)
        if self.world.landing:
            return
        for nonce in set(before.orphans) - set(lock.orphans):
            if nonce == "*":
                continue
            begun = nonce.endswith("/not begun")
            for child in self._members(path, nonce.removesuffix("/not begun")):
                one = self.locks[child]
                live = one.status in (Status.SCHEDULED, Status.LEASED) and one.cancel_requested_at is None
                if live and not (begun and one.token):
                    self.broken(
                        path, f"the cancellation of its child {child} is not owed any more, and was not asked for"
                    )

    def _woken(self, path: str, nonce: str, tolerate: int, *, fresh: bool) -> None:
        if not fresh or self.world.landing:
            return
        children = [self.locks[child] for child in self._members(path, nonce)]
        left = sum(not child.finished for child in children)
        failed = sum(child.finished and child.status is not Status.COMPLETED for child in children)
        self.world.counts["parents woken"] += 1
        if left and (failed <= tolerate or tolerate > ANY_NUMBER):
            self.broken(path, f"it is woken by its children, and {left} of them have not ended")

    def _prompt(self, path: str) -> None:
        """
        Where nothing goes wrong, a parent whose children have ended is woken soon.
        """
        if self.plan.troubles:
            return

        def look() -> None:
            lock = self.locks.get(path)
            wait = None if lock is None else lock.wait
            if lock is None or wait is None or wait.sort is not WaitFor.CHILDREN or wait.ended is not None:
                return
            children = [self.locks[child] for child in self._members(path, wait.nonce or "")]
            if wait.since < self.world.hub.time() - timedelta(seconds=PROMPT) and all(
                child.finished for child in children
            ):
                late = max(self.stored[child]["doneAt"] for child in self._members(path, wait.nonce or ""))
                if late < self.world.hub.time() - timedelta(seconds=PROMPT):
                    self.broken(path, "its children have ended, and it was not woken")

        self.world.hub.spawn(self.world.cloud, look, after=PROMPT + 1)

    def _is_over(self, row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> bool:
        """
        Whether the page on which *row* was said is over.
        """
        for loop in rows.values():
            over = (loop.get("x") or {}).get("over") if loop["s"] == "pages" else None
            if over is not None and loop["o"] < row["o"] <= over:
                return str(row["n"]).startswith(f"{loop['n']}:")
        return False

    def ended(self, chains: list[str]) -> bool:
        """
        Whether nothing is left to do.
        """
        return super().ended(chains) and not any(lock.orphans for lock in self.locks.values())

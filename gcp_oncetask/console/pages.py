"""
The pages that show a deployment. Each method reads by the functions of the command line and returns a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

from gcp_oncetask.cli import show
from gcp_oncetask.console import bulk_acts, contents, deciding, listing, past
from gcp_oncetask.console.access import Visitor
from gcp_oncetask.console.page import ConsolePage, place_of
from gcp_oncetask.effects.kinship import kinship_of
from gcp_oncetask.entities.chains import runtime_of, stored_chain
from gcp_oncetask.errors import BackendError, OncetaskError, TaskNotFoundError, UsageError
from gcp_oncetask.overview import cloud_queues, counts, needed, schedules, workers
from gcp_oncetask.rules.choices import halted, last_attempt, question
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.ledger import SHOWN
from gcp_oncetask.rules.record import Lock
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.store import journals
from gcp_oncetask.store.records import record_of
from gcp_oncetask.store.snapshot import Snapshot
from gcp_oncetask.tasks.data import kind_of
from gcp_oncetask.tasks.generator import recurs
from gcp_oncetask.tasks.manager import TaskManager, models_of

T = TypeVar("T")
_EVERY: Final = 5
"""Seconds between two fetches of a page that stays up to date."""
_COSTLY: Final = 15
"""The same for the overview, which counts."""
_HIDDEN: Final = frozenset({"failed"})
"""Lines of ``show`` that have contents."""


class Pages:
    """
    The pages of one manager.
    """

    def __init__(self, manager: TaskManager) -> None:
        self._manager = manager
        self._runtime = runtime_of(manager.locker)

    @property
    def place(self) -> Any:
        """
        Return the deployment that the bar names.
        """
        return place_of(self._manager.locker.config, self._runtime.project())

    @property
    def models(self) -> dict[str, Any]:
        """
        Return the models of the kinds with a handler, by kind.
        """
        return models_of(self._manager)

    def overview(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Counts by kind and state, and the document that is overdue longest.
        """
        values = {
            "needed": _tile(lambda: needed.needed(self._manager.locker)),
            "kinds": _tile(lambda: counts.counts(self._runtime, sorted(self.models))),
            "states": counts.STATES,
            "most": counts.MOST,
            "oldest": _tile(lambda: counts.oldest_overdue(self._runtime)),
            "alive": _tile(lambda: sum(row.alive for row in workers.workers(self._runtime).rows)),
        }
        return ConsolePage(template="overview.html", title="Overview", values=values, live=_COSTLY)

    def schedules(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Recurring tasks with their next runs.
        """
        kinds = sorted(kind for kind, model in self.models.items() if recurs(model))
        found = schedules.schedules(self._runtime, kinds)
        return ConsolePage(
            template="schedules.html",
            title="Schedules",
            values={"found": found, "kinds": kinds, "most": schedules.MOST},
            read=found.read,
            live=_EVERY,
        )

    def workers(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Sessions of workers.
        """
        found = workers.workers(self._runtime)
        shards = self._manager.locker.config.pull_shards
        values = {"found": found, "shards": shards}
        return ConsolePage(template="workers.html", title="Workers", values=values, read=found.read, live=_EVERY)

    def queues(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Queues of Cloud Tasks.
        """
        used = [(kind, kind_of(model).queue) for kind, model in self.models.items() if not kind_of(model).pull]
        return ConsolePage(
            template="queues.html",
            title="Queues",
            values={"rows": cloud_queues.queues(self._runtime, used)},
            live=_EVERY,
        )

    def task(
        self, visitor: Visitor, asked: Mapping[str, str], *, contents_shown: bool = False, notice: str = ""
    ) -> ConsolePage:
        """
        One document with a lock. With *contents_shown* its contents are shown, if the visitor may see them.

        Raises:
            TaskNotFoundError: There is no such document.
        """
        path = asked.get("path", "").strip()
        snapshot, lock = stored_chain(self._runtime, path)
        record = record_of(snapshot)
        stored = journals.tail(self._runtime.store, path, lock, SHOWN)
        lines = [line.partition(":") for line in show.described(record, lock, stored)]
        values = {
            "path": path,
            "name": parse_task_path(path),
            "lock": lock,
            "rows": [(name, value.strip()) for name, _, value in lines if name not in _HIDDEN],
            "question": self._question(path, lock),
            "contents": contents.of(snapshot, lock, shown=contents_shown and visitor.acts),
            "shown": contents_shown and visitor.acts,
            "kin": kinship_of(self._runtime, snapshot),
            "durable": lock.durable,
            "schedule": self._schedule(snapshot, record.sort is Sort.RECURRING),
            "commands": _commands(path),
            "choices": deciding.choices(snapshot, lock),
            "acts": lock.acts,
            "notice": notice,
        }
        return ConsolePage(
            template="task.html", title=path, values=values, read=snapshot.read, live=0 if contents_shown else _EVERY
        )

    def _question(self, path: str, lock: Lock) -> dict[str, Any] | None:
        last = last_attempt(path, lock)
        text = question(path, lock)
        if text is not None and (lock.open or halted(lock) is not None):
            return {"text": text}
        if text is None or last is None:
            return None
        return {"text": "", "key": last.key, "step": lock.step, "attempt": lock.attempts, "since": last.granted_at}

    def _schedule(self, snapshot: Snapshot, recurring: bool) -> Any:
        now: datetime = self._runtime.store.estimate()
        return schedules.row(snapshot, now) if recurring and "recurrence" in snapshot.fields else None

    # --- lists and acts -------------------------------------------------------------------------------------------------

    def list(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Records by filters.
        """
        return listing.page(self._manager.locker, sorted(self.models), visitor, asked)

    def timeline(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        The timeline of a document.
        """
        return past.timeline(self._runtime, asked)

    def effects(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        The effects outside of a durable handler.
        """
        return past.effects(self._runtime, visitor, asked)

    def acts(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        Acts of people.
        """
        return past.acts(self._runtime, asked)

    def question(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        The question before an act.
        """
        return deciding.question(self._manager.locker, asked)

    def question_about_many(self, visitor: Visitor, asked: Mapping[str, str]) -> ConsolePage:
        """
        The question before an act on many records.
        """
        return bulk_acts.question(self._manager.locker, asked)

    def act(self, visitor: Visitor, form: Mapping[str, str]) -> ConsolePage:
        """
        An act.
        """
        return deciding.act(self._manager.locker, visitor, form)

    def act_on_many(self, visitor: Visitor, form: Mapping[str, str]) -> ConsolePage:
        """
        An act on many records.
        """
        return bulk_acts.act(self._manager.locker, visitor, form)

    def filter_of(self, form: Mapping[str, str]) -> str:
        """
        Return the filter of a form on many records, over which its token is.
        """
        return bulk_acts.filter_text(form)

    def asked_again(self, form: Mapping[str, str], what: str) -> ConsolePage:
        """
        The question of a form that was too old, with its inputs.
        """
        ask = deciding.question if what == "act" else bulk_acts.question
        return ask(self._manager.locker, form, "The form was too old, so nothing was done. Send it again.", 409)

    def not_done(self, visitor: Visitor, form: Mapping[str, str], error: OncetaskError) -> ConsolePage:
        """
        The document after an act that was refused, with the reason.
        """
        try:
            return replace(self.task(visitor, form, notice=str(error)), status=409, live=0)
        except OncetaskError:
            return self.trouble(error)

    def none_selected(self) -> ConsolePage:
        """
        The answer to an act on no rows.
        """
        values = {"sentence": "No row is selected, so there is nothing to do."}
        return ConsolePage(template="trouble.html", title="Not done", values=values, status=400)

    def trouble(self, error: OncetaskError) -> ConsolePage:
        """
        An error of the library, as a page.
        """
        status = 404 if isinstance(error, TaskNotFoundError) else 400 if isinstance(error, UsageError) else 503
        if not isinstance(error, TaskNotFoundError | UsageError | BackendError):
            status = 409
        return ConsolePage(template="trouble.html", title="Not done", values={"sentence": str(error)}, status=status)


def _commands(path: str) -> list[str]:
    quoted = path.replace("'", "'\\''")
    return [f"python -m gcp_oncetask {verb} '{quoted}'" for verb in ("show", "timeline")]


def _tile(read: Callable[[], T]) -> tuple[T | None, str]:
    """
    Return the value of *read* and an empty text, or None and the reason, so that one slow or refusing source does not hold
    the page.
    """
    try:
        return read(), ""
    except OncetaskError as error:
        return None, str(error)

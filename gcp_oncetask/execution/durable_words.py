"""
The words of a durable handler, as user code says them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, overload

from gcp_oncetask.checks import values
from gcp_oncetask.clock import Duration
from gcp_oncetask.execution import child_tasks, durable_runs, linking, paging, polling, suspending
from gcp_oncetask.execution.journaling import journal_of
from gcp_oncetask.execution.mapping import CONCURRENCY
from gcp_oncetask.execution.typed_runs import Runs, RunsOf
from gcp_oncetask.execution.value_words import ValueWords, running_of
from gcp_oncetask.rules import family
from gcp_oncetask.rules.retry_policy import RetryPolicy

T = TypeVar("T")
M = TypeVar("M")
C = TypeVar("C")
I = TypeVar("I")  # noqa: E741 - an item
P = ParamSpec("P")


class DurableWords(ValueWords):
    """
    The words that keep their answers in the journal of an attempt.
    """

    def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call ``fn(*args, **kwargs)`` unless the journal has its result, and return the result as it was kept: a fresh object,
        equal in value and type. The result is committed before it is returned.

        At least once: if the process dies after *fn* and before the commit, the next attempt calls *fn* again. An error
        that *fn* raises is raised here; the next attempt calls *fn* again, and no run before it. ``options`` changes both.

        Args:
            name: Name of the run, unique in the handler.
            fn: A plain function.
            *args: Its arguments.
            **kwargs: Its named arguments.

        Raises:
            LeaseLostError: The attempt does not hold its lease any more; *fn* was not called, or its result is not kept.
            JournalMismatchError: The name is of another sort in the journal.
            JournalFullError: The journal has no room; *fn* was not called.
            UsageError: The name is used twice; or the result can't be kept.
            StoreError: Firestore was unreachable or refused.
        """
        return Runs(running_of(self), durable_runs.PLAIN).run(name, fn, *args, **kwargs)

    @overload
    def options(
        self,
        *,
        result: type[M],
        retry: RetryPolicy | None = None,
        once: bool = False,
        verify: Callable[[str], Any] | None = None,
        verify_after: Duration = durable_runs.VERIFY_AFTER,
        not_done: type[BaseException] | Sequence[type[BaseException]] = (),
        strict: bool = False,
        was: str | None = None,
    ) -> RunsOf[M]: ...
    @overload
    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        once: bool = False,
        verify: Callable[[str], Any] | None = None,
        verify_after: Duration = durable_runs.VERIFY_AFTER,
        not_done: type[BaseException] | Sequence[type[BaseException]] = (),
        strict: bool = False,
        was: str | None = None,
    ) -> Runs: ...
    def options(
        self,
        *,
        result: Any = None,
        retry: RetryPolicy | None = None,
        once: bool = False,
        verify: Callable[[str], Any] | None = None,
        verify_after: Duration = durable_runs.VERIFY_AFTER,
        not_done: type[BaseException] | Sequence[type[BaseException]] = (),
        strict: bool = False,
        was: str | None = None,
    ) -> Any:
        """
        Return runs with options: ``attempt.options(once=True, verify=find).run("charge", pay, card)``.

        Args:
            result: Model or type by which the result is written and read; None: the function's annotation, where the result
                is no plain data.
            retry: Retry policy of the run alone. Short delays are waited in the request; a long one ends the request, and no
                attempt of the task is burned. After the last try the failure is kept: ``RunFailedError``, in every later
                attempt.
            once: Commit an intent before the call, so that no later attempt just calls again: it asks *verify*, and without
                one the task is set aside until a person has answered. Right before the call this process checks its lease
                by its own clock. A process that is stopped between that check and the call, and goes on after its lease was
                taken over, can still call; the key that *fn* hands on (``key_of``) closes that gap at the remote service.
            verify: ``verify(key)`` returns the result of a call that has happened, or ``NOT_DONE``, or raises. It is asked
                once the attempt that has begun the run is over.
            verify_after: Shortest time after the intent from which ``NOT_DONE`` counts; seconds or a timedelta.
            not_done: Classes of exceptions after which the effect surely did not happen; ``NotDone`` is one always. Any
                other exception of a run with *once* ends the attempt.
            strict: Refuse other arguments than those of the journal, instead of a warning.
            was: Name that the run had in an earlier version of the code.

        Raises:
            UsageError: The options contradict each other.
        """
        chosen = durable_runs.options(
            result=result,
            retry=retry,
            once=once,
            verify=verify,
            verify_after=verify_after,
            not_done=not_done,
            strict=strict,
            was=was,
        )
        kind = Runs if result is None else RunsOf
        return kind(running_of(self), chosen)

    def map(
        self,
        name: str,
        fn: Callable[[I], T],
        items: Iterable[I],
        *,
        key: Callable[[I], Any] | None = None,
        concurrency: int = CONCURRENCY,
        tolerate: int = 0,
    ) -> list[T]:
        """
        Call ``fn(item)`` for each of *items*, unless the journal has its result, and return the results in the order of the
        items. Each item is a run, whose entry is ``name[index]``; the function is called in threads of this request, with
        copies of the handler's context variables. Results are committed in groups as they come.

        At least once: if the process dies, the items under way and the results of at most two groups (of about 50) are
        computed again. If *fn* raises, the items under way end and are kept, none begins, and the error is raised here; the
        next attempt calls *fn* for the rest. If the request ends soon, none begins, and a fresh delivery goes on; no
        attempt is burned.

        ``options(...).map(...)`` takes the options of runs. With *retry*, an item whose retries are used up is kept as
        failed. *tolerate* such items may fail: an ``ItemFailure`` is in the place of each result. With one more, the map
        raises ``RunFailedError``, in every later attempt, too.

        Args:
            name: Name of the map, unique in the handler.
            fn: A plain function. Its thread can't use the journal.
            items: The items; each attempt must have the same. Make the list in a run if it may change.
            key: Returns a text or a number by which an item is recognised; needed for items that are no JSON data, of which
                else only the number is compared.
            concurrency: Number of items that may be under way at once.
            tolerate: Number of items that may fail for good; only ``options(retry=...)`` has any.

        Raises:
            Suspended: The request ends here.
            LeaseLostError: The attempt does not hold its lease any more.
            JournalMismatchError: An earlier attempt had another list; nothing was called.
            JournalFullError: The journal has no room for the results; nothing was called.
            UsageError: *concurrency* is less than 1; *tolerate* is given without *retry*; or as ``run``.
            StoreError: Firestore was unreachable or refused.
        """
        runs = Runs(running_of(self), durable_runs.PLAIN)
        found: Any = runs.map(name, fn, items, key=key, concurrency=concurrency, tolerate=tolerate)
        return list[T](found)

    def pages(self, name: str, fetch: Callable[[C | None], tuple[Iterable[T], C | None]]) -> Iterator[T]:
        """
        Loop over the rows of all pages: ``for row in attempt.pages("rows", fetch)``. The journal keeps the cursor of the
        present page. If the request ends soon, the end of a page ends it, and a fresh delivery goes on with the same
        sequence, journal and key; no attempt is burned. So the work may be longer than any request.

        At least once within a page: if the process dies, the next attempt begins the page again. Words of the loop's body
        are kept until the page is over, and dropped with its cursor; so the number of rows has no limit. Put the row's id
        into their names. A later attempt does not see the rows of pages that are over: to count them, put the count into
        the cursor.

        Args:
            name: Name of the loop, unique in the handler.
            fetch: ``fetch(cursor)`` returns the items of a page and the cursor of the next one, which is None after the last
                page. The first page has the cursor None. A cursor is data that a run may return.

        Raises:
            Suspended: The request ends here, or later in the loop.
            UsageError: *fetch* returns no pair; or the cursor can't be kept.
            LeaseLostError, StoreError: As ``run``, here or in the loop.
        """
        return paging.pages(journal_of(running_of(self)), name, fetch)

    def poll(
        self,
        name: str,
        fn: Callable[[T | None], T],
        *,
        until: Callable[[T], bool],
        every: Duration,
        timeout: Duration | None,
    ) -> T:
        """
        Call *fn* in rounds until ``until(state)`` is true for the state that it returns, and return that state. The journal
        has one entry with the state of the last round. Up to 5 seconds between two rounds are waited in the request; longer
        pauses need no process, and burn no attempt. The last round is at the time-out.

        Args:
            name: Name of the poll, unique in the handler.
            fn: ``fn(state)`` gets the state of the round before, None in the first one; a plain function.
            until: Tells whether the state is the wanted one.
            every: Time from the end of a round to the next one, at most 366 days; seconds or a timedelta.
            timeout: Longest time from the first round, at most 366 days; None: it goes on for ever.

        Raises:
            Suspended: The request ends here.
            EventTimeoutError: The time-out has come, now or in an earlier attempt.
            UsageError: The state can't be kept; or an argument is invalid.
            Exception: *fn* or *until* has raised it; the next attempt repeats the round.
        """
        return polling.poll(journal_of(running_of(self)), name, fn, until, every, timeout)

    def sleep(
        self, name: str, delay: Duration | None = None, *, until: datetime | None = None, was: str | None = None
    ) -> None:
        """
        Wait without a process: the request ends, and the handler runs again at the time. Up to 5 seconds are waited in
        the request. The time is fixed when the word is first reached.

        Args:
            name: Name of the sleep, unique in the handler.
            delay: Length, at most 366 days; seconds or a timedelta.
            until: An aware datetime instead.
            was: Name that the sleep had in an earlier version of the code.

        Raises:
            Suspended: The request ends here.
            UsageError: The time is invalid.
        """
        suspending.sleep(journal_of(running_of(self)), name, delay, until, was)

    @overload
    def wait_event(
        self, name: str, model: type[M], *, timeout: Duration | None, event: str | None = None, was: str | None = None
    ) -> M: ...
    @overload
    def wait_event(
        self, name: str, model: Mapping[str, Any], *, timeout: Duration | None, was: str | None = None
    ) -> Any: ...
    def wait_event(
        self, name: str, model: Any, *, timeout: Duration | None, event: str | None = None, was: str | None = None
    ) -> Any:
        """
        Wait without a process for an event that ``send`` brings, and return its payload. An event that has come before is
        taken at once. Each event is taken by one wait, in the order in which they came.

        Args:
            name: Name of the wait, unique in the handler.
            model: Model of the payload; or a mapping from names of events to models: the first of these events counts.
            timeout: Longest wait, at most 366 days; None: no time-out, but a person is told after 30 days.
            event: Name of the event; None: that of the wait.
            was: Name that the wait had in an earlier version of the code.

        Raises:
            Suspended: The request ends here.
            EventTimeoutError: No event came in time, now or in an earlier attempt.
            UsageError: The payload does not fit the model; or an argument is invalid.
        """
        return suspending.wait_event(journal_of(running_of(self)), name, model, timeout, event, was)

    def link(
        self,
        name: str,
        answer: Any = None,
        *,
        expires: Duration,
        text: str | None = None,
        label: str | None = None,
        for_: str | None = None,
        event: str | None = None,
        url: str = linking.PAGE,
    ) -> str:
        """
        Return a URL at which a person gives *answer* to the wait *name*: a small page of the blueprint that asks before it
        sends the event. All links of one wait count once together: the first answer wins.

        Make the links before the wait, and hand them on in a run. A replayed handler makes the same links again. A person who
        has a link can read its contents and give its answer, so hand it to the right person alone.

        Args:
            name: Name of the wait, as in ``wait_event``.
            answer: Payload of the event, JSON data or a pydantic model.
            expires: Time from the first link of this wait to the end of the link, at most 366 days; seconds or a timedelta.
            text: The question, for the page; None: the name of the wait.
            label: The answer in words, for the button; None: the payload.
            for_: The person who gets the link, for the record; a proxy's identity counts more.
            event: Name of the event; None: that of the wait.
            url: Path of the page, joined to the base URL, or an absolute URL.

        Raises:
            ConfigError: ``ONCETASK_LINK_KEYS`` or the base URL is missing.
            UsageError: An argument is invalid, or the URL would have more than 2,000 characters.
        """
        return linking.link(
            journal_of(running_of(self)),
            name,
            answer,
            expires=expires,
            text=text,
            label=label,
            for_=for_,
            event=event,
            url=url,
        )

    def run_task(self, name: str, task: Any, *, return_exceptions: bool = False, was: str | None = None) -> Any:
        """
        Make a once-task, a child, wait without a process until it has ended, and return its result; see ``run_tasks``.

        Args:
            name: Name of the word, unique in the handler.
            task: Payload of the child, a ``TaskData``.
            return_exceptions: Return the ``ChildFailedError`` of a child that has failed, instead of raising it.
            was: Name that the word had in an earlier version of the code.

        Raises:
            As ``run_tasks``.
        """
        tolerate = family.ANY_NUMBER if return_exceptions else 0
        [found] = child_tasks.run_tasks(journal_of(running_of(self)), name, [task], tolerate=tolerate, was=was)
        return found

    def run_tasks(
        self,
        name: str,
        tasks: Iterable[Any],
        *,
        return_exceptions: bool = False,
        tolerate: int = 0,
        was: str | None = None,
    ) -> list[Any]:
        """
        Make once-tasks, the children of this task, wait without a process until all have ended, and return their results in
        order: JSON data. Each child is created once, under the fence, with an id of the library's; the id of its payload
        does not count. Handlers of their kinds may be in other deployments. The task is woken as soon as more children have
        failed than are tolerated; the others go on. A cancellation of the task, and a newer payload in its place, cancel
        its children.

        Args:
            name: Name of the word, unique in the handler.
            tasks: Payloads of the children, each a ``TaskData``; the same in each attempt.
            return_exceptions: Tolerate any number of failures.
            tolerate: Number of failures that are tolerated. In the place of such a child, the list has its
                ``ChildFailedError``.
            was: Name that the word had in an earlier version of the code.

        Raises:
            Suspended: The request ends here.
            ChildFailedError: More children than are tolerated have failed, were cancelled or were deleted, now or in an
                earlier attempt.
            JournalMismatchError: The journal has another list of tasks.
            LeaseLostError: The attempt does not hold its lease any more; no further child was created.
            UsageError: A payload is invalid; or no task manager was made in this process.
        """
        values.whole(tolerate, "tolerate", least=0)
        most = family.ANY_NUMBER if return_exceptions else tolerate
        return child_tasks.run_tasks(journal_of(running_of(self)), name, list(tasks), tolerate=most, was=was)

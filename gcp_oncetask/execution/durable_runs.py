"""
``attempt.run``: a function that is called once, or again until its result is kept.

Source:
    Runs that are begun once, with an intent and a verification, are our own; elsewhere (AWS's durable functions) an
    interrupted step of that sort counts as a failed try.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gcp_oncetask.checks import tagged, values
from gcp_oncetask.checks.tagged import NotTaggableError
from gcp_oncetask.checks.told import said_by
from gcp_oncetask.clock import Duration
from gcp_oncetask.errors import JournalMismatchError, LeaseLostError, RunFailedError, UsageError
from gcp_oncetask.execution.journaling import Journal, checked_name
from gcp_oncetask.execution.results import NOT_DONE, HandlerResult, NotDone
from gcp_oncetask.execution.running import Stop
from gcp_oncetask.rules import journal as journals
from gcp_oncetask.rules import met_words
from gcp_oncetask.rules.journal import EntrySort, EntryState, JournalEntry
from gcp_oncetask.rules.met_words import Meant
from gcp_oncetask.rules.record import Intent, WaitFor
from gcp_oncetask.rules.retry_policy import RetryPolicy
from gcp_oncetask.rules.timestamps import instant

MAX_ERROR: Final = 500
"""Most characters of an error that an entry keeps."""
MAX_TRIES: Final = 20
"""Errors that an entry keeps."""
VERIFY_AFTER: Final = timedelta(seconds=60)
"""Time after an intent before which "not done" does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """
    Options of a run; see ``Attempt.options``.
    """

    result: Any = None
    retry: RetryPolicy | None = None
    once: bool = False
    verify: Callable[[str], Any] | None = None
    verify_after: timedelta = VERIFY_AFTER
    not_done: tuple[type[BaseException], ...] = ()
    strict: bool = False
    was: str | None = None


PLAIN: Final = RunOptions()


def options(
    *,
    result: Any = None,
    retry: RetryPolicy | None = None,
    once: bool = False,
    verify: Callable[[str], Any] | None = None,
    verify_after: Duration = VERIFY_AFTER,
    not_done: type[BaseException] | Sequence[type[BaseException]] = (),
    strict: bool = False,
    was: str | None = None,
) -> RunOptions:
    """
    Return checked options.

    Raises:
        UsageError: They are invalid, or contradict each other.
    """
    classes = (not_done,) if isinstance(not_done, type) else tuple(not_done)
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise UsageError(
            f"retry is {retry!r:.80}; it must be a retry policy, such as ExponentialBackoff(max_attempts=3)."
        )
    if (verify is not None or classes) and not once:
        raise UsageError("verify= and not_done= are for runs with once=True.")
    if any(not isinstance(each, type) or not issubclass(each, Exception) for each in classes):
        raise UsageError("not_done must name classes of exceptions.")
    if was is not None:
        checked_name(was)
    if result is not None:
        tagged.check_type(result, "result")
    after = values.length(verify_after, "verify_after")
    return RunOptions(
        result=result,
        retry=retry,
        once=once,
        verify=verify,
        verify_after=after,
        not_done=classes,
        strict=strict,
        was=was,
    )


def digest_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """
    Return a digest of the arguments of a run; None if JSON can't say them.
    """
    try:
        text = repr(tagged.keep([list(args), sorted(kwargs.items())]).data)
    except NotTaggableError:
        return None
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Run:
    """
    One word ``run``.
    """

    def __init__(
        self,
        journal: Journal,
        name: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        chosen: RunOptions,
    ) -> None:
        self._journal, self._name, self._fn = journal, name, fn
        self._args, self._kwargs, self._options = args, kwargs, chosen
        self._as = chosen.result if chosen.result is not None else tagged.returned_by(fn)
        self._digest = digest_of(args, kwargs)

    def answer(self) -> Any:
        """
        Return the run's answer: that of the journal, or that of the function.

        Raises:
            RunFailedError: Its retries are used up, now or in an earlier attempt.
            Exception: The function has raised it.
        """
        journal = self._journal
        entry = journal.enter(self._name, EntrySort.RUN, was=self._options.was)
        if entry is not None:
            known, answer = self._known(entry)
            if known:
                return answer
        journal.room(self._name)
        journal.hand_over()
        return self._call(entry)

    def _known(self, entry: JournalEntry) -> tuple[bool, Any]:
        """
        Return whether *entry* answers the run, and its answer.
        """
        journal, chosen = self._journal, self._options
        intent = next((each for each in journal.lock.open if each.name == entry.name), None)
        met = met_words.meet(
            entry,
            EntrySort.RUN,
            args=self._digest,
            strict=chosen.strict,
            verifiable=chosen.verify is not None,
            intent=intent,
            now=journal.now(),
        )
        if met.warns:
            journal.attempt.context.log(logging.WARNING, "%s", self._differs())
        match met.meant:
            case Meant.ANSWER:
                return True, journal.answer(entry, self._as)
            case Meant.RAISE:
                raise failed(entry)
            case Meant.FAIL:
                raise self._rejected(str(entry.value))
            case Meant.WAIT:
                sort = WaitFor.VERIFY if entry.state is EntryState.OPEN else WaitFor.RETRY
                if sort is WaitFor.RETRY:
                    journal.tell()
                raise journal.suspend(journal.wait_for(entry.name, sort, met.until, entry))
            case Meant.VERIFY:
                assert intent is not None
                return self._verified(entry, intent)
            case Meant.CALL:
                journal.tell()
                return False, None
            case _:
                raise journal.ask(self._question(entry, met.meant))

    def _differs(self) -> str:
        return f"The run {self._name!r} was called with other arguments before; the journal's answer counts."

    def _question(self, entry: JournalEntry, meant: Meant) -> Exception:
        """
        Return the error that asks a person about the run.
        """
        name = self._name
        if meant is Meant.ASK:
            return UsageError(
                f"The run {name!r} was begun once, its result is not known, and it has no verify=. Did it happen?",
                name=name,
            )
        if entry.state is not EntryState.OPEN:
            return JournalMismatchError(self._differs(), name=name)
        return JournalMismatchError(
            f"The run {name!r} was begun once with other arguments, and its result is not known. Did it happen?",
            name=name,
        )

    def _verified(self, entry: JournalEntry, intent: Intent) -> tuple[bool, Any]:
        """
        Find out whether a run that an earlier attempt has begun once has happened.
        """
        journal, options_, name = self._journal, self._options, self._name
        assert options_.verify is not None
        journal.check_held()
        with journal.calling(name, "verify"):
            # The entry has the key with which the call was made.
            found = options_.verify(journals.key_in(entry) or journal.key_of(name))
        happened = found is not NOT_DONE
        met = met_words.verified(intent, happened=happened, after=options_.verify_after, now=journal.now())
        if met.meant is Meant.ANSWER:
            return True, self._keep(found, entry, verified=True)
        if met.meant is Meant.WAIT:
            raise journal.suspend(journal.wait_for(entry.name, WaitFor.VERIFY, met.until, entry))
        return False, None

    # --- calling ---

    def _call(self, entry: JournalEntry | None) -> Any:
        with self._journal.under_way():
            return self._tried(entry)

    def _tried(self, entry: JournalEntry | None) -> Any:
        journal, options_ = self._journal, self._options
        tries: list[dict[str, Any]] = list((entry.more or {}).get("tries", [])) if entry is not None else []
        while True:
            entry = self._begin(entry, tries)
            try:
                with journal.calling(self._name, call=(self._fn, self._args, self._kwargs, self._options)):
                    value = self._fn(*self._args, **self._kwargs)
            except BaseException as error:
                if isinstance(error, (HandlerResult, LeaseLostError)) or not isinstance(error, Exception):
                    if options_.once:
                        journal.attempt.stop = Stop(error)
                    raise
                entry = self._raised(error, entry, tries)
                if options_.retry is None or not self._again(error, entry, tries):
                    raise
                continue
            return self._keep(value, entry)

    def _begin(self, entry: JournalEntry | None, tries: list[dict[str, Any]]) -> JournalEntry | None:
        """
        Commit the intent, or the values that the function may have seen.
        """
        journal = self._journal
        if self._options.once:
            self._check_callable()
            now = journal.now()
            grace = journal.attempt.runtime.config.log_grace
            opened = journals.intent(self._name, journal.lock, now, grace)
            more: dict[str, Any] = {"key": journal.key_of(self._name)}
            more |= {"tries": tries} if tries else {}
            # A person's answer is read by this type.
            more |= {} if self._as is None else {"type": tagged.name_of(self._as)}
            entry = journal.entry(self._name, EntrySort.RUN, entry, state=EntryState.OPEN, args=self._digest, more=more)
            journal.commit([entry], opened=opened, progress=False)
        else:
            journal.flush()
        journal.check_held()
        return entry

    def _check_callable(self) -> None:
        """
        Check that the function takes its arguments, before an intent says that the call may have happened.

        Raises:
            UsageError: It does not; nothing was called.
        """
        try:
            if not callable(self._fn):
                raise TypeError(f"a {type(self._fn).__name__} is no function")
            inspect.signature(self._fn).bind(*self._args, **self._kwargs)
        except TypeError as error:
            raise UsageError(
                f"The run {self._name!r} can't be called: {error}. Nothing was called; correct the code.",
                name=self._name,
            ) from None
        except ValueError:  # a function of C without a signature
            return

    def _raised(self, error: Exception, entry: JournalEntry | None, tries: list[dict[str, Any]]) -> JournalEntry | None:
        """
        Note that the function has raised; with ``once=True`` an error that is not certain ends the attempt.
        """
        journal, options_ = self._journal, self._options
        words = journal.attempt.runtime.config.log_contents
        number = tries[-1]["number"] + 1 if tries else 1
        text = values.printable(said_by(error, words=words)[:MAX_ERROR])[:MAX_ERROR]
        tries.append({"number": number, "at": instant(journal.now()), "error": text})
        del tries[:-MAX_TRIES]
        if not options_.once:
            return entry
        if not isinstance(error, (NotDone, *options_.not_done)):
            journal.attempt.stop = Stop(error)
            raise error
        if options_.retry is None:
            self._withdraw(entry, EntryState.WITHDRAWN, {"tries": tries})
        return entry

    def _withdraw(
        self, entry: JournalEntry | None, state: EntryState, more: dict[str, Any], *, progress: bool = False
    ) -> JournalEntry:
        journal = self._journal
        more = {"key": journal.key_of(self._name)} | more if self._options.once else more
        made = journal.entry(self._name, EntrySort.RUN, entry, state=state, args=self._digest, more=more)
        self._commit(made, closed=self._name if self._options.once else None, progress=progress)
        return made

    def _commit(self, made: JournalEntry, *, closed: str | None, progress: bool = True) -> None:
        self._journal.commit([made], closed=closed, progress=progress)

    def _again(self, error: Exception, entry: JournalEntry | None, tries: list[dict[str, Any]]) -> bool:
        """
        Wait for the next try of a run with ``retry=``, in the request or after it.

        Raises:
            RunFailedError: No try follows.
        """
        journal, retry = self._journal, self._options.retry
        assert retry is not None
        number, once = tries[-1]["number"], self._options.once
        if not retry.should_retry(number, error):
            more = {"tries": tries, "kind": type(error).__name__}
            raise failed(self._withdraw(entry, EntryState.FAILED, more, progress=True)) from error
        delay = values.seconds(retry.next_delay(number, error, journal.attempt.runtime.clock.random()), "next_delay()")
        if once:
            entry = self._withdraw(entry, EntryState.WITHDRAWN, {"tries": tries})
        self._tell()
        if journal.pause(delay):
            self._tell()
            return True
        until = journal.now() + timedelta(seconds=delay)
        state = EntryState.WITHDRAWN if once else EntryState.TRYING
        more = {"tries": tries, "next": instant(until)} | ({"key": journal.key_of(self._name)} if once else {})
        made = journal.entry(self._name, EntrySort.RUN, entry, state=state, args=self._digest, more=more)
        raise self._later(made, until)

    def _tell(self) -> None:
        """
        Tell the handler of a cancellation before another try.
        """
        self._journal.tell()

    def _later(self, made: JournalEntry, until: datetime) -> BaseException:
        """
        Return the exception that ends the call, whose next try is at *until*.
        """
        journal = self._journal
        return journal.suspend(journal.wait_for(self._name, WaitFor.RETRY, until, made), [made])

    def _keep(self, value: Any, entry: JournalEntry | None, *, verified: bool = False) -> Any:
        """
        Commit the result, and return it as it was kept.
        """
        journal, options_ = self._journal, self._options
        closed = self._name if options_.once else None
        more: dict[str, Any] = {}
        if options_.once:
            more = {"key": journal.key_of(self._name), "begun": None if entry is None else instant(entry.at)}
            more |= {"verified": True} if verified else {}
        try:
            if inspect.isawaitable(value):
                raise NotTaggableError("it is a coroutine, of which nothing has run; runs are plain functions")
            kept = journal.keep(self._name, value, self._as, given=options_.result is not None)
        except NotTaggableError as trouble:
            text = f"{trouble}"[:MAX_ERROR]
            made = journal.entry(
                self._name, EntrySort.RUN, entry, state=EntryState.REJECTED, value=text, args=self._digest, more=more
            )
            self._commit(made, closed=closed)
            raise self._rejected(text) from None
        made = journal.entry(
            self._name, EntrySort.RUN, entry, value=kept.data, model=kept.model, args=self._digest, more=more or None
        )
        self._commit(made, closed=closed)
        return journal.answer(made, self._as)

    def _rejected(self, trouble: str) -> UsageError:
        return self._journal.fail(
            UsageError(f"The run {self._name!r} was done, and its result can't be kept: {trouble}.", name=self._name)
        )


def failed(entry: JournalEntry) -> RunFailedError:
    """
    Return the error of a run whose failure is in the journal.
    """
    more = entry.more or {}
    tries = list(more.get("tries", []))
    last = tries[-1]["error"] if tries else "no error is known"
    number = tries[-1].get("number", len(tries)) if tries else 0
    return RunFailedError(
        f"The run {entry.name!r} has failed for good after {number} tries; the last one: {last}",
        name=entry.name,
        kind=more.get("kind"),
        tries=tries,
    )

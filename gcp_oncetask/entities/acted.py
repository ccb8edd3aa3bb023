"""
The acts of people on stored chains: cancel, reset, resolve, dismiss and acknowledge. Each is one conditional commit, and the
record keeps the person, if one is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, get_args, overload

from gcp_oncetask import rules
from gcp_oncetask.checks import values, words
from gcp_oncetask.clock import Duration
from gcp_oncetask.effects import damage, keys
from gcp_oncetask.effects.dispatch import dispatch
from gcp_oncetask.entities import journal_acts, models
from gcp_oncetask.entities.chains import Scheduled, StoredChains, checked, has_verb, refusal
from gcp_oncetask.entities.models import LockedModel
from gcp_oncetask.errors import DamagedError, UsageError
from gcp_oncetask.rules import verbs
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.decisions import CallRefused, DecisionContext, NeedTime, Put, Target
from gcp_oncetask.rules.document_paths import parse_task_path
from gcp_oncetask.rules.record import Act, Lock, Person, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.retention import too_late
from gcp_oncetask.runtime import addressing
from gcp_oncetask.store.json_data import given_result, parameters
from gcp_oncetask.store.retiring import expiry_of
from gcp_oncetask.store.snapshot import NO_CHANGES, Changes, Snapshot, version_of

How = Literal["run", "happened", "complete", "fail"]
"""A person's decision on a quarantined step."""
SAME: Final = "."
"""In place of a URL: the target of the step that happened."""
_REVIVING: Final = frozenset({"reset", "resolve"})
"""Verbs that are refused when the retention is over."""


class Acting(NamedTuple):
    """
    The circumstances of an act.

    Attributes:
        person: The person; None: a program acts, and the record keeps no act.
        note: The person's own words.
        if_version: Version of the document (``FoundRecord.version``) on which the person has decided; None: any.
    """

    person: Person | None = None
    note: str | None = None
    if_version: str | None = None


NOBODY: Final = Acting()


class ActedChains(StoredChains):
    """
    The chains of one environment, with the acts of people.
    """

    def cancel(self, model: type[LockedModel], id: str, **parts: str) -> bool:  # noqa: A002 - the usual name
        """
        Cancel a chain. A waiting chain ends at once. A running one ends at its next settling; ``attempt.cancelled``
        shows the cancellation to its handler.

        Returns:
            True if this call cancelled the chain; False if it has ended, or if its cancellation is under way.

        Raises:
            TaskNotFoundError: There is no such document, or it was never scheduled.
            TaskConflictError: The document belongs to another environment.
            UsageError: The record is no chain, but a named lock for instance; the message says what to do instead.
        """
        return self.cancel_path(models.path_of(model, id, parts))

    def reset(
        self,
        model: type[LockedModel],
        id: str,  # noqa: A002 - the usual name
        *,
        keep_errors: bool = False,
        new_key: bool = False,
        step: int | None = None,
        fresh: bool = False,
        from_name: str | None = None,
        **parts: str,
    ) -> Scheduled:
        """
        Run an ended step again, as a new sequence at the same URL. A step that did not complete keeps its
        ``attempt.key`` and its journal: a durable handler goes on where it has stopped.

        A damaged record in any status is written anew, with all values that can be read.

        Args:
            model: Model of the document.
            id: Its id.
            keep_errors: Whether to keep the list of failed attempts.
            new_key: Run a damaged step whose ``attempt.key`` can't be read with a new key.
            step: The step to run, 1-based; only for a damaged record whose step can't be read.
            fresh: Run with a new key and an empty journal: all effects are repeated.
            from_name: Forget this entry of the journal, and those after it; the key stays. Runs with ``once=True`` among them
                are verified before they are called again. Events that were taken must be sent again.
            **parts: The fields that the model's collection names.

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``.
            AlreadyScheduledError: The step has not ended, or its record is damaged and its last lease may be held.
            DamagedError: The record can't be written anew with these arguments; the message says which one to add, or
                what to repair by hand.
        """
        path = models.path_of(model, id, parts)
        return self.reset_path(
            path, keep_errors=keep_errors, new_key=new_key, step=step, fresh=fresh, from_name=from_name
        )

    @overload
    def resolve(self, model: type[LockedModel], id: str, how: Literal["run"], **parts: str) -> Scheduled: ...
    @overload
    def resolve(
        self,
        model: type[LockedModel],
        id: str,
        how: Literal["happened"],
        *,
        result: Any = None,
        next: str | None = None,
        params: Any = None,
        end: bool = False,
        **parts: str,
    ) -> Scheduled | None: ...
    @overload
    def resolve(
        self, model: type[LockedModel], id: str, how: Literal["complete"], *, result: Any = None, **parts: str
    ) -> None: ...
    @overload
    def resolve(self, model: type[LockedModel], id: str, how: Literal["fail"], **parts: str) -> None: ...
    @overload
    def resolve(
        self,
        model: type[LockedModel],
        id: str,
        *,
        run: str,
        result: Any = ...,
        not_done: bool = False,
        **parts: str,
    ) -> Scheduled | None: ...
    def resolve(
        self,
        model: type[LockedModel],
        id: str,  # noqa: A002 - the usual name
        how: Any = None,
        *,
        result: Any = ...,
        next: Any = None,  # noqa: A002 - as the option of the command line
        params: Any = None,
        end: Any = False,
        run: Any = None,
        not_done: Any = False,
        **parts: str,
    ) -> Scheduled | None:
        """
        Resolve a quarantined step by a person's decision. If a run with ``once=True`` was begun and its result is not known,
        the decision is about that *run*: it has its *result*, or it was surely *not_done*. After the last such answer the step
        goes on with its journal and key.

        Args:
            model: Model of the document.
            id: Its id.
            how: ``"run"``: run the step again, with the same idempotency key; ``"happened"``: the step has happened, so its
                chain goes on or ends (a failed step that was attempted, too); ``"complete"`` or ``"fail"``: end the chain as
                completed or failed.
            result: The result of the step (``"happened"``) or of the chain (``"complete"``).
            next: With ``"happened"``: URL or path of the next step; ``"."``: the same as that of this step.
            params: With *next*: the parameters of the next step; None: *result*.
            end: With ``"happened"``: the chain ends with *result*.
            run: In place of *how*: name of the run that was begun once; give *result* or *not_done*, too.
            not_done: With *run*: it did not happen, so it is called again with the same key.
            **parts: The fields that the model's collection names.

        Returns:
            The new sequence with ``"run"``, with a *next* step, or after the answer about the last *run*; else None.

        Raises:
            TaskNotFoundError, TaskConflictError: As ``cancel``.
            UsageError: As ``cancel``; or *next* and *end* contradict each other; or *result* or *params* can't be stored, or the
                handler, which is registered in this process, would not return *result*.
            AlreadyScheduledError: The step is not quarantined; it has no question about *run*; or the attempt that has begun
                *run* may still be under way.
        """
        path = models.path_of(model, id, parts)
        return self.decide_path(path, how, result=result, next=next, params=params, end=end, run=run, not_done=not_done)

    def dismiss(self, model: type[LockedModel], id: str, **parts: str) -> None:  # noqa: A002
        """
        Take a failed chain, or one whose result is lost, off the list of those that need a person.

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``.
            TaskError: It needs no person, or another decision: a quarantined step is resolved.
        """
        self.dismiss_path(models.path_of(model, id, parts))

    def cancel_path(self, path: str, *, acting: Acting = NOBODY) -> bool:
        """
        Cancel by the document's path; see ``cancel``.
        """
        decision, snapshot = self._by_hand(
            path, "cancel", lambda lock, seen: rules.cancel(lock, self._runtime.decision_context(seen)), acting
        )
        if not isinstance(decision, Put):
            return False
        if decision.dispatch:
            dispatch(self._runtime, snapshot)
        if decision.lock.status is not Status.LEASED:
            keys.give_up_reservation(self._runtime, snapshot)
        return True

    def reset_path(
        self,
        path: str,
        *,
        keep_errors: bool = False,
        new_key: bool = False,
        step: int | None = None,
        fresh: bool = False,
        from_name: str | None = None,
        acting: Acting = NOBODY,
    ) -> Scheduled:
        """
        Reset by the document's path; see ``reset``.
        """
        addressing.account(self._runtime)
        cut = journal_acts.cut_for(self._runtime, path, from_name, fresh=fresh)
        if step is not None:
            values.whole(step, "step")
        nonce = self._runtime.clock.nonce()
        decision: Put | CallRefused

        def decide(lock: Lock, seen: Snapshot) -> Put | CallRefused:
            if lock.chunks and not fresh and cut is None:
                journal_acts.check_whole(self._runtime, path, lock)
            at = self._runtime.decision_context(seen)
            return rules.reset(lock, nonce, at, keep_errors=keep_errors, fresh=fresh, cut=cut)

        try:
            decision, snapshot = self._by_hand(
                path,
                "reset",
                decide,
                acting,
                schedules=True,
            )
        except DamagedError as error:
            decision, snapshot = self._anew(error, rules.Wishes(keep_errors, new_key, step, fresh=fresh), acting)
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return self._dispatched(snapshot)

    def _anew(self, error: DamagedError, wishes: rules.Wishes, acting: Acting) -> tuple[Put | CallRefused, Snapshot]:
        """
        Write the record of a damaged chain anew.
        """
        if verbs.record_of(error.document, None, {}).sort not in verbs.VERBS["reset"]:
            raise UsageError(f"{error} It has no reset: delete the document. Nothing was written.") from error
        self._runtime.register(self._template_of(error.document), None)
        wishes = wishes._replace(queue=addressing.queue_name(self._runtime, None))

        def signed(put: Put, at: DecisionContext) -> Put:
            if acting.person is None:
                return put
            act = rules.act_of("reset", acting.person, put.lock, acting.note, at.now)
            return rules.acted(put, replace(act, status=str(Reason.DAMAGED), sequence=put.lock.sequence - 1))

        changed = damage.reset(self._runtime, error.document, wishes, signed, acting.if_version)
        return changed.decision, changed.snapshot

    def resolve_path(
        self,
        path: str,
        how: How,
        *,
        result: Any = None,
        next: str | None = None,  # noqa: A002
        params: Any = None,
        end: bool = False,
        acting: Acting = NOBODY,
    ) -> Scheduled | None:
        """
        Resolve by the document's path; see ``resolve``.
        """
        words.check("how", how, get_args(How))
        if how == "happened":
            check_next(next, params, end=end)
        elif next is not None or params is not None or end:
            raise UsageError(f"next, params and end are for 'happened' alone, not for {how!r}.")
        addressing.account(self._runtime)
        task = parse_task_path(path)
        if result is not None and task is not None and task.kind in self._runtime.result_checks:
            self._runtime.result_checks[task.kind](result)
        nonce, kept = self._runtime.clock.nonce(), given_result(result)
        given = parameters(params)

        def decide(lock: Lock, seen: Snapshot) -> Put | CallRefused:
            at = self._runtime.decision_context(seen)
            if how != "happened":
                return rules.resolve(lock, how, nonce, at, result=kept)
            target = None if next is None else self._next(lock, next, kept.data() if given is None else given)
            return rules.happened(lock, target, nonce, at, result=kept)

        decision, snapshot = self._by_hand(
            path, "resolve", decide, acting, schedules=how in ("run", "happened"), act=how
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return self._dispatched(snapshot) if decision.dispatch else None

    def decide_path(
        self, path: str, how: How | None, *, result: Any = ..., run: str | None, not_done: bool, **more: Any
    ) -> Scheduled | None:
        """
        Resolve by the document's path, with *how* or with the answer about *run*; see ``resolve``.
        """
        if run is not None:
            if how is not None or any(more.values()):
                raise UsageError(
                    "run= has its own answer, result= or not_done=True; how, next, params and end are for steps."
                )
            return self.answer_path(path, run, result=result, not_done=not_done)
        if not_done:
            raise UsageError("not_done= is for a run: name it by run=.")
        # Without both, the message of the check of *how* says which values there are.
        return self.resolve_path(path, how, result=None if result is ... else result, **more)  # type: ignore[arg-type]

    def answer_path(
        self, path: str, run: str, *, result: Any = ..., not_done: bool = False, acting: Acting = NOBODY
    ) -> Scheduled | None:
        """
        Answer the question about *run* by the document's path; see ``resolve``.
        """
        if (result is ...) is not not_done:
            raise UsageError(
                "A run has a result (result=, --result), or was not done (not_done=True, --not-done): give one."
            )
        addressing.account(self._runtime)
        entry = journal_acts.entry_for(self._runtime, checked(path), run, result, not_done=not_done)
        nonce = self._runtime.clock.nonce()
        noted = acting._replace(note=run if acting.note is None else f"{run}: {acting.note}")
        decision, snapshot = self._by_hand(
            path,
            "resolve",
            lambda lock, seen: rules.answer(lock, run, entry, nonce, self._runtime.decision_context(seen)),
            noted,
            schedules=True,
            act="not-done" if not_done else "answer",
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return self._dispatched(snapshot) if decision.dispatch else None

    def _next(self, lock: Lock, url: str, params: Any) -> Target:
        """
        Return the target of the step that follows one that has happened.
        """
        if url == SAME:
            return Target(lock.url, lock.queue, params, lock.headers)
        if lock.url is None:
            raise UsageError(f"Workers pull this task, so its next step has no URL: {SAME!r} is its next step.")
        return addressing.target(
            self._runtime, url, queue=lock.queue, params=params, headers=lock.headers, delay=None, at=None
        )

    def dismiss_path(self, path: str, *, acting: Acting = NOBODY) -> None:
        """
        Dismiss by the document's path; see ``dismiss``.
        """
        decision, _ = self._by_hand(
            path, "dismiss", lambda lock, seen: rules.dismiss(lock, self._runtime.decision_context(seen)), acting
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)

    def pause_path(self, path: str, *, resume: bool = False, acting: Acting = NOBODY) -> None:
        """
        Let the recurring task at *path* make no occurrences, or let it make them again (*resume*).

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``; also: it does not recur.
            TaskError: It is paused already, or is not paused.
        """
        verb, rule = ("resume", rules.resume) if resume else ("pause", rules.pause)
        decision, snapshot = self._by_hand(
            path, verb, lambda lock, seen: rule(lock, self._runtime.decision_context(seen)), acting
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        if decision.dispatch:
            dispatch(self._runtime, snapshot)

    def acknowledge_path(self, path: str, duration: Duration, *, acting: Acting) -> datetime:
        """
        Promise to attend to the document at *path* within *duration* (seconds or a timedelta); until then, no reminder
        names it. Its status does not change.

        Returns:
            The end of that time, by the server's clock.

        Raises:
            TaskNotFoundError, TaskConflictError, UsageError: As ``cancel``.
            TaskError: It needs no person.
        """
        length = timedelta(seconds=values.seconds(duration, "duration"))
        until = self._runtime.store.estimate() + length
        by = "" if acting.person is None else acting.person.claimed or acting.person.name
        decision, _ = self._by_hand(
            path,
            "ack",
            lambda lock, seen: rules.acknowledge(lock, by, until, self._runtime.decision_context(seen)),
            acting,
        )
        if isinstance(decision, CallRefused):
            raise refusal(path, decision)
        return until

    def _by_hand(
        self,
        path: str,
        verb: str,
        rule: Callable[[Lock, Snapshot], Put | CallRefused],
        acting: Acting = NOBODY,
        *,
        schedules: bool = False,
        act: str | None = None,
    ) -> tuple[Put | CallRefused, Snapshot]:
        runtime, env, person = self._runtime, self.config.env, acting.person
        done: Act | None = None

        def decide(seen: Snapshot) -> Put | CallRefused | NeedTime:
            nonlocal done
            lock = seen.lock
            if lock is None:
                return CallRefused(Refusal.MISSING, "it does not exist or was never scheduled")
            if lock.env != env:
                return CallRefused(Refusal.FOREIGN, f"it belongs to environment {lock.env!r}, not {env!r}")
            has_verb(verb, seen, lock)
            if done is not None and done in lock.acts:
                # The commit of an earlier try was applied, and its answer was lost.
                return Put(lock)
            late = too_late(expiry_of(seen), runtime.decision_context(seen)) if verb in _REVIVING else None
            moved = rules.moved(lock, acting.if_version, version_of(seen.version))
            found = late or moved or rule(lock, seen)
            if person is None or not isinstance(found, Put):
                return found
            done = rules.act_of(act or verb, person, lock, acting.note, runtime.decision_context(seen).now)
            return rules.acted(found, done)

        def changes(seen: Snapshot) -> Changes:
            template = self._template_of(seen.path)
            if schedules and seen.lock is not None:
                if seen.lock.url is not None:
                    addressing.check_target(runtime, seen.lock.url, seen.lock.queue or "", seen.lock.headers)
                # The commit comes next. From here on every sweep must know the collection.
                runtime.register(template, seen.lock.url)
            return NO_CHANGES

        # The document is read together with the server's time, which decides whether the retention is over.
        start = runtime.store.read(checked(path)) if verb in _REVIVING else None
        changed = runtime.store.change(checked(path), decide, start=start, changes=changes)
        decision = changed.decision
        if isinstance(decision, CallRefused) and decision.refusal in (Refusal.MISSING, Refusal.FOREIGN, Refusal.MOVED):
            raise refusal(path, decision)
        assert isinstance(decision, Put | CallRefused)
        return decision, changed.snapshot

    def _template_of(self, path: str) -> str:
        """
        Return the collection in which the record at *path* counts.

        Raises:
            UsageError: The record counts in no collection.
        """
        template = self._runtime.registry.template_of(path, self._runtime.collections, forgotten=True)
        if template is None:
            collection = path.rpartition("/")[0]
            raise UsageError(
                f"{path}: its record does not count. This library has never scheduled anything in {collection!r:.200}, "
                "so another writer of the document may have made the record up. If it is yours, set "
                f"ONCETASK_COLLECTIONS={collection[:200]}. Nothing was written.",
                document=path,
            )
        return template


def check_next(next: str | None, params: Any, *, end: bool) -> None:  # noqa: A002
    """
    Check the arguments of ``happened``: either the next step, or the end.

    Raises:
        UsageError: Both or neither are given, or there are parameters for no step.
    """
    if (next is None) is not end:
        raise UsageError(
            "A step that happened goes on at next= (--next URL), or its chain ends with it by end=True (--end): give one."
        )
    if end and params is not None:
        raise UsageError("params are for the next step, and end=True says that there is none.")

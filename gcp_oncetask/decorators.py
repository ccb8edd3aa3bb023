"""
Decorators: functions that exclude each other, and functions that run once per key.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, get_args, overload

from pydantic import BaseModel, TypeAdapter, ValidationError

from gcp_oncetask.checks import field_types, values, words
from gcp_oncetask.checks.paths import trouble_with_path
from gcp_oncetask.checks.round_trip import loss, unwritable
from gcp_oncetask.checks.told import problems
from gcp_oncetask.clock import Duration
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import LeaseLostError, OncetaskError, ResultNotStoredError, UsageError
from gcp_oncetask.execution.attempt import Attempt
from gcp_oncetask.execution.calling import call_through
from gcp_oncetask.locks.arguments import Calls, digest, document_id, readable
from gcp_oncetask.locks.holding import checked_lease
from gcp_oncetask.locks.lock import NamedLock
from gcp_oncetask.locks.runs import OnceCall, run_once
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules.decisions import Policy
from gcp_oncetask.rules.documents import LOCKS
from gcp_oncetask.rules.record import Result
from gcp_oncetask.store.json_data import result as result_of

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Key = Callable[..., Any] | str | None
Ttl = Callable[..., Duration | None] | Duration | None
OnBusy = Literal["raise", "skip", "wait"]


class LockedOptions(TypedDict, total=False):
    """
    Options of ``locked`` beside ``on_busy`` and ``timeout``.
    """

    key: Key
    ttl: Ttl
    keep_alive: Duration | None
    on_lost: Callable[..., Any] | None
    name: str | None
    collection: str


class OnceOptions(TypedDict, total=False):
    """
    Options of ``once`` beside ``result``.
    """

    key: Key
    ttl: Duration
    run_limit: Duration
    payload: Callable[..., Any] | None
    retention: Duration | None
    name: str | None
    collection: str


@overload
def locked(
    locker: Locker, *, on_busy: Literal["raise"] = "raise", **options: Unpack[LockedOptions]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@overload
def locked(
    locker: Locker,
    *,
    on_busy: Literal["wait"],
    timeout: Duration | None = None,
    **options: Unpack[LockedOptions],
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@overload
def locked(
    locker: Locker, *, on_busy: Literal["skip"], **options: Unpack[LockedOptions]
) -> Callable[[Callable[P, R]], Callable[P, R | None]]: ...
@overload
def locked(
    locker: Locker, *, on_busy: Callable[..., S], **options: Unpack[LockedOptions]
) -> Callable[[Callable[P, R]], Callable[P, R | S]]: ...
def locked(
    locker: Locker,
    *,
    key: Key = None,
    ttl: Ttl = None,
    keep_alive: Duration | None = None,
    on_busy: OnBusy | Callable[..., Any] = "raise",
    on_lost: Callable[..., Any] | None = None,
    timeout: Duration | None = None,
    name: str | None = None,
    collection: str = LOCKS,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """
    Run a function under the named lock of its arguments: equal calls exclude each other, on all machines.

    Args:
        locker: Whose database and environment; for another database, a locker with another client.
        key: What excludes: a text is the lock's name, whatever the arguments; a function of the arguments returns one, or
            JSON data (the function's own locks), or None (one lock for the function). None: the function and its arguments,
            which are equal if their values and types are: see ``locks.canonical.canonical``.
        ttl: As ``Locker.lock``, or a function of the arguments that returns it.
        keep_alive: As ``Locker.lock``.
        on_busy: When somebody else holds it: ``raise`` LockBusyError; ``skip`` (return None); ``wait``; or a function of
            (the error, the arguments), whose result is returned.
        on_lost: Called with (the LeaseLostError, the arguments) when the lease had run out before the function was over:
            once, after it; ``error.taken_over`` tells whether somebody else has held the lock since. None: logged as an
            error. What the function returned or raised goes on.
        timeout: How long ``wait`` waits, then LockBusyError; None: for ever.
        name: What the function is called in keys; None: its module and qualified name. Give one that stays when code moves.
        collection: Where the lock's document is.

    Raises:
        UsageError: The function is async or a generator, or an option makes no sense; when called: an argument can't be part
            of a key.
    """
    wrong = None if callable(on_busy) else words.wrong("on_busy", on_busy, get_args(OnBusy))
    if wrong is not None:
        raise UsageError(f"{wrong} A function is allowed too.")
    if timeout is not None and on_busy != "wait":
        raise UsageError('timeout= is for on_busy="wait".')
    for option, length in (("timeout", timeout), ("keep_alive", keep_alive), ("ttl", None if callable(ttl) else ttl)):
        if length is not None:
            values.seconds(length, option)
    _check_names(name, collection)

    def decorate(fn: Callable[P, Any]) -> Callable[P, Any]:
        calls = Calls(fn, name)

        @functools.wraps(fn)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            lock = locker.lock(
                _lock_name(calls, key, args, kwargs),
                ttl(*args, **kwargs) if callable(ttl) else ttl,
                keep_alive=keep_alive,
                timeout=timeout if on_busy == "wait" else 0.0,
                collection=collection,
            )
            busy = lock.take()
            if busy is not None:
                if callable(on_busy):
                    return on_busy(busy, *args, **kwargs)
                if on_busy == "skip":
                    return None
                raise busy
            try:
                value = fn(*args, **kwargs)
            except BaseException:
                try:
                    _end(lock, on_lost, args, kwargs)
                except Exception:  # noqa: BLE001 - a callback's trouble must not hide the function's
                    LOGGER.exception("%s: on_lost failed; what the function raised goes on", calls.name)
                raise
            _end(lock, on_lost, args, kwargs)
            return value

        return run

    return decorate


def _check_names(name: str | None, collection: str) -> None:
    if name is not None:
        values.name(name, "name")
    values.collection(collection, "collection")


def _lock_name(calls: Calls, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    value = key(*args, **kwargs) if callable(key) else key
    if isinstance(value, str):
        return value
    return calls.name + (calls.text(args, kwargs) if key is None else "" if value is None else calls.own(value))


def _end(lock: NamedLock, on_lost: Callable[..., Any] | None, args: Any, kwargs: Any) -> None:
    try:
        lost = lock.end()
    except OncetaskError as error:
        # The function is over: its result is worth more than the news that its lock stays until its ttl.
        LOGGER.error("The lock %r could not be released: %s", lock.name, error)
        return
    if lost is not None:
        (on_lost or _log)(lost, *args, **kwargs)


def _log(lost: LeaseLostError, *_: Any, **__: Any) -> None:
    LOGGER.error("%s", lost)


@overload
def once(
    locker: Locker, *, result: None = None, **options: Unpack[OnceOptions]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@overload
def once(
    locker: Locker, *, result: type[S], **options: Unpack[OnceOptions]
) -> Callable[[Callable[P, Any]], Callable[P, S]]: ...
@overload
def once(
    locker: Locker, *, result: Any, **options: Unpack[OnceOptions]
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
def once(
    locker: Locker,
    *,
    key: Key = None,
    result: Any = None,
    ttl: Duration = 60.0,
    run_limit: Duration = 630.0,
    payload: Callable[..., Any] | None = None,
    retention: Duration | None = None,
    name: str | None = None,
    collection: str = LOCKS,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """
    Run a function inline once per key; every later call returns the stored result.

    Two commits and no read for the first call. If the function raises, the error is noted in the document, the caller gets it,
    and the key can be run again; if its process dies, it can be run again once the lease has ended by the server's clock. So
    what it does to the outside world may happen twice if it dies halfway: hand its key on as an idempotency key.

    Args:
        locker: Whose database and environment.
        key: A function of the arguments that returns a text, JSON data, or None (it runs once ever); or a text. None: the
            arguments, which are equal if their values and types are: see ``locks.canonical.canonical``. Keys of different
            functions do not meet.
        result: A type, such as a pydantic model, that results are checked against before they are stored, and given back as.
            None: JSON data, given back as stored, also by the first call (a tuple is a list).
        ttl: Length of the lease, seconds or a timedelta, renewed while the function runs: how long after a crash another
            call may take over.
        run_limit: Renewals end here: whatever still runs then may be run beside it.
        payload: A function of the arguments that returns what must be the same for one key; None: all arguments.
        retention: How long the result is kept, seconds or a timedelta, an hour at least; None: for ever. After it, when TTL has
            deleted the document, the key may run again; not before a person was told of a result that is lost.
        name: What the function is called in keys; None: its module and qualified name. Give one that stays when code moves.
        collection: Where the documents are.

    Raises:
        UsageError: The function is async or a generator, the durations make no sense, or no value of a field of *result* could
            be stored and loaded again; when called: an argument can't be part of a key, or the stored result does not fit
            *result*.
        ResultNotStoredError: When called: it has run, but what it returned could not be stored, did not fit *result*, or would
            not be loaded as an equal object. It is not run again. The call that ran it gets what it returned, unless *result*
            is given.
        LockBusyError: When called: the key is being run.
        TaskConflictError: When called: the key was used with another payload.
        LeaseLostError: When called: the function was over too late, and another call had taken over; nothing was recorded.
        StoreError, ContentionError: When called: Firestore was unreachable or refused. If the function had run by then,
            ``unknown`` tells whether its result may be stored; if it is not, it can be run again when the lease has ended.
    """
    lease, limit = checked_lease(locker.runtime, "ttl", ttl), values.seconds(run_limit, "run_limit")
    if limit < lease:
        raise UsageError(f"run_limit ({limit:g} s) must be at least the ttl ({lease:g} s).")
    policy = Policy(lease=lease, timeout=limit, run_limit=limit)
    kept = None if retention is None else values.seconds(retention, "retention")
    adapter: TypeAdapter[Any] | None = None
    if result is not None:
        field_types.check_type(result, "result=", field_types.RESULT)
        adapter = TypeAdapter(result)
    _check_names(name, collection)

    def decorate(fn: Callable[P, Any]) -> Callable[P, Any]:
        calls = Calls(fn, name)

        @functools.wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            text = calls.key(key, args, kwargs)
            if text is not None:
                values.name(text, "key")
            names = (calls.name,) if text is None else (calls.name, text)
            data = calls.text(args, kwargs, "payload") if payload is None else calls.own(payload(*args, **kwargs))
            document = f"{collection}/{document_id(locker.config.env, 'once', *names)}"
            trouble = trouble_with_path(document)
            if trouble is not None:
                raise UsageError(
                    f"collection={collection!r:.80} is not the path of a collection, as {LOCKS} is: {trouble}."
                )
            run = OnceCall(document, calls.name, text, digest(data), policy, kept)

            own: list[Any] = []

            def make(attempt: Attempt) -> Result:
                own.append(call_through(locker.executor.middleware, attempt, functools.partial(fn, *args, **kwargs)))
                return _recorded(adapter, own[0])

            found = run_once(locker.executor, run, make)
            if found.lost is None:
                return _typed(adapter, found.data(), calls.name)
            if own and adapter is None:
                # It has just run: its caller gets what nobody else can.
                return own[0]
            shown = None if text is None else readable(text)
            raise ResultNotStoredError(
                f"{calls.name} has run for the key {shown!r}, but what it returned could not be stored: {found.lost}",
                document=document,
                name=calls.name,
                key=text,
                reason=found.lost,
            )

        return call

    return decorate


def _recorded(adapter: TypeAdapter[Any] | None, value: Any) -> Result:
    """
    How *value*, which the function has returned, is recorded. Never raises: it has run, so a value that does not fit, or would
    not be loaded as an equal object, is a lost result.
    """
    made = result_of(value)
    if adapter is None:
        return made
    if made.lost is not None:
        found = unwritable(value, ValueError(made.lost)) if isinstance(value, BaseModel) else None
        return made if found is None else Result(lost=str(found))
    try:
        given = adapter.validate_python(value)
        lost = _lost(adapter, given, made)
        if lost is None:
            return made
        # By alias, without computed fields, Json fields as text.
        other = result_of(adapter.dump_python(given, mode="json", by_alias=True, round_trip=True, warnings=False))
        return other if other.lost is None and _lost(adapter, given, other) is None else Result(lost=lost)
    except ValidationError:
        # JSON data of a strict type, or it does not fit.
        pass
    except Exception as error:  # noqa: BLE001 - validators and serializers are code of the user's
        return Result(lost=f"validators of its type fail on it ({type(error).__name__})")
    try:
        _typed(adapter, made.data(), "it")
    except UsageError as error:
        return Result(lost=str(error))
    return made


def _lost(adapter: TypeAdapter[Any], given: Any, made: Result) -> str | None:
    """
    Why *given* would not be loaded from *made* as an equal object; None: it would.
    """
    try:
        loaded = _typed(adapter, made.data(), "it")
    except UsageError as error:
        return str(error)
    found = loss(given, loaded)
    return None if found is None else str(found)


def _typed(adapter: TypeAdapter[Any] | None, stored: Any, name: str) -> Any:
    if adapter is None:
        return stored
    try:
        return adapter.validate_json(json.dumps(stored))
    except ValidationError as error:
        raise UsageError(f"{name}: its result does not fit result=: {problems(error)}.") from None

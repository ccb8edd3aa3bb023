"""
Decorators for functions that exclude each other, and for functions that run once per key.
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
from gcp_oncetask.entities.chains import executor_of, runtime_of
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
from gcp_oncetask.rules.document_paths import LOCKS
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
        locker: Gives the database and the environment; for another database, make a locker with another client.
        key: The lock's key. A text is the lock's name, the same for all arguments. A function of the arguments returns a
            text, or JSON data (a key among the function's own locks), or None (one lock for the function). None: the
            function and its arguments are the key; arguments are equal if their values and types are, see
            ``locks.canonical.canonical``.
        ttl: As for ``Locker.lock``, or a function of the arguments that returns it.
        keep_alive: As for ``Locker.lock``.
        on_busy: The action when another holder has the lock: ``raise`` LockBusyError; ``skip`` (return None); ``wait``; or
            a function of (the error, the arguments), whose result is returned.
        on_lost: A function that is called with (the LeaseLostError, the arguments), once, after the function, if the lease
            ran out before the function ended. ``error.taken_over`` tells whether another holder has had the lock since.
            None: the error is logged. The function's result or exception reaches the caller in both cases.
        timeout: Time that ``wait`` waits before it raises LockBusyError; seconds or a timedelta; None: for ever.
        name: Name of the function in keys; None: its module and qualified name. Give one that stays when code moves.
        collection: Path of the collection of the lock's document.

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
                except Exception:  # noqa: BLE001 - an error of the callback must not hide the function's
                    LOGGER.exception("%s: on_lost failed; the error of the function goes on", calls.name)
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
        # The function has ended. Its result must not be lost because the lock stays until its ttl.
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

    The first call costs two commits and no read. If the function raises, the error is recorded in the document and raised
    to the caller, and the key can be run again. If its process dies, the key can be run again once the lease has ended by
    the server's clock. So effects outside of Firestore may happen twice if the function dies halfway: hand the key on as an
    idempotency key.

    Args:
        locker: Gives the database and the environment.
        key: A function of the arguments that returns a text, JSON data, or None (it runs once ever); or a text. None: the
            arguments are the key; they are equal if their values and types are, see ``locks.canonical.canonical``. Equal
            keys of different functions are different keys.
        result: A type, such as a pydantic model. Results are checked against it before they are stored, and returned as
            objects of it. None: results are JSON data, returned as stored, also by the first call (a tuple becomes a list).
        ttl: Length of the lease, seconds or a timedelta. The lease is renewed while the function runs; after a crash,
            another call may take over when it has ended.
        run_limit: Time after which the lease is no longer renewed, seconds or a timedelta. If the function still runs then,
            another call may run beside it.
        payload: A function of the arguments that returns the data that must be the same for one key; None: all arguments.
        retention: Time for which the result is kept, seconds or a timedelta, at least an hour; None: for ever. Afterwards,
            when TTL has deleted the document, the key may run again. The document of a lost result is kept until a person
            was alerted.
        name: Name of the function in keys; None: its module and qualified name. Give one that stays when code moves.
        collection: Path of the collection of the documents.

    Raises:
        UsageError: The function is async or a generator, the durations make no sense, or no value of a field of *result* could
            be stored and loaded again; when called: an argument can't be part of a key, or the stored result does not fit
            *result*.
        ResultNotStoredError: When called: the function has run, but its result could not be stored, did not fit *result*,
            or would not be loaded as an equal object. It is not run again. Without *result*, the call that ran it returns
            the result anyway.
        LockBusyError: When called: another call is running the key.
        TaskConflictError: When called: the key was used with another payload.
        LeaseLostError: When called: the function ended too late, after another call had taken over; nothing was recorded.
        StoreError, ContentionError: When called: Firestore was unreachable or refused. If the function had run before the
            error, ``unknown`` tells whether its result may be stored. If the result is not stored, the key can be run again
            when the lease has ended.
    """
    lease, limit = checked_lease(runtime_of(locker), "ttl", ttl), values.seconds(run_limit, "run_limit")
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
                own.append(
                    call_through(executor_of(locker).middleware, attempt, functools.partial(fn, *args, **kwargs))
                )
                return _recorded(adapter, own[0])

            found = run_once(executor_of(locker), run, make)
            if found.lost is None:
                return _typed(adapter, found.data(), calls.name)
            if own and adapter is None:
                # The function has just run, so its caller gets the result that could not be stored.
                return own[0]
            shown = None if text is None else readable(text)
            raise ResultNotStoredError(
                f"{calls.name} has run for the key {shown!r}, but its result could not be stored: {found.lost}",
                document=document,
                name=calls.name,
                key=text,
                reason=found.lost,
            )

        return call

    return decorate


def _recorded(adapter: TypeAdapter[Any] | None, value: Any) -> Result:
    """
    Return the form in which *value*, the function's result, is recorded. Never raises, because the function has run: a
    value that does not fit, or would not be loaded as an equal object, is recorded as a lost result.
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
        # Try the other form: by alias, without computed fields, Json fields as text.
        other = result_of(adapter.dump_python(given, mode="json", by_alias=True, round_trip=True, warnings=False))
        return other if other.lost is None and _lost(adapter, given, other) is None else Result(lost=lost)
    except ValidationError:
        # The value is JSON data of a strict type, or it does not fit.
        pass
    except Exception as error:  # noqa: BLE001 - validators and serializers are users' code
        return Result(lost=f"validators of its type fail on it ({type(error).__name__})")
    try:
        _typed(adapter, made.data(), "it")
    except UsageError as error:
        return Result(lost=str(error))
    return made


def _lost(adapter: TypeAdapter[Any], given: Any, made: Result) -> str | None:
    """
    Return the reason why *given* would not be loaded from *made* as an equal object; None if it would.
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

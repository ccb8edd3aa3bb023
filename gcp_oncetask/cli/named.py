"""
``locks`` and ``once``: look after named locks and ``@once`` keys by their names.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from gcp_oncetask.checks import values, words
from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli import asking, show, tables
from gcp_oncetask.cli.options import add_acting
from gcp_oncetask.cli.tables import Cell, Colour, Column, ShownTimes
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.locks import by_name
from gcp_oncetask.locks.by_name import NamedRecord
from gcp_oncetask.operate.persons import person_of
from gcp_oncetask.rules import named
from gcp_oncetask.rules.decisions import CallRefused
from gcp_oncetask.rules.document_paths import LOCKS
from gcp_oncetask.rules.record import Lock, Status
from gcp_oncetask.rules.refusals import Refusal
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.rules.verbs import Sort
from gcp_oncetask.runtime import requirements

_MOVED: Final = 3
"""Exit code of an act on a record that has changed since the person read it."""
_NEAR: Final = 100
"""Documents that are read to find a name near one that is not there."""
_LOCK_COLUMNS: Final = (
    Column("name", 60),
    Column("held by", 50),
    Column("since"),
    Column("ends"),
    Column("token", right=True),
)
_ONCE_COLUMNS: Final = (Column("name", 60), Column("key", 60), Column("state"), Column("when"))
_WHICH: Final = (
    "Listed are those in onceLocks, where lock() and the decorators keep them; of those made with collection=, one collection "
    "at a time with --collection."
)


def add_to(commands: Any) -> None:
    """
    Add the commands to the parser's *commands*.
    """
    parsers = _group(commands, "locks", "named locks: list them, look at one, free one")
    one = _add(
        parsers,
        "list",
        "print the named locks whose names begin with PREFIX, in the order of their names",
        _list_locks,
        description=f"{_WHICH} A lock is kept for 7 days after its last use.",
    )
    one.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="beginning of the names (default: all)")
    _add_list_options(one)
    one.add_argument("--held", action="store_true", help="leave out those without a holder")
    one = _add(parsers, "show", "print one lock", _show_lock)
    one.add_argument("name", metavar="NAME", help="name of the lock, as it is listed")
    one.add_argument("--json", action="store_true", help=show.JSON_HELP)
    one = _add(
        parsers,
        "release",
        "free a lock whose holder is gone",
        _release,
        description="Free a lock, even while it is held. The next acquire gets a greater token, and the library refuses the old "
        "holder's refresh and release. It can't refuse what the old holder writes to other systems itself. Exit code 3: "
        "another holder has taken the lock meanwhile.",
    )
    one.add_argument("name", metavar="NAME", help="name of the lock, as it is listed")
    _add_act_options(one)
    parsers = _group(commands, "once", "keys of @once functions: list them, look at one, let one run again")
    one = _add(
        parsers,
        "list",
        "print the keys of the function NAME, or of all functions in the order of their names",
        _list_once,
        description=_WHICH,
    )
    one.add_argument("name", nargs="?", metavar="NAME", help="name of the function, like shop.orders.charge")
    _add_list_options(one)
    one = _add(parsers, "show", "print one key", _show_once)
    _add_key(one)
    one.add_argument("--json", action="store_true", help=show.JSON_HELP)
    one = _add(
        parsers,
        "forget",
        "let the function run again for a key",
        _forget,
        description="Delete the result of a function for a key, so that the next call runs it again, with another "
        "attempt.key. Refused while it runs. Exit code 3: it has run again meanwhile.",
    )
    _add_key(one)
    _add_act_options(one)


def _group(commands: Any, name: str, help_: str) -> Any:
    return commands.add_parser(name, help=help_).add_subparsers(required=True, metavar="COMMAND")


def _add(parsers: Any, name: str, help_: str, run: Any, description: str | None = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=help_, description=description)
    parser.add_argument(
        "--collection",
        default=LOCKS,
        metavar="PATH",
        help="as given to lock(), @locked or @once (default: %(default)s)",
    )
    parser.set_defaults(run=run, needs=requirements.STORE)
    return parser


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the function, as it is listed")
    parser.add_argument("key", nargs="?", metavar="KEY", help="the key, as it is listed (none: it runs once ever)")


def _add_list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=50, help="rows at most (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="all of them; each document costs one read")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with its schema")
    tables.add_tz(parser)


def _add_act_options(parser: argparse.ArgumentParser) -> None:
    add_acting(parser)
    asking.add_yes(parser)


# --- lists ------------------------------------------------------------------------------------------------------------


def _list_locks(locker: Locker, chosen: argparse.Namespace) -> int:
    found = by_name.find(
        runtime_of(locker), Sort.NAMED_LOCK, chosen.prefix, collection=chosen.collection, page=_page(chosen)
    )
    if chosen.held:
        found = (each for each in found if each.lock is None or each.lock.status is Status.LEASED)
    which = f"whose name begins with {chosen.prefix!r} " if chosen.prefix else ""
    held = "is held" if chosen.held else "exists"
    nothing = f"No named lock {which}{held} in {chosen.collection} of environment {locker.config.env}."
    return _list(found, chosen, nothing, "oncetask.lock/1", _LOCK_COLUMNS, _lock_row)


def _list_once(locker: Locker, chosen: argparse.Namespace) -> int:
    exact = chosen.name is not None
    found = by_name.find(
        runtime_of(locker),
        Sort.ONCE_KEY,
        chosen.name or "",
        exact=exact,
        collection=chosen.collection,
        page=_page(chosen),
    )
    of = f"of the function {chosen.name!r} " if exact else ""
    nothing = f"No @once key {of}exists in {chosen.collection} of environment {locker.config.env}."
    return _list(found, chosen, nothing, "oncetask.once/1", _ONCE_COLUMNS, _once_row)


def _page(chosen: argparse.Namespace) -> int:
    # One more than the rows tells whether there are more. A document costs a read, shown or not.
    return by_name.PAGE if chosen.all else min(by_name.PAGE, values.whole(chosen.limit, "--limit") + 1)


def _list(
    found: Iterator[NamedRecord],
    chosen: argparse.Namespace,
    nothing: str,
    schema: str,
    columns: Iterable[Column],
    row: Any,
) -> int:
    most = None if chosen.all else chosen.limit
    first = next(found, None)
    if first is None:
        tables.aside(nothing)
        return 0
    rows = itertools.chain([first], found)
    shown = itertools.islice(rows, most)
    if chosen.json:
        tables.out(tables.json_line(schema, _as_json(each)) for each in shown)
    else:
        times = ShownTimes(first.read, chosen.tz)
        made = [row(each, times) for each in shown]
        tables.out(tables.table(tuple(columns), made, colours=tables.coloured(sys.stdout)))
    if most is not None and next(rows, None) is not None:
        tables.aside(f"There are more than {most}: --limit N or --all.")
    return 0


def _lock_row(found: NamedRecord, times: ShownTimes) -> tuple[str | Cell | None, ...]:
    lock, name = found.lock, found.record.name
    if lock is None:
        return name, Cell("(can't be read)", Colour.RED), times.both(found.written), None, None
    if lock.status is not Status.LEASED:
        return name, Cell("free", Colour.DIM), times.both(found.written), None, str(lock.token)
    granted = None if lock.granted_at is None else times.both(lock.granted_at)
    return name, _holder(lock), granted, _end(found, times), str(lock.token)


def _holder(lock: Lock) -> str:
    return lock.instance or lock.holder or "somebody"


def _end(found: NamedRecord, times: ShownTimes) -> str | Cell:
    end = None if found.lock is None else named.ends_at(found.lock)
    if end is None:
        return "with its release"
    return Cell(f"ended {times.ago(end)}", Colour.YELLOW) if end <= found.read else times.both(end)


_COLOURS: Final = {
    "damaged": Colour.RED,
    "late": Colour.YELLOW,
    "raised": Colour.YELLOW,
    "running": Colour.GREEN,
}


def _once_row(found: NamedRecord, times: ShownTimes) -> tuple[str | Cell | None, ...]:
    state = found.state
    when = found.written
    if found.lock is not None and found.lock.status is Status.LEASED and found.lock.granted_at is not None:
        when = found.lock.granted_at
    return found.record.name, found.record.key, Cell(state, _COLOURS.get(state)), times.both(when)


def _as_json(found: NamedRecord) -> dict[str, Any]:
    lock = found.lock
    leased = lock is not None and lock.status is Status.LEASED
    end = None if lock is None or not leased else named.ends_at(lock)
    said: dict[str, Any] = {
        "name": found.record.name,
        **({"key": found.record.key} if found.record.sort is Sort.ONCE_KEY else {}),
        "state": found.state,
        "holder": None if lock is None or not leased else lock.holder,
        "instance": None if lock is None or not leased else lock.instance,
        "granted_at": None if lock is None or lock.granted_at is None else instant(lock.granted_at),
        "ends_at": None if end is None else instant(end),
        "token": None if lock is None else lock.token,
        "written_at": instant(found.written),
        "read_at": instant(found.read),
        "document": found.record.path,
    }
    return said


# --- one --------------------------------------------------------------------------------------------------------------


def _show_lock(locker: Locker, chosen: argparse.Namespace) -> int:
    path = by_name.lock_path(locker.config.env, chosen.name, chosen.collection)
    return _show(locker, chosen, path, Sort.NAMED_LOCK)


def _show_once(locker: Locker, chosen: argparse.Namespace) -> int:
    path = by_name.once_path(locker.config.env, chosen.name, chosen.key, chosen.collection)
    return _show(locker, chosen, path, Sort.ONCE_KEY)


def _show(locker: Locker, chosen: argparse.Namespace, path: str, sort: Sort) -> int:
    if runtime_of(locker).store.document(path) is None:
        return _missing(locker, chosen, sort)
    chosen.document = path
    return show.run(locker, chosen)


def _missing(locker: Locker, chosen: argparse.Namespace, sort: Sort) -> int:
    """
    Say that the name is not there, with one that is near.
    """
    runtime, of_lock = runtime_of(locker), sort is Sort.NAMED_LOCK
    near = list(
        itertools.islice(by_name.find(runtime, sort, chosen.name[:1], collection=chosen.collection, page=_NEAR), _NEAR)
    )
    known = {each.record.name or "" for each in near} - {""}
    if of_lock:
        said = f"named lock {chosen.name!r}"
    else:
        said = f"@once key {chosen.key!r} of the function {chosen.name!r}"
        if chosen.name in known:
            keys = by_name.find(runtime, sort, chosen.name, exact=True, collection=chosen.collection, page=_NEAR)
            hint = words.hint(
                chosen.key or "", {each.record.key or "" for each in itertools.islice(keys, _NEAR)} - {""}
            )
            return _refused(f"There is no {said} in {chosen.collection} of environment {locker.config.env}.{hint}")
    hint = "" if chosen.name in known else words.hint(chosen.name, known)
    return _refused(f"There is no {said} in {chosen.collection} of environment {locker.config.env}.{hint}")


def _refused(text: str) -> int:
    tables.aside(f"gcp_oncetask: {text}")
    return 1


# --- acts -------------------------------------------------------------------------------------------------------------


def _release(locker: Locker, chosen: argparse.Namespace) -> int:
    runtime = runtime_of(locker)
    found = by_name.look(runtime, by_name.lock_path(locker.config.env, chosen.name, chosen.collection))
    if found is None:
        return _missing(locker, chosen, Sort.NAMED_LOCK)
    lock = found.lock
    if lock is None or lock.status is not Status.LEASED:
        asking.say_place(locker)
        return _refused(f"No process holds the named lock {chosen.name!r}, so there is nothing to release.")
    if not asking.asked(locker, _of_release(found, lock), "Release it?", yes=chosen.yes):
        return 1
    refused = by_name.free(runtime, found, by=person_of(locker, chosen.by), note=chosen.note)
    if refused is not None:
        return _not_done(f"The named lock {chosen.name!r} was not released", refused)
    print(printable(f"{chosen.name!r} is free: token {lock.token} is out of date, and the next holder's is greater."))
    return 0


def _of_release(found: NamedRecord, lock: Lock) -> list[str]:
    times = ShownTimes(found.read)
    since = "" if lock.granted_at is None else f", since {times.both(lock.granted_at)}"
    end = named.ends_at(lock)
    ends = "It has no ttl, and ends with its release alone."
    if end is not None:
        ends = f"Its ttl {'ended' if end <= found.read else 'ends'} {times.both(end)}, unless it is refreshed."
    return [
        f"The named lock {found.record.name!r} is held by {_holder(lock)} with token {lock.token}{since}. {ends}",
        "If you release it, the next acquire has it at once, with a greater token.",
        "The library then refuses the refresh and the release of the old holder. It does not stop the old holder's process.",
        "Until that process refreshes, it may believe that it has the lock, and go on writing to other systems.",
        "Those refuse its writes only if they compare tokens.",
    ]


def _forget(locker: Locker, chosen: argparse.Namespace) -> int:
    runtime = runtime_of(locker)
    found = by_name.look(runtime, by_name.once_path(locker.config.env, chosen.name, chosen.key, chosen.collection))
    if found is None:
        return _missing(locker, chosen, Sort.ONCE_KEY)
    if found.state != "completed":
        asking.say_place(locker)
        return _not_done(f"{found.record.said} was not forgotten", _as_found(found))
    consequences = [
        f"{chosen.name} has run for the key {chosen.key!r}; it was written {ShownTimes(found.read).both(found.written)}.",
        "If it is forgotten, its stored result is deleted, and the next call runs the function again, also with another payload.",
        "That run has another attempt.key, so systems that know the old key do the work again.",
    ]
    if not asking.asked(locker, consequences, "Forget it?", yes=chosen.yes):
        return 1
    refused = by_name.forget(runtime, found, by=person_of(locker, chosen.by), note=chosen.note)
    if refused is not None:
        return _not_done(f"{found.record.said} was not forgotten", refused)
    print(printable(f"{found.record.said} is forgotten: the next call runs the function."))
    return 0


def _as_found(found: NamedRecord) -> CallRefused:
    """
    Return the refusal to forget a key that has not completed, with the end of its lease.
    """
    if found.lock is None or found.lock.status is not Status.LEASED:
        return CallRefused(Refusal.NOT_ENDED, named.RAISED)
    times, end = ShownTimes(found.read), named.ends_at(found.lock)
    until = "" if end is None else f"; its lease {'ended' if end <= found.read else 'ends'} {times.both(end)}"
    return CallRefused(
        Refusal.RUNNING,
        f"it runs on {_holder(found.lock)}, or its process has died{until}, and the first call after that end runs it again",
    )


def _not_done(what: str, refused: CallRefused) -> int:
    _refused(f"{what}: {refused.reason}. Nothing was written.")
    return _MOVED if refused.refusal is Refusal.MOVED else 1

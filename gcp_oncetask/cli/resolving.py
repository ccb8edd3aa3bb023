"""
``cancel``, ``reset``, ``resolve``, ``dismiss`` and ``ack``: the acts of a person on one record.
"""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

from gcp_oncetask.checks.values import printable
from gcp_oncetask.cli.timeline import age
from gcp_oncetask.effects.act_trail import write_act
from gcp_oncetask.entities.acted import Acting
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.operate.acts import RESOLUTIONS, Decision, consequence
from gcp_oncetask.rules.record import Person
from gcp_oncetask.runtime import requirements

Adder = Callable[..., argparse.ArgumentParser]


def add_to(commands: Any, on_document: Adder) -> None:
    """
    Add the commands to the parser's *commands*; *on_document* adds one that is about a document.
    """
    one = on_document(
        commands,
        "cancel",
        "stop a chain: at once while it waits, at its next settling while it runs",
        _cancel,
        requirements.STORE,
    )
    _add_acting(one)
    one = on_document(
        commands, "reset", "run an ended or damaged step again, as a new sequence", _reset, requirements.DISPATCH
    )
    one.add_argument("--keep-errors", action="store_true", help="keep the record of failed attempts")
    one.add_argument(
        "--new-key", action="store_true", help="of a damaged record whose idempotency key can't be read: use a new one"
    )
    one.add_argument("--step", type=int, help="of a damaged record whose step can't be read: the step to run")
    _add_acting(one)
    one = on_document(commands, "resolve", "decide how a quarantined step goes on", _resolve, requirements.DISPATCH)
    one.add_argument(
        "how",
        choices=RESOLUTIONS,
        help="run: run it again, with the same idempotency key; happened: the step has happened, so the chain goes on "
        "(--next) or ends (--end); complete, fail: hold the chain completed or failed",
    )
    one.add_argument("--result", type=json.loads, metavar="JSON", help="with complete or happened: the result")
    one.add_argument("--next", metavar="URL", help="with happened: URL or path of the next step; . is the same target")
    one.add_argument(
        "--params", type=json.loads, metavar="JSON", help="with --next: its parameters (default: the result)"
    )
    one.add_argument("--end", action="store_true", help="with happened: the chain ends here")
    _add_acting(one)
    one = on_document(commands, "dismiss", "take a failed record off the list", _dismiss, requirements.STORE)
    _add_acting(one)
    one = on_document(commands, "ack", "let no reminder name a record for a time", _ack, requirements.STORE)
    one.add_argument("--for", dest="until", type=age, required=True, metavar="AGE", help="time, like 90m, 4h or 2d")
    _add_acting(one)


def _add_acting(one: argparse.ArgumentParser) -> None:
    one.add_argument("--as", dest="by", metavar="PERSON", help="who acts, for the record (default: user@host)")
    one.add_argument("--note", help="your own words, for the record")
    one.add_argument(
        "--if-version", metavar="VERSION", help="act only if the document still has this version; else exit code 3"
    )


def acting_of(chosen: argparse.Namespace) -> Acting:
    """
    Return the person, the note and the version in the arguments. The name is not proven.
    """
    name = chosen.by or f"{getpass.getuser()}@{socket.gethostname()}"
    return Acting(Person(name, proven=False), chosen.note, chosen.if_version)


def _cancel(locker: Locker, chosen: argparse.Namespace) -> int:
    if not locker.cancel_path(chosen.document, acting=acting_of(chosen)):
        _say(chosen.document, f"nothing to cancel; it is {locker.show(chosen.document).status}")
        return 0
    _say(chosen.document, f"{locker.show(chosen.document).status}, cancellation recorded")
    _record(locker, chosen.document)
    return 0


def _reset(locker: Locker, chosen: argparse.Namespace) -> int:
    made = locker.reset_path(
        chosen.document,
        keep_errors=chosen.keep_errors,
        new_key=chosen.new_key,
        step=chosen.step,
        acting=acting_of(chosen),
    )
    _say_scheduled(chosen.document, made.sequence, dispatched=made.dispatched)
    _record(locker, chosen.document)
    return 0


def _resolve(locker: Locker, chosen: argparse.Namespace) -> int:
    how = chosen.how
    decided = Decision(how, chosen.result, next=chosen.next, params=chosen.params, end=chosen.end)
    print(printable(consequence(locker, chosen.document, decided)), file=sys.stderr)
    made = locker.resolve_path(
        chosen.document,
        how,
        result=chosen.result,
        next=chosen.next,
        params=chosen.params,
        end=chosen.end,
        acting=acting_of(chosen),
    )
    if made is None:
        _say(chosen.document, str(locker.show(chosen.document).status))
    else:
        _say_scheduled(chosen.document, made.sequence, dispatched=made.dispatched)
    _record(locker, chosen.document)
    return 0


def _dismiss(locker: Locker, chosen: argparse.Namespace) -> int:
    locker.dismiss_path(chosen.document, acting=acting_of(chosen))
    _say(chosen.document, "dismissed; list --dismissed still finds it")
    _record(locker, chosen.document)
    return 0


def _ack(locker: Locker, chosen: argparse.Namespace) -> int:
    until = locker.acknowledge_path(chosen.document, chosen.until, acting=acting_of(chosen))
    _say(chosen.document, f"no reminder names it until {until:%Y-%m-%d %H:%M:%S} UTC")
    _record(locker, chosen.document)
    return 0


def _record(locker: Locker, document: str) -> None:
    """
    Write the last act of the record to the trail.
    """
    lock = locker.show(document)
    if lock.acts:
        warning = write_act(runtime_of(locker), lock.acts[-1], document, lock=lock)
        if warning is not None:
            print(printable(warning), file=sys.stderr)


def _say_scheduled(document: str, sequence: int, *, dispatched: bool) -> None:
    how = "dispatched" if dispatched else "the sweeper will dispatch it"
    _say(document, f"scheduled as sequence {sequence}, {how}")


def _say(document: str, text: str) -> None:
    print(printable(f"{document}: {text}"))

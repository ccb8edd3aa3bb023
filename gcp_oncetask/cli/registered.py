"""
``collections`` lists and forgets the collections that sweeps visit because a process has scheduled there. ``targets`` does
so for the origins to which tasks may go because they are configured in a process.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gcp_oncetask.checks import words
from gcp_oncetask.checks.values import printable
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.rules.timestamps import instant
from gcp_oncetask.runtime import requirements
from gcp_oncetask.store.registry import Registered


def add_to(commands: Any) -> None:
    """
    Add the commands to the parser's *commands*.
    """
    group: argparse.ArgumentParser = commands.add_parser(
        "collections", help="the collections in which this environment has scheduled, and which its sweeps visit"
    )
    parsers = group.add_subparsers(required=True, metavar="COMMAND")
    one = parsers.add_parser("list", help="print the collections, one a line")
    one.set_defaults(run=_list, needs=requirements.STORE)
    one = parsers.add_parser(
        "forget",
        help="let sweeps leave one out, from a day later on; the next schedule there undoes it",
        description="Let sweeps leave a collection out, from a day later on. Refused while a document there has a due time; "
        "undone by the next schedule there, by whichever process, and by a sweep that finds a due time.",
    )
    one.add_argument("template", help="as it is listed, like orders or customers/{customer_id}/orders")
    one.set_defaults(run=_forget, needs=requirements.STORE)
    group = commands.add_parser("targets", help="the registered origins to which this environment's tasks may go")
    parsers = group.add_subparsers(required=True, metavar="COMMAND")
    one = parsers.add_parser("list", help="print the registered origins, each as origin=audience")
    one.set_defaults(run=_list_targets, needs=requirements.STORE)
    one = parsers.add_parser(
        "forget",
        help="let no tasks go to an origin any more, from an hour later on",
        description="Remove an origin from the registry: processes in which it is not configured send nothing there, from an "
        "hour later on. Those in which it is (ONCETASK_BASE_URL, ONCETASK_TARGETS) register it again: change that first.",
    )
    one.add_argument("origin", help="as it is listed, like https://orders-abc.a.run.app")
    one.set_defaults(run=_forget_target, needs=requirements.STORE)


def _list(locker: Locker, _: argparse.Namespace) -> int:
    for each in runtime_of(locker).registry.all()[0]:
        print(printable(_said(each)))
    return 0


def _said(each: Registered) -> str:
    if each.forgotten_at is None or each.swept_until is None:
        return each.collection
    return f"{each.collection} (forgotten at {instant(each.forgotten_at)}, swept until {instant(each.swept_until)})"


def _forget(locker: Locker, chosen: argparse.Namespace) -> int:
    registry, template = runtime_of(locker).registry, chosen.template
    known = {each.collection: each for each in registry.all()[0]}
    if template not in known:
        return _refused(
            f"{template!r} is not registered in environment {locker.config.env}.{words.hint(template, known)}"
        )
    if (path := registry.due_in(template)) is not None:
        return _refused(
            f"{template} can be forgotten when nothing is due there: {path} has a due time. Nothing was written."
        )
    registry.forget(template)
    known = {each.collection: each for each in registry.all()[0]}
    print(printable(_said(known.get(template, Registered(template)))))
    return 0


def _list_targets(locker: Locker, _: argparse.Namespace) -> int:
    for origin, audience in runtime_of(locker).registry.origins().items():
        print(printable(f"{origin}={audience}"))
    return 0


def _forget_target(locker: Locker, chosen: argparse.Namespace) -> int:
    registry, origin = runtime_of(locker).registry, chosen.origin.partition("=")[0]
    known = registry.origins()
    if origin not in known:
        hint = words.hint(origin, known)
        return _refused(f"{origin!r} is not registered in environment {locker.config.env}.{hint}")
    registry.forget_origin(origin)
    print(printable(f"{origin} is forgotten"))
    return 0


def _refused(text: str) -> int:
    print(printable(f"gcp_oncetask: {text}"), file=sys.stderr)
    return 1

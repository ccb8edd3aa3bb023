"""
Arguments that several commands have: the filters of a search, lengths of time, and the person who acts.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any, Final

from gcp_oncetask.checks import lengths
from gcp_oncetask.finding.criteria import Criteria, criteria
from gcp_oncetask.rules.attention import Reason
from gcp_oncetask.rules.record import Status
from gcp_oncetask.tasks.data import KIND

FILTERS: Final = ("status", "reason", "kind", "collection", "key", "older_than", "newer_than", "dismissed")
"""Names of the filters."""


def age(text: str) -> timedelta:
    """
    Read a length of time such as ``90m`` or ``2d``.

    Raises:
        argparse.ArgumentTypeError: It is none, or is longer than ten years.
    """
    try:
        return lengths.length(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def kind(text: str) -> str:
    """
    Read the kind of a once-task.

    Raises:
        argparse.ArgumentTypeError: *text* is none.
    """
    if not KIND.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a kind: letters, digits, '.', '_' and '-' are")
    return text


def rate(text: str) -> float:
    """
    Read a rate such as ``50/s``.

    Raises:
        argparse.ArgumentTypeError: *text* is no rate.
    """
    try:
        found = float(text.removesuffix("/s"))
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate like 50/s")
    return found


def add_filters(one: argparse.ArgumentParser, *, of_kind: bool = True) -> None:
    """
    Add the filters to the parser *one*; *of_kind*: ``--kind`` too, which commands about one document have of their own.
    """
    one.add_argument("--status", choices=[str(each) for each in Status], help="records of this status")
    one.add_argument("--reason", choices=[str(each) for each in Reason], help="reason for which a person is needed")
    if of_kind:
        one.add_argument("--kind", help="once-tasks of this kind")
    one.add_argument("--collection", metavar="PATH", help="records of this collection or template (default: all)")
    one.add_argument("--key", help="once-tasks of this resource key; with --kind")
    one.add_argument("--older-than", type=age, metavar="AGE", help="least age, like 90m, 12h or 2d")
    one.add_argument("--newer-than", type=age, metavar="AGE", help="greatest age")
    one.add_argument("--dismissed", action="store_true", help="the records that a person has dismissed instead")


def filters_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """
    Return the filters that are set.
    """
    found = {name: getattr(chosen, name) for name in FILTERS}
    return {name: value for name, value in found.items() if value not in (None, False)}


def wanted_of(chosen: argparse.Namespace) -> Criteria:
    """
    Return the criteria of the filters, and of ``--scan`` where the command has it.

    Raises:
        UsageError: Two filters contradict each other.
    """
    return criteria(**filters_of(chosen), scan=getattr(chosen, "scan", False))


def add_acting(one: argparse.ArgumentParser) -> None:
    """
    Add the options about the person, for the record.
    """
    one.add_argument(
        "--as",
        dest="by",
        metavar="PERSON",
        help="who acts, for the record; kept beside the account of your credentials, if that can be learnt",
    )
    one.add_argument("--note", help="your own words, for the record")

"""
Questions before a command writes: where it writes, the consequences, and a person's yes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from gcp_oncetask.checks.values import printable
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError


def add_yes(parser: argparse.ArgumentParser) -> None:
    """
    Add the option ``--yes`` to *parser*.
    """
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where standard input is no terminal")


def place(locker: Locker) -> str:
    """
    Return the place where a command of *locker* reads and writes, such as ``project p, database (default), environment E``;
    ``LOCAL`` is in front of it for an emulator.
    """
    wire = runtime_of(locker).wire
    _, project, _, database = wire.database.split("/")
    local = "LOCAL " if locker.config.firestore_emulator else ""
    return f"{local}project {project}, database {database}, environment {locker.config.env}"


def say_place(locker: Locker) -> None:
    """
    Print the place to standard error: the first line of every command that writes.
    """
    _say(place(locker))


def asked(
    locker: Locker, consequences: Iterable[str], question: str, *, yes: bool = False, number: int | None = None
) -> bool:
    """
    Say the place and the consequences of an act, and ask a person whether to go on. All of it goes to standard error.

    Args:
        locker: Gives the place.
        consequences: Sentences, one a line.
        question: The question, such as ``Release it?``.
        yes: The answer was given by ``--yes``: nothing is asked.
        number: Number of items, if there are so many that a person must type it; None: yes is enough.

    Returns:
        False: the person did not say yes. Then that nothing was done has been printed.

    Raises:
        UsageError: Standard input is no terminal, and *yes* is False.
    """
    where = place(locker)
    for line in (where, *consequences):
        _say(line)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            "Standard input is no terminal, so this can't be asked; give --yes if you mean it. Nothing was done."
        )
    wanted = {"y", "yes"} if number is None else {str(number)}
    how = "[y/N]" if number is None else f"Type the number, {number}, to go on:"
    print(printable(f"{question} ({where}) {how} "), end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if answer.strip().lower() in wanted:
        return True
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    _say("Nothing was done.")
    return False


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)

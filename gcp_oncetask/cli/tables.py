"""
Output of commands that list: aligned tables and relative times for people, one JSON object a line for programs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum
from typing import Any, Final, NamedTuple, TextIO

from gcp_oncetask.checks.values import printable
from gcp_oncetask.errors import RecurrenceError
from gcp_oncetask.tasks.recurrence.zones import zone_named

_GAP: Final = "  "
_STEPS: Final = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d"))
"""Lengths in seconds below which a time is told in a unit, the unit's seconds, and its name."""


class Colour(Enum):
    """
    The colours of cells, by their codes for terminals.
    """

    RED = "31"
    YELLOW = "33"
    GREEN = "32"
    DIM = "2"
    BOLD = "1"


class Column(NamedTuple):
    """
    A column of a table.

    Attributes:
        heading: Its heading.
        most: Characters after which a cell is cut; None: it is not cut.
        right: Whether its cells are aligned at the right, as numbers are.
    """

    heading: str
    most: int | None = None
    right: bool = False


class Cell(NamedTuple):
    """
    A text with a colour. The colour is left out where the output has none, so it must not say more than the text.
    """

    text: str
    colour: Colour | None = None


def coloured(stream: TextIO) -> bool:
    """
    Tell whether output to *stream* may have colours: it is a terminal, ``NO_COLOR`` is not set, and ``TERM`` is not
    ``dumb``.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: Colour | None, *, colours: bool) -> str:
    """
    Return *text* in a colour, if there are *colours*.
    """
    return f"\x1b[{colour.value}m{text}\x1b[0m" if colours and colour is not None and text else text


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str | Cell | None]], *, colours: bool = False
) -> list[str]:
    """
    Return the lines of a table, its headings first. Cells are made printable here.

    Args:
        columns: The columns.
        rows: The cells of each row, as many as there are columns; None: ``-``.
        colours: Whether lines may have colours.
    """
    cells = [[_cell(column, cell) for column, cell in zip(columns, row, strict=True)] for row in rows]
    lines = [[Cell(column.heading.upper(), Colour.BOLD) for column in columns], *cells]
    widths = [max(width(line[index].text) for line in lines) for index in range(len(columns))]
    return [_line(columns, line, widths, colours=colours) for line in lines]


def _cell(column: Column, cell: str | Cell | None) -> Cell:
    found = cell if isinstance(cell, Cell) else Cell("-" if cell is None else cell)
    return Cell(cut(printable(found.text), column.most), found.colour)


def _line(columns: Sequence[Column], line: Sequence[Cell], widths: Sequence[int], *, colours: bool) -> str:
    parts = []
    for column, cell, wide in zip(columns, line, widths, strict=True):
        space = " " * (wide - width(cell.text))
        text = painted(cell.text, cell.colour, colours=colours)
        parts.append(space + text if column.right else text + space)
    return _GAP.join(parts).rstrip()


def width(text: str) -> int:
    """
    Return the columns of a terminal that a printable *text* takes: two for a wide character, none for a combining one.
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, most: int | None) -> str:
    """
    Return *text*, or its beginning with ``...`` if it has more than *most* characters (None: any number).
    """
    return text if most is None or len(text) <= most else text[: max(0, most - 3)] + "..."


# --- times ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShownTimes:
    """
    Tells times relative to *now*, and in one time zone.

    Attributes:
        now: The time of the answer by the server's clock, so that a wrong clock of this machine does not count.
        zone: The zone; None: this machine's.
    """

    now: datetime
    zone: tzinfo | None = UTC

    def ago(self, at: datetime) -> str:
        """
        Return the distance of *at*, such as ``7 min ago`` or ``in 3 h``.
        """
        passed = self.now - at
        return f"in {span(-passed)}" if passed < timedelta(0) else f"{span(passed)} ago"

    def clock(self, at: datetime) -> str:
        """
        Return the time of *at*, such as ``03:12:05 UTC``, with its date if that is not the date of *now*.
        """
        there = at.astimezone(self.zone)
        form = "%H:%M:%S %Z" if there.date() == self.now.astimezone(self.zone).date() else "%Y-%m-%d %H:%M:%S %Z"
        return there.strftime(form).strip()

    def both(self, at: datetime) -> str:
        """
        Return both, such as ``7 min ago, 03:12:05 UTC``.
        """
        return f"{self.ago(at)}, {self.clock(at)}"


def span(length: timedelta) -> str:
    """
    Return a length of time in its largest unit, rounded down: ``59 s``, ``7 min``, ``3 h``, ``12 d``.
    """
    seconds = int(length.total_seconds())
    return next(f"{seconds // unit} {name}" for below, unit, name in _STEPS if seconds < below)


def add_tz(parser: argparse.ArgumentParser) -> None:
    """
    Add the option ``--tz`` to *parser*; ``chosen.tz`` is the zone for ``ShownTimes``.
    """
    parser.add_argument(
        "--tz",
        type=_zone,
        default=UTC,
        metavar="ZONE",
        help="zone of the times that are printed: an IANA name like Europe/Berlin, or local (default: UTC)",
    )


def _zone(name: str) -> tzinfo | None:
    if name == "local":
        return None
    try:
        return zone_named(name)
    except RecurrenceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# --- lines ------------------------------------------------------------------------------------------------------------


def json_line(schema: str, values: Mapping[str, Any]) -> str:
    """
    Return one line of output for programs: a JSON object that begins with ``schema``, the name and version of its form.

    Shape:
        {schema, *values}; all characters beyond ASCII are escaped, so that no terminal obeys the line.
    """
    return json.dumps({"schema": schema, **values}, allow_nan=False)


def out(lines: Iterable[str]) -> bool:
    """
    Print *lines* to standard output, each as soon as it is made. A reader that closes the pipe is no error.

    Returns:
        False: the pipe was closed, so that further lines need not be made.
    """
    try:
        for line in lines:
            print(line, flush=True)
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def aside(text: str) -> None:
    """
    Print a sentence for people to standard error, so that it is not taken for a row.
    """
    print(printable(text), file=sys.stderr)

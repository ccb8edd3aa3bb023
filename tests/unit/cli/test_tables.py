"""
Tables, times and lines of commands that list.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gcp_oncetask.cli.tables import (
    Cell,
    Colour,
    Column,
    ShownTimes,
    add_tz,
    coloured,
    cut,
    json_line,
    span,
    table,
    width,
)

NOW = datetime(2026, 3, 1, 3, 19, 5, tzinfo=UTC)
COLUMNS = (Column("task", 12), Column("tries", right=True), Column("why"))


def test_cells_are_aligned_and_no_line_ends_with_spaces() -> None:
    """
    By the widest cell; numbers at the right; a missing cell is a dash; a wide character takes two columns.
    """
    lines = table(COLUMNS, [("a", "1", "x"), ("漢字", "12", None), (Cell("b", Colour.RED), "100", "")])

    assert lines == ["TASK  TRIES  WHY", "a         1  x", "漢字     12  -", "b       100"]


def test_hostile_and_long_cells_are_harmless() -> None:
    """
    Escaped first and cut then, so that no cell is longer than its column.
    """
    _, line = table(COLUMNS, [("\x1b[2J\n\u202e" + "x" * 50, "1", "\x9b31m")])

    assert line.isprintable()
    assert line.startswith("\\x1b[2J\\n...      1  \\x9b31m")
    assert (cut("abc", 3), cut("abcd", 3), cut("abcdef", 5), cut("x" * 99, None)) == ("abc", "...", "ab...", "x" * 99)


def test_colours_do_not_count_for_the_width() -> None:
    """
    With and without colours the texts are the same, in the same columns.
    """
    rows = [(Cell("late", Colour.RED), "1", Cell("", Colour.DIM)), ("in time", "2", Cell("x", Colour.GREEN))]
    plain, colour = table(COLUMNS, rows), table(COLUMNS, rows, colours=True)

    assert colour[1].startswith("\x1b[31mlate\x1b[0m     ")
    for code in ("\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"):
        colour = [line.replace(code, "") for line in colour]
    assert [line.rstrip() for line in colour] == plain


def test_combining_characters_take_no_column() -> None:
    """
    An e with an accent is one column wide, composed or not.
    """
    assert (width("é"), width("e\u0301"), width("漢字")) == (1, 1, 4)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Neither in a pipe, nor with NO_COLOR, nor on a terminal that has none.
    """
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured(_Terminal())
    assert not coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "")
    assert coloured(_Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(_Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not coloured(_Terminal())


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (86_400 * 400, "400 d"),
    ],
)
def test_a_span_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    assert span(timedelta(seconds=seconds)) == told


def test_times_are_relative_and_absolute() -> None:
    """
    The date stands where it is another day than now, in the zone that is printed.
    """
    times, berlin = ShownTimes(NOW), ShownTimes(NOW, ZoneInfo("Europe/Berlin"))
    before, tomorrow = NOW - timedelta(minutes=7), NOW + timedelta(hours=20, minutes=50)

    assert times.both(before) == "7 min ago, 03:12:05 UTC"
    assert times.both(tomorrow) == "in 20 h, 2026-03-02 00:09:05 UTC"
    assert berlin.both(before) == "7 min ago, 04:12:05 CET"
    assert berlin.clock(NOW - timedelta(hours=4)) == "00:19:05 CET"
    assert times.clock(NOW - timedelta(hours=4)) == "2026-02-28 23:19:05 UTC"
    assert ShownTimes(NOW, None).clock(NOW).startswith(f"{NOW.astimezone():%H:%M:%S}")


def test_a_zone_is_named_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """
    UTC, a name of the database, or local; a typing mistake ends with a hint and exit code 2.
    """
    parser = argparse.ArgumentParser()
    add_tz(parser)
    assert parser.parse_args([]).tz is UTC
    assert parser.parse_args(["--tz", "Europe/Berlin"]).tz == ZoneInfo("Europe/Berlin")
    assert parser.parse_args(["--tz", "local"]).tz is None
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--tz", "Europe/Berlim"])
    assert "Europe/Berlin" in capsys.readouterr().err


def test_a_line_for_programs_is_one_object_with_its_schema() -> None:
    """
    The schema is first, contents are exact, and nothing in the line is obeyed by a terminal.
    """
    nasty = "\x1b[2J\n\u202e\x9b"
    line = json_line("oncetask.lock/1", {"name": nasty})

    assert line.startswith('{"schema": "oncetask.lock/1", ')
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"schema": "oncetask.lock/1", "name": nasty}


def test_a_pipe_that_closes_is_no_error() -> None:
    """
    The command ends with exit code 0, without a word, and makes no further lines.
    """
    code = (
        "import sys, itertools; from gcp_oncetask.cli.tables import out\n"
        "more = out(str(n) for n in itertools.count()); sys.exit(3 if more else 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0

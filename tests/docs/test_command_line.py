"""
The reference of the command line is that of the argument parsers. ``python -m tests.docs.test_command_line`` writes it.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import NamedTuple

from gcp_emulator import cli as emulator
from gcp_oncetask import cli
from gcp_oncetask.cli import filtered
from tests.support.readme import ROOT

PAGE = ROOT / "docs" / "reference" / "command-line.md"
ACT = "options-of-an-act"
MANY = "options-of-an-act-on-many-records"
START = "gcp-emulator-start"
"""Anchors of the chapters whose options other commands share."""
CODE = re.compile(
    r"(?<![\w`./-])(?:(--?[a-z][a-z-]*(?:=\w+)?|[A-Z][A-Z]*_[A-Z_]+|\S*[a-z}]/[a-z{]\S*?|\w+(?:\.\w+)+|-)(?=[ ,;:).]|$))"
)


def test_page_is_that_of_the_parsers() -> None:
    """
    Every command and option with its help; `python -m tests.docs.test_command_line` writes them.
    """
    page = PAGE.read_text()

    for name, text in generated().items():
        assert f"<!-- {name} -->\n{text}\n<!-- /{name} -->" in page, name


def test_every_command_and_option_is_on_the_page() -> None:
    """
    An option that the generator leaves out of a command's table stands in the table of the options that several commands share.
    """
    page = PAGE.read_text()
    missing = []
    for name, _, parser in all_commands():
        chapter = part(page, f"### {name}\n", "\n### ")
        shared = "".join(
            part(page, begin, end)
            for anchor, begin, end in (
                (ACT, "<!-- act -->", "<!-- /act -->"),
                (MANY, "<!-- many -->", "<!-- /many -->"),
                (START, "### gcp-emulator start\n", "\n### "),
            )
            if f"(#{anchor})" in chapter
        )
        missing += [
            (name, option)
            for action in actions(parser)
            for option in action.option_strings or [str(action.metavar or action.dest)]
            if f"`{option}" not in chapter + shared
        ]

    assert len(all_commands()) >= 25
    assert missing == []


def part(page: str, begin: str, end: str) -> str:
    """
    The text between two texts of the page.
    """
    return page.split(begin)[1].split(end, maxsplit=1)[0]


def generated() -> dict[str, str]:
    """
    The generated parts of the page, by the names of their marks.
    """
    found: dict[str, str] = {"act": "\n".join(table(act())), "many": "\n".join(table(many()))}
    told: set[str] = set()
    for mark, parser in (("commands", cli._parser()), ("emulator", emulator._parser())):
        found[mark] = "\n\n".join(chapter(command, told) for command in commands_of(parser))
    found["epilog"] = f"<!-- not run: the end of the help -->\n```text\n{emulator._EPILOG}```"
    return found


class Command(NamedTuple):
    """
    A command, its line in the list of its program, and its parser.
    """

    name: str
    help: str
    parser: argparse.ArgumentParser


def all_commands() -> list[Command]:
    """
    The commands of both programs.
    """
    return [*commands_of(cli._parser()), *commands_of(emulator._parser())]


def commands_of(parser: argparse.ArgumentParser, before: str = "") -> list[Command]:
    """
    The commands of *parser*, in their order, without groups.
    """
    before = before or ("gcp-emulator " if parser.prog == "gcp-emulator" else "")
    found = []
    for group in (each for each in parser._actions if isinstance(each, argparse._SubParsersAction)):
        for told in group._choices_actions:
            one = group.choices[told.dest]
            name = f"{before}{told.dest}"
            found += commands_of(one, f"{name} ") or [Command(name, str(told.help), one)]
    return found


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]


def many() -> list[argparse.Action]:
    """
    The options of an act on many records.
    """
    parser = argparse.ArgumentParser(add_help=False)
    filtered.add_options(parser)
    return actions(parser)


def act() -> list[argparse.Action]:
    """
    The options of an act on one record.
    """
    return [each for each in of("ack") if each.option_strings not in ([], ["--for"])]


def start() -> list[argparse.Action]:
    """
    The options of the local cloud.
    """
    return of("gcp-emulator start")


def of(name: str) -> list[argparse.Action]:
    """
    The arguments of the command *name*.
    """
    return actions(next(each.parser for each in all_commands() if each.name == name))


def chapter(command: Command, told: set[str]) -> str:
    """
    Heading, purpose and arguments of a command. Sentences that are *told* already are left out.
    """
    name, purpose, parser = command
    described = (parser.description or "").removesuffix(" Without a document: all records that fit the filters.")
    sentences = [f"{purpose[0].upper()}{purpose[1:]}."]
    sentences += [
        each for each in re.split(r"(?<=\.) ", described) if each not in told and each.lower() != sentences[0].lower()
    ]
    told.update(sentences)
    rows = [shown(each) for each in actions(parser)]
    for anchor, title, options in (
        (ACT, "options of an act", act()),
        (MANY, "options of an act on many records", many()),
        (START, "options of start", start()),
    ):
        shared = [shown(each) for each in options]
        if set(shared) < set(rows):  # each command has an argument of its own
            rows = [*(row for row in rows if row not in shared), f"| [{title}](#{anchor}) | |"]
    said = " ".join(map(coded, filter(None, sentences)))
    lines = [f"### {name}", "", *textwrap.wrap(said, 150, break_long_words=False, break_on_hyphens=False)]
    return "\n".join([*lines, "", *HEAD, *rows] if rows else lines)


HEAD = ["| argument | meaning |", "|---|---|"]


def table(found: list[argparse.Action]) -> list[str]:
    return [*HEAD, *map(shown, found)]


def shown(action: argparse.Action) -> str:
    """
    The row of an argument.
    """
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = "" if action.option_strings else action.dest
    elif not action.option_strings:
        value = str(action.metavar or action.dest)
    if action.nargs == 0:
        value = ""
    place = " ".join(filter(None, (names, f"`{value}`" if value else "")))
    text = (action.help or "") % {"default": action.default, "prog": ""}
    if action.choices is not None:
        text = f"{text}{': ' if text else ''}one of {', '.join(f'`{each}`' for each in action.choices)}"
    if action.required and action.option_strings:
        text += " (required)"
    elif not action.option_strings and action.nargs in ("?", "*"):
        text += " (may be left out)"
    return f"| {place} | {coded(text)} |"


def coded(text: str) -> str:
    """
    The *text* with options, settings, files and paths as code.
    """
    return "".join(
        part if number % 2 else CODE.sub(lambda found: f"`{found[0]}`", part).replace("|", r"\|")
        for number, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


def written(page: str, mark: str, body: str) -> str:
    """
    The *page* with *body* between the marks.
    """
    before, rest = page.split(f"<!-- {mark} -->\n")
    _, after = rest.split(f"<!-- /{mark} -->")
    return f"{before}<!-- {mark} -->\n{body}\n<!-- /{mark} -->{after}"


if __name__ == "__main__":
    whole = PAGE.read_text()
    for mark, body in generated().items():
        whole = written(whole, mark, body)
    PAGE.write_text(whole)

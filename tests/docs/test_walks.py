"""
A new user follows a page in a plain Debian: each command of it, in the order of the page, and nothing else.

A page is not enough if a command of it fails, or prints something else than the page shows. A block that needs a Google Cloud
project is passed over, as a user without one would.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import container
from tests.support.pages import Block, check, commands, parse, place, shows
from tests.support.readme import ROOT
from tests.support.wheels import build

WALKS = ["quickstart", "how-to/flask-app", "how-to/deploying"]
REASON = container.missing()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Both distributions, built.
    """
    return build(tmp_path_factory.mktemp("wheels"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
@pytest.mark.parametrize("name", WALKS)
def test_page_is_enough_for_a_new_user(name: str, wheels: Path, tmp_path: Path) -> None:
    """
    From a system without Python to the end of the page.
    """
    blocks = [block for block in parse((ROOT / "docs" / f"{name}.md").read_text()) if walked(block)]
    with container.alone(), container.container(tmp_path, wheels) as root, ExitStack() as stack:
        work = root / "root" / "work"
        servers: list[container.Terminal] = []
        assert shutil.which("python3", path=f"{root}/usr/bin") is None
        assert commands_of(root, stack, "apt-get update -q")[0] == 0
        terminal = opened(root, stack)
        for block in blocks:
            asked = block.asked
            if asked is not None and asked["file"]:
                place(block, work)
            elif asked is not None and asked["until"]:
                [(command, _)] = commands(block)
                terminal.type(command)
                terminal.wait(lambda lines, until=asked["until"]: any(until in line for line in lines))
                servers.append(terminal)
                terminal = opened(root, stack)
            elif asked is not None and asked["server"]:
                expected = [f"...{line}..." for line in block.text.splitlines()]
                servers[-1].wait(lambda lines, expected=expected: shows(expected, lines, among=True))
            else:
                follow(block, terminal)


def walked(block: Block) -> bool:
    """
    Whether a user who follows the page does something with *block*.
    """
    asked = block.asked
    if asked is not None and asked["reason"]:
        return block.language == "console" and "Google Cloud project" not in asked["reason"]
    return block.language == "console" or bool(asked and (asked["file"] or asked["server"]))


def follow(block: Block, terminal: container.Terminal) -> None:
    for command, expected in commands(block):
        code, printed = terminal.run(command)
        check(command, expected, code, printed)


def opened(root: Path, stack: ExitStack) -> container.Terminal:
    terminal = container.Terminal(root)
    stack.callback(terminal.close)
    return terminal


def commands_of(root: Path, stack: ExitStack, command: str) -> tuple[int, list[str]]:
    return opened(root, stack).run(command)

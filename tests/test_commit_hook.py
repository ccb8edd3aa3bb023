"""
The hook for commit messages that CONTRIBUTING.md tells to switch on.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOOK = ROOT / ".githooks" / "commit-msg"


def refusal(folder: Path, message: str) -> str | None:
    """
    What the hook says of a message; None: it lets it pass.
    """
    file = folder / "COMMIT_EDITMSG"
    file.write_text(message)
    done = subprocess.run([HOOK, file], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr or None


@pytest.mark.parametrize(
    "message",
    [
        "Judge leases by the server's clock",
        "Judge leases by the server's clock\n",
        "X" * 60,
        "A" + "é" * 59,
        "Judge leases by the server's clock\n\nThe local clock was asked. A slow one kept a dead lease.\nSee rules.fenced.\n",
        "# A comment\n\nJudge leases\n\nBody.\n# Please enter the commit message.\n",
        "Judge leases\n# ------------------------ >8 ------------------------\ndiff --git a/x b/x\n+no body\n",
        'Revert "Judge leases by the server\'s clock and not by the local one at all"\n',
        "fixup! Judge leases\n",
    ],
)
def test_good_messages_pass(tmp_path: Path, message: str) -> None:
    """
    A subject alone or with a body, up to 60 characters of any script, with git's comments; git's own subjects.
    """
    assert refusal(tmp_path, message) is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("X" * 61, "61 characters"),
        ("judge leases by the server's clock", "capital"),
        ("Judge leases by the server's clock.", "full stop"),
        ("Judge leases\nThe local clock was asked.\n", "one empty line"),
        ("Judge leases\n\n\nThe local clock was asked.\n", "only one empty line"),
    ],
)
def test_bad_messages_are_refused_with_the_reason(tmp_path: Path, message: str, reason: str) -> None:
    """
    The first rule that a message breaks is named.
    """
    assert reason in str(refusal(tmp_path, message))


def test_git_runs_it_where_it_is_switched_on(tmp_path: Path) -> None:
    """
    The command of CONTRIBUTING.md switches it on; a commit with a bad message is not made.
    """
    [command] = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if "core.hooksPath" in line]
    assert command.split("#")[0].split() == ["git", "config", "core.hooksPath", ".githooks"]
    (tmp_path / ".githooks").symlink_to(HOOK.parent)
    identity = {f"GIT_{who}_{what}": "ann@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments: str) -> int:
        environ = {**{k: v for k, v in os.environ.items() if not k.startswith("GIT_")}, **identity, **nothing}
        return subprocess.run(
            ["git", *arguments], cwd=tmp_path, env=environ, capture_output=True, check=False
        ).returncode

    assert git("init") == git(*command.split("#")[0].split()[1:]) == 0
    assert git("commit", "--allow-empty", "-m", "no capital") == 1
    assert git("commit", "--allow-empty", "-m", "A capital") == 0

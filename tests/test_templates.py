"""
The forms for issues and pull requests: they can be read, and name commands and files that exist.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gcp_emulator import cli as emulator
from gcp_oncetask.cli import main
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.readme import ROOT

FOLDER = ROOT / ".github"
FORMS = sorted((FOLDER / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
TEXTS = [path for path in sorted(FOLDER.rglob("*")) if path.is_file()]
TYPES = {"markdown": {"value"}, "textarea": {"label"}, "input": {"label"}, "dropdown": {"label", "options"}}
"""Type of an element -> the attributes that it must have."""
FIXTURES = {"oncetask_cloud": OncetaskCloud}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_form_is_one_that_github_takes(path: Path) -> None:
    """
    Name, description and elements of known types, with identifiers of their own; one at least must be filled in.
    """
    form: dict[str, Any] = yaml.safe_load(path.read_text())
    asked = [element for element in form["body"] if element["type"] != "markdown"]

    assert set(form) <= {"name", "description", "labels", "title", "body"}
    assert form["name"]
    assert form["description"]
    assert all(TYPES[element["type"]] <= set(element["attributes"]) for element in form["body"])
    assert all(set(element) <= {"type", "id", "attributes", "validations"} for element in form["body"])
    assert all(re.fullmatch(r"[a-z]+", element["id"]) for element in asked)
    assert len({element["id"] for element in asked}) == len(asked) == len({e["attributes"]["label"] for e in asked})
    assert any(element.get("validations", {}).get("required") for element in asked)


def test_the_forms_are_those_of_bugs_features_and_questions() -> None:
    """
    There is no blank issue, and a weakness is reported privately.
    """
    config = yaml.safe_load((FOLDER / "ISSUE_TEMPLATE" / "config.yml").read_text())

    assert [path.stem for path in FORMS] == ["bug", "feature", "question"]
    assert config["blank_issues_enabled"] is False
    [link] = config["contact_links"]
    assert link["url"] in (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_and_files_that_a_form_names_exist(path: Path) -> None:
    """
    Each code span is a target of make, a command of the library or of the local cloud, a fixture or a file.
    """
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    for span in re.findall(r"`([^`]+)`", text):
        first, *rest = span.split()
        match first:
            case "make":
                assert set(rest) <= targets, span
            case "python":
                assert rest == ["--version"] or takes(main, rest[2:]), span
            case "gcp-emulator":
                assert takes(emulator.main, rest), span
            case _:
                assert span in FIXTURES or (ROOT / span).is_file(), span
    assert all((ROOT / name).is_file() for name in re.findall(r"\b[A-Z]+\.md\b", text))


def takes(command: Any, arguments: list[str]) -> bool:
    """
    Whether a command has a subcommand and options, by its own help.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as left:
        command([*[one for one in arguments if not one.startswith("-")], "--help"])
    return left.value.code == 0 and all(one in said.getvalue() for one in arguments if one.startswith("-"))


def test_a_command_that_is_not_there_is_found() -> None:
    """
    A subcommand or an option that is misspelt.
    """
    assert takes(main, ["show", "--json"])
    assert not takes(main, ["shew"])
    assert not takes(main, ["show", "--yaml"])
    assert not takes(emulator.main, ["stop"])

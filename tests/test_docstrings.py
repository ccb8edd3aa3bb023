"""
Docstrings, comments and errors are plain sentences.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.prose import riddles, texts

ROOT = Path(__file__).parents[1]
FOLDERS = ("gcp_oncetask", "emulator/gcp_emulator", "functions", "benchmarks", "examples")
LEFT = {
    "gcp_oncetask/recovery": "events get one reporter",
    "gcp_oncetask/rules": "the record is grouped",
    "gcp_oncetask/runtime": "the pipeline is rebuilt",
    "gcp_oncetask/store": "the flow of a change is rebuilt",
}
"""Folders that still break the rule, and the work in them that comes first. The aim is to list none."""
DONE = {
    "gcp_oncetask/rules": (
        "documents",
        "evidence",
        "features",
        "floods",
        "outcome",
        "retry_policy",
        "statuses",
        "task_headers",
        "timestamps",
    ),
    "gcp_oncetask/store": (
        "forms",
        "indexes",
        "json_data",
        "listen",
        "queries",
        "registry",
        "sessions",
        "sizes",
        "wire",
    ),
}
"""Modules and folders within these that keep the rule already."""


def found() -> dict[str, list[str]]:
    """
    The sentences that break the rule, by module.
    """
    result: dict[str, list[str]] = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for line, text, docstring in texts(path.read_text()):
            for sentence in riddles(text, docstring=docstring):
                result.setdefault(str(path.relative_to(ROOT)), []).append(f"{line}: {sentence}")
    return result


def is_left(module: str, folder: str) -> bool:
    """
    Tell whether *module* is in *folder*, but in none of its parts that are done.
    """
    part = module.removeprefix(f"{folder}/")
    return part != module and re.split("[/.]", part)[0] not in DONE.get(folder, ())


def test_every_sentence_names_its_noun() -> None:
    """
    No sentence has "what" or "whoever" for its noun; a folder that is done is taken off the list.
    """
    by_module = found()

    assert {
        module: lines for module, lines in by_module.items() if not any(is_left(module, folder) for folder in LEFT)
    } == {}
    assert [folder for folder in LEFT if not any(is_left(module, folder) for module in by_module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "What is known of one delivery on its way.",
        "Who verifies callers.",
        "How a delivery ended.",
        "When the next event is.",
        "Whether it is set.",
        "Its document.",
        "Of the local times.",
        "Run it.\n\nRaises:\n    UsageError: It is not.",
        "Run it.\n\nArgs:\n    sender: Who sends it.",
        "Keep it, whatever the server says.",
        "The claim finds out what became of it by then.",
        "A message for whoever reads it.",
        "Somebody else holds it.",
        "An instant: what the server's clock has reached.",
    ],
)
def test_a_riddle_is_found(text: str) -> None:
    """
    At the beginning, in a section, and within a sentence.
    """
    assert riddles(text, docstring=True) != []


@pytest.mark.parametrize(
    "text",
    [
        "Tell whether the event is set.",
        "Return the time of the next event.\n\nReturns:\n    None if there is none.",
        "When the flag is set, the server says what to do.",
        "Run it.\n\nArgs:\n    listen: Whether a listener wakes the worker.\n\nRaises:\n    UsageError: *text* is no URL.",
        'Names such as ``whatever`` and "nobody" are code.',
    ],
)
def test_a_plain_sentence_is_left_alone(text: str) -> None:
    """
    Clauses have their main clause, and code is no prose.
    """
    assert riddles(text, docstring=True) == []


def test_docstrings_comments_and_errors_are_read() -> None:
    """
    Those of attributes and the parts of a formatted error, too.
    """
    source = (
        'A = 1\n"""One."""\n\ndef f(a):\n    # Two,\n    # of two lines.\n'
        '    raise ValueError(f"three {a} four")  # noqa: B904 - five\n'
    )

    assert sorted((text, docstring) for _, text, docstring in texts(source)) == [
        ("One.", True),
        ("Two, of two lines.", False),
        ("five", False),
        ("three X four", False),
    ]

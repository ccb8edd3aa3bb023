"""
Docstrings, comments and errors are plain sentences.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.prose import riddles, texts

ROOT = Path(__file__).parents[1]
FOLDERS = ("gcp_oncetask", "emulator/gcp_emulator", "functions", "benchmarks", "examples")


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


def test_every_sentence_names_its_noun() -> None:
    """
    No sentence has "what" or "whoever" for its noun.
    """
    assert found() == {}


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

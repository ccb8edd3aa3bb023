"""
Nothing stands twice in the README and the pages.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from gcp_oncetask.config import FIELDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "emulator/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "LICENSE.md"
)
SHORTEST = 30
"""Characters of a sentence that must not come twice."""


def sentences(text: str) -> list[str]:
    """
    Sentences and bullets of a page, on one line each; code, tables and headings left out.
    """
    prose = re.sub(r"^```.*?^```", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^[#|<].*$", "\n", prose, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", prose, flags=re.MULTILINE)
    lines = [" ".join(block.split()) for block in blocks]
    return [one for line in lines for one in re.split(r"(?<=[.!?:;]) (?=[A-Z*`\"])", line) if len(one) >= SHORTEST]


def twice(pages: dict[str, str]) -> dict[str, list[str]]:
    """
    Sentence -> where it stands, of those that stand more than once.
    """
    found = defaultdict(list)
    for name, text in pages.items():
        for sentence in sentences(text):
            found[sentence].append(name)
    return {sentence: names for sentence, names in found.items() if len(names) > 1}


def test_no_paragraph_bullet_or_sentence_stands_twice() -> None:
    """
    Neither within a page nor on two pages.
    """
    assert len(PAGES) >= 5
    assert twice({str(path.relative_to(ROOT)): path.read_text() for path in PAGES}) == {}


def test_every_term_of_the_vocabulary_is_defined_once() -> None:
    """
    The README's vocabulary is one list.
    """
    readme = (ROOT / "README.md").read_text()
    [chapter] = readme.split("\n## Vocabulary\n")[1:]
    terms = re.findall(r"\*\*([\w -]+)\*\*:", chapter.split("\n## ")[0])

    assert len(terms) > 20
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_files_that_a_page_names_exist(page: Path) -> None:
    """
    A setting that was renamed, or a file that was moved, is not named any more.
    """
    text = page.read_text()
    known = {env for env, *_ in FIELDS}
    # ONCETASK_* stands for all of them.
    named = set(re.findall(r"\b(?:ONCETASK_[A-Z_]+|ONCE_TASK_ENV)\b(?!\*)", text)) - {"ONCETASK_"}
    linked = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)} - {""}

    assert named - known == set()
    assert [link for link in linked if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "text",
    [
        "A first paragraph, which is long enough.\n\nA first paragraph,\nwhich is long enough.\n",
        "- **Term**: it means something for somebody.\n- **Term**: it means something for somebody.\n",
        "**Once**: a task that runs once, ever. **Twice**: never.\n**Once**: a task that runs once, ever.",
    ],
)
def test_a_repetition_is_found(text: str) -> None:
    """
    Of a paragraph that is broken elsewhere, of a bullet, and of a sentence within a paragraph.
    """
    assert twice({"page": text}) != {}

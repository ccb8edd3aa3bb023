"""
The prose of the README and the pages: nothing stands twice, each sentence is about a noun, the glossary is the list of terms.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from gcp_oncetask.config import FIELDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "emulator/*.md") for path in ROOT.glob(pattern))
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


def unspoken(text: str) -> str:
    """
    A page without code blocks and headings; the lengths of lines are kept.
    """
    blank = re.compile(r"[^\n]")
    text = re.sub(r"^```.*?^```", lambda found: blank.sub(" ", found[0]), text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^#+ .*$", lambda found: " " * len(found[0]), text, flags=re.MULTILINE)


def said(text: str) -> list[str]:
    """
    Sentences, bullets and table cells of a page, on one line each; code blocks, headings and the heads of tables left out.
    """
    prose = re.sub(r"^\|.*\n\|[-|: ]+\|$", "", unspoken(text), flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) |^\||(?<!\\)\||^<!--.*-->$", prose, flags=re.MULTILINE)
    lines = [" ".join(block.split()) for block in blocks]
    return [one for line in lines for one in re.split(r"(?<=[.!?:;]) (?=[A-Z*`\"])", line) if one]


RIDDLE = re.compile(
    r"^\W*(?:what|whatever|whoever|whose|somebody|nobody|whichever)\b|, whoever\b|\bwhatever\b|\bby then\b|\bit is, which\b",
    re.IGNORECASE,
)
"""A sentence without a noun as its subject."""
PLAIN: dict[str, str] = {}
"""Sentences that may be so -> why."""


def riddles(text: str) -> list[str]:
    """
    The sentences of a page that have to be read twice.
    """
    return [sentence for sentence in said(text) if RIDDLE.search(sentence) and sentence not in PLAIN]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_subject_of_each_sentence_is_a_noun(page: Path) -> None:
    """
    No page has a sentence about "what ...", "whoever ..." or "nobody ...".
    """
    assert riddles(page.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "It runs.\nWhat was\nreturned is stored.",
        "- **Nobody waits.** It runs.",
        "It runs, whoever\nasks.",
        "| a | b |\n|---|---|\n| it runs | nobody waits |",
        'It runs: "Whoever asks" is told.',
        "> It is free by then.",
    ],
)
def test_a_riddle_is_found(text: str) -> None:
    """
    In a paragraph, at a sentence's start behind marks, across a line break, in a table's cell and in a quotation.
    """
    assert len(riddles(text)) == 1


def test_questions_and_code_are_no_riddles() -> None:
    """
    Headings, the heads of tables and code may begin with any word.
    """
    assert riddles("## What is stored\n\n```text\nWhat?\n```\n\n| what | who |\n|---|---|\n| a task | ann |\n") == []


GLOSSARY = (ROOT / "docs" / "reference" / "glossary.md").read_text()
TERM = re.compile(r"^- \*\*([^*]+)\*\*: ", re.MULTILINE)


def test_every_term_of_the_glossary_is_defined_once_and_used() -> None:
    """
    The glossary is the one list; each of its words is used by a page or by the library.
    """
    terms = [term.partition(" (")[0] for term in TERM.findall(GLOSSARY)]
    texts = [page.read_text() for page in PAGES if page.name not in {"glossary.md", "CHANGELOG.md"}]
    texts += [path.read_text() for path in (ROOT / "gcp_oncetask").rglob("*.py")]
    used = "\n".join(texts)

    assert len(terms) >= 40
    assert len({term.lower() for term in terms}) == len(terms)
    assert [term for term in terms if not word(term).search(used)] == []


def test_every_term_has_one_sentence() -> None:
    """
    A definition is one sentence that ends with a full stop.
    """
    entries = [line for line in GLOSSARY.splitlines() if line.startswith("-")]

    assert [
        line for line in entries if not re.fullmatch(r"- \*\*[^*]+\*\*: [^.]+\.", re.sub(r"lock\.(?=\w)", "", line))
    ] == []


def test_the_readme_links_each_main_term_where_it_uses_it_first() -> None:
    """
    The link leads to the heading below which the glossary defines the term.
    """
    readme = (ROOT / "README.md").read_text()
    linked = re.findall(r"^\[([^\]]+)\]: \S+/docs/reference/glossary\.md#(\S+)$", readme, re.MULTILINE)
    chapters = {
        term.partition(" (")[0].lower(): heading.lower().replace(" ", "-")
        for heading, *body in (chapter.split("\n") for chapter in GLOSSARY.split("\n## ")[1:])
        for term in TERM.findall("\n".join(body))
    }
    prose = re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), unspoken(readme))
    unlinked = {}
    for term, _ in linked:
        first = word(term).search(prose)
        assert first is not None
        if prose[first.start() - 1] != "[":
            unlinked[term] = prose[first.start() - 30 : first.end() + 30]

    assert len(linked) >= 7
    assert {term: chapters.get(term) for term, _ in linked} == dict(linked)
    assert unlinked == {}


def word(term: str) -> re.Pattern[str]:
    """
    Finds a term as a word, in names of the code and in the plural too.
    """
    stem = r"[\s_-]*".join(re.escape(part) for part in re.split(r"[ -]", term))
    return re.compile(rf"(?<![A-Za-z]){stem}" if len(term) > 3 else rf"\b{stem}\b", re.IGNORECASE)


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

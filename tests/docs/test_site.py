"""
The site is built without a warning and without a network; each link leads somewhere; each term is linked.
"""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from readme_renderer import markdown

import gcp_oncetask
from tests.support.readme import README, ROOT

DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/gcp-oncetask/gcp-oncetask/blob/main/"
RAW = "https://raw.githubusercontent.com/gcp-oncetask/gcp-oncetask/main/"
GLOSSARY = (DOCS / "reference" / "glossary.md").read_text()


def anchor(term: str) -> str:
    return "term-" + re.sub(r"\W+", "-", term.lower())


TERMS = [term.partition(" (")[0] for term in re.findall(r"^- \*\*([^*]+)\*\*: ", GLOSSARY, re.MULTILINE)]


class Page(HTMLParser):
    """
    The links, the images and the anchors of a page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.terms: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found.get("id") or "", found.get("name") or ""}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
            if "term" in (found.get("class") or "").split():
                self.terms.append(str(found["href"]))
        if tag == "img" and found.get("src"):
            self.images.append((str(found["src"]), found.get("alt") or ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The site, built as ``make docs`` builds it, with every host refused.
    """
    folder = tmp_path_factory.mktemp("site")
    offline = (
        "import socket, sys\n"
        "def refused(*_, **__): raise OSError('the build must not need a network')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from sphinx.cmd.build import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", offline, "-b", "html", "-q", "-W", "--keep-going", str(DOCS), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_each_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """
    Links within the site to a page and an anchor that exist; links to the repository to a file that exists.
    """
    lost = []
    for path, page in pages.items():
        for link in page.links:
            url, anchor = urldefrag(link)
            parts = urlsplit(url)
            if url.startswith(REPOSITORY):
                found = (ROOT / unquote(url.removeprefix(REPOSITORY)).partition("?")[0]).exists()
            elif parts.scheme:
                found = parts.scheme in {"https", "mailto"}
            else:
                target = path if not url else (path.parent / unquote(url)).resolve()
                found = target.exists() and (
                    not anchor or target.suffix != ".html" or unquote(anchor) in pages[target].anchors
                )
            if not found:
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) >= 20
    assert sorted(set(lost)) == []


def test_each_word_of_an_attempt_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    """
    The words stand in several classes; a reader of the reference finds them all at ``Attempt``.
    """
    told = pages[site / "reference" / "api" / "gcp_oncetask.html"].anchors
    words = {name for name in dir(gcp_oncetask.Attempt) if not name.startswith("_")}
    assert "wait_event" in words
    assert {word for word in words if f"gcp_oncetask.Attempt.{word}" not in told} == set()


def test_each_image_exists_and_has_words(pages: dict[Path, Page]) -> None:
    """
    An image without a text beside it tells a blind reader nothing.
    """
    wrong = [
        f"{path.name}: {source}"
        for path, page in pages.items()
        for source, words in page.images
        if not (words and (path.parent / unquote(source)).resolve().exists())
    ]
    assert wrong == []


def test_each_page_is_in_the_contents(pages: dict[Path, Page], site: Path) -> None:
    """
    The sidebar of the first page leads to every page.
    """
    first = pages[site / "index.html"]
    shown = {urldefrag(link)[0] for link in first.links}
    written = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")} - {"index.html"}
    assert written - shown == set()


def test_each_term_is_linked_where_a_page_uses_it_first(pages: dict[Path, Page], site: Path) -> None:
    """
    Once in a page, and to the definition; in pages that have the word in running text.
    """
    glossary = pages[site / "reference" / "glossary.html"]
    linked = {term for page in pages.values() for term in page.terms}
    assert len(TERMS) >= 40
    assert all(urldefrag(link)[1] in glossary.anchors for link in linked)
    for path, page in pages.items():
        assert len(page.terms) == len(set(page.terms)), path
    unlinked = {}
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).with_suffix("")
        if name.parts[:2] not in LEFT_OUT and (
            missing := used(path.read_text()) - linked_in(pages[site / f"{name}.html"])
        ):
            unlinked[str(name)] = sorted(missing)
    assert unlinked == {}


LEFT_OUT = {("reference", "glossary"), ("reference", "api"), ("explanation", "mutants"), ("explanation", "survivors")}
"""Pages that are made of the code, and the glossary itself."""


def linked_in(page: Page) -> set[str]:
    return {term for term in TERMS for link in page.terms if link.endswith(f"#{anchor(term)}")}


def used(text: str) -> set[str]:
    """
    The terms that stand in the sentences of a page: not in code, headings, links, comments and the heads of tables, and not as
    a part of a longer term.
    """
    for left_out in (
        r"^```.*?^```$|^:::.*?^:::$|<!--.*?-->",
        r"^#.*$|^\|.*\n\|[-|: ]+\|$",
        r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)|^\[[^\]]+\]: .*$|<https?:[^>]*>",
    ):
        text = re.sub(left_out, " . ", text, flags=re.DOTALL | re.MULTILINE if "```" in left_out else re.MULTILINE)
    found = set()
    for term in sorted(TERMS, key=len, reverse=True):
        text, times = re.subn(rf"(?<![\w-]){re.escape(term)}(?![\w-])", " . ", text, flags=re.IGNORECASE)
        if times:
            found.add(term)
    return found


def test_the_readme_is_short_and_renders_whole_on_a_package_index() -> None:
    """
    At most 150 lines. The index' renderer takes it; every link is absolute, and no element is dropped from it.
    """
    assert README.count("\n") <= 150
    html = markdown.render(README)
    assert html is not None
    assert re.findall(r"\]\((?!https://)[^)]*\)", README) == []
    assert html.count("<table>") == len(re.findall(r"^\|---", README, re.MULTILINE))
    assert html.count("<pre") == len(re.findall(r"^```\w", README, re.MULTILINE))
    for source in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert source.startswith(RAW)
        assert (ROOT / source.removeprefix(RAW)).exists(), source
        assert source in html

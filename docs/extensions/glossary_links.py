"""
Link each term of the glossary where a page uses it first.

The glossary is a page of lists. An item begins with its term in bold, ``- **Lease**: ...``, perhaps with a remark in
parentheses. Each item gets an anchor. In every other page the first use of a term in running text, also in the plural,
becomes a link to that anchor. Headings, code, existing links and tables' heads are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

GLOSSARY = "reference/glossary"
PLAIN = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title, nodes.thead, nodes.raw, nodes.comment)
"""Parents in which a text is no running text."""
LEFT_OUT = ("reference/api", "explanation/mutants", "explanation/survivors")
"""Pages that are made of the code, where links would hide more than they show."""


def anchor(term: str) -> str:
    """
    The id of the item that defines *term*.
    """
    return "term-" + re.sub(r"\W+", "-", term.lower()).strip("-")


def pattern(term: str) -> re.Pattern[str]:
    """
    Find *term* as a word, in the plural too; a hyphen and a blank are the same.
    """
    stem = r"[\s-]+".join(re.escape(part) for part in re.split(r"[ -]", term))
    if stem.endswith("y"):
        stem = f"{stem[:-1]}(?:y|ies)"
    elif stem.endswith("s"):
        stem += "(?:es)?"
    else:
        stem += "s?"
    return re.compile(rf"(?<![\w-]){stem}(?![\w-])", re.IGNORECASE)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """
    Give each item of the glossary its anchor, and keep the terms.
    """
    if app.env.docname != GLOSSARY:
        return
    terms: dict[str, str] = {}
    for item in doctree.findall(nodes.list_item):
        strong = next(iter(item.findall(nodes.strong)), None)
        if strong is not None:
            term = strong.astext().partition(" (")[0]
            terms[term] = anchor(term)
            item["ids"].append(anchor(term))
    app.env.glossary_terms = terms  # type: ignore[attr-defined]  # kept with the environment


def running(doctree: nodes.document) -> Iterator[nodes.Text]:
    """
    The texts in which a reader reads sentences, in their order.
    """
    for text in list(doctree.findall(nodes.Text)):
        parent: Any = text.parent
        while parent is not None and not isinstance(parent, PLAIN):
            parent = parent.parent
        if parent is None:
            yield text


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """
    Turn the first use of each term in the page *docname* into a link.
    """
    if docname == GLOSSARY or docname.startswith(LEFT_OUT):
        return
    left = dict(getattr(app.env, "glossary_terms", {}))
    home = app.builder.get_relative_uri(docname, GLOSSARY)
    for text in running(doctree):
        pieces: list[nodes.Node] = [text]
        # The longest term first: "resource key" before "key".
        for term in sorted(left, key=len, reverse=True):
            for place, piece in enumerate(pieces):
                found = pattern(term).search(piece.astext()) if isinstance(piece, nodes.Text) else None
                if found is None:
                    continue
                whole = piece.astext()
                made = nodes.reference("", found[0], refuri=f"{home}#{left[term]}", internal=True, classes=["term"])
                pieces[place : place + 1] = [nodes.Text(whole[: found.start()]), made, nodes.Text(whole[found.end() :])]
                del left[term]
                break
        if len(pieces) > 1:
            text.parent.replace(text, [piece for piece in pieces if piece.astext()])


def first(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """
    Read the glossary again if the kept environment has no terms.
    """
    return [] if hasattr(env, "glossary_terms") else [GLOSSARY]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-get-outdated", first)
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": False, "parallel_write_safe": True}

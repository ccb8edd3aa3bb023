"""
The house rule of prose: plain sentences with a subject, a verb and an object, whose noun is named.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

ENTRY = re.compile(r"(?:\*{0,2}[\w.]+\*{0,2}(?:, [\w.]+)*): (?=\S)")
"""``name: `` of an argument, attribute or error."""
HEADER = re.compile(r"(?:Args|Attributes|Returns|Yields|Raises|Shape|Source|Guarantee|No guarantee)(?: of [\w ]+)?:")
SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z*`\"])|(?<=[.!?])$")
BEGINS = re.compile(
    r"(?:what|who|whom|whose|whatever|whoever|whichever|somebody|someone|nobody|everybody|anybody|anyone|how|why)\b"
    # Clauses without a main clause: "When the next event is."
    r"|(?:when|where|of)\b[^,:;]*$"
    # Answers without their question: "It is not."
    r"|(?:it|they) (?:is|are|does|do|has|have|can|could|was|were|had)(?:n't|'t)?(?: (?:not|none|neither|so))?[.;]?$",
    re.IGNORECASE,
)
"""Beginnings of sentences that do not name their noun."""
FIRST = re.compile(r"(?:whether|it|its|they|them|their|those)\b", re.IGNORECASE)
"""Beginnings of docstrings that name no noun, or leave out the verb."""
WITHIN = re.compile(
    r"\b(?:whoever|whomever|whosoever|whatever|whichever|by then|such a one|for want of)\b"
    r"|\b(?:somebody|anybody|nobody|someone|anyone|everybody)\b"
    r"|\b(?:is|are|was|were|be|it), which\b"
    # "The message says what is missing" names its noun; "what is missing is refused" does not.
    r"|(?<!\bsay)(?<!\bsays)(?<!\btell)(?<!\btells)(?<!\bshow)(?<!\bshows)(?<!\bknow)(?<!\bknows) what\b(?! to\b)"
    r"|[:;] (?:who|what|whose)\b",
    re.IGNORECASE,
)
"""Pronouns in place of the noun, anywhere in a sentence."""
DIRECTIVE = re.compile(r"^(?:noqa|type)\b:? ?[\w\[\], -]*?(?: [-#] |$)")
"""The part of a comment that a linter reads; a reason may follow."""
CODE = re.compile(r"``[^`]*``|`[^`]*`|\"[^\"]*\"")


def riddles(text: str, *, docstring: bool = False) -> list[str]:
    """
    Find the sentences of a docstring, comment or message that do not name their noun.

    Args:
        text: The text; sections and entries are read as Google's style of docstrings has them.
        docstring: Whether to check how the text begins, too.
    """
    found = []
    for number, sentence in enumerate(sentences(text)):
        plain = CODE.sub("X", sentence)
        first = docstring and number == 0 and FIRST.match(plain)
        if first or BEGINS.match(plain) or WITHIN.search(plain):
            found.append(sentence)
    return found


def sentences(text: str) -> list[str]:
    """
    Split a text into sentences; headers of sections and names of entries are left out.
    """
    blocks: list[str] = []
    fresh = True
    for line in map(str.strip, text.expandtabs().split("\n")):
        entry = ENTRY.match(line)
        if not line or HEADER.fullmatch(line) or line.startswith(("::", "|", "`-")):
            fresh = True
        elif entry or fresh or line.startswith("- "):
            blocks.append(line[entry.end() :] if entry else line.removeprefix("- "))
            fresh = False
        else:
            blocks[-1] += f" {line}"
    return [sentence.strip() for block in blocks for sentence in SENTENCE.split(block) if sentence.strip()]


def texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """
    Yield line, text and "is a docstring" of each docstring, comment and text of a raised error in a module.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text, True
            case ast.Raise(exc=ast.AST() as error):
                yield from ((node.lineno, text, False) for text in _messages(error))
    yield from _comments(source)


def _messages(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts)
        case ast.Constant(value=str(text)):
            yield text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _messages(child)


def _comments(source: str) -> Iterator[tuple[int, str, bool]]:
    run: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if run and (token.start[0] != run[-1].start[0] + 1 or token.start[1] != run[-1].start[1]):
            yield _joined(run)
            run = []
        run.append(token)
    if run:
        yield _joined(run)


def _joined(run: list[tokenize.TokenInfo]) -> tuple[int, str, bool]:
    lines = (DIRECTIVE.sub("", token.string.lstrip("# ")) for token in run)
    return run[0].start[0], " ".join(lines), False

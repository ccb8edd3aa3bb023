"""
Words of the Logging query language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["string", "text", "operator", "(", ")", ",", "-", "end"]

OPERATORS = ("=~", "!~", "!=", ">=", "<=", "=", ">", "<", ":")
_SPACE = re.compile(r"(?:\s+|--[^\n]*)+")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TEXT = re.compile(r"[\w./+*@$%&#-]+")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3})|(.))", re.DOTALL)
_SIMPLE = {
    '"': '"',
    "'": "'",
    "\\": "\\",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "?": "?",
}


class FilterError(Exception):
    """
    A filter that this server does not understand.

    Attributes:
        offset: Where, in characters from the start.
    """

    def __init__(self, message: str, text: str, offset: int) -> None:
        line = text.count("\n", 0, offset) + 1
        column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        super().__init__(f"Unparseable filter: line {line}, column {column}: {message}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """
    One word, operator or parenthesis.

    Attributes:
        text: As written; without the quotation marks for a string, escapes untouched.
        start: Offset of its first character.
        end: Offset behind its last.
    """

    kind: Kind
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end of the filter"
        return f'the string "{self.text}"' if self.kind == "string" else f"'{self.text}'"


def tokens(text: str) -> list[Token]:
    """
    Split a filter into words; the last one is of kind ``end``.

    Raises:
        FilterError: A character that begins no word, or a string without an end.
    """
    found: list[Token] = []
    at = 0
    while True:
        if space := _SPACE.match(text, at):
            at = space.end()
        if at == len(text):
            found.append(Token("end", "", at, at))
            return found
        token = _token(text, at)
        found.append(token)
        at = token.end


def _token(text: str, at: int) -> Token:
    letter = text[at]
    if letter in "()":
        return Token("(" if letter == "(" else ")", letter, at, at + 1)
    if letter in "-,":
        return Token("-" if letter == "-" else ",", letter, at, at + 1)
    if letter == '"':
        string = _STRING.match(text, at)
        if string is None:
            raise FilterError("the string that begins here has no closing quotation mark.", text, at)
        return Token("string", string[1], at, string.end())
    for operator in OPERATORS:
        if text.startswith(operator, at):
            return Token("operator", operator, at, at + len(operator))
    word = _TEXT.match(text, at)
    if word is None:
        raise FilterError(
            f"unexpected character '{letter}'; put text with special characters in double quotation marks.",
            text,
            at,
        )
    return Token("text", word[0], at, word.end())


def unescaped(token: Token, text: str) -> str:
    """
    The characters that a string token stands for.

    Raises:
        FilterError: An escape sequence the language does not have.
    """

    def one(match: re.Match[str]) -> str:
        for digits, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
            if match[digits] is not None:
                return chr(int(match[digits], base))
        if match[5] not in _SIMPLE:
            raise FilterError(
                f"unknown escape '\\{match[5]}' in a string; write '\\\\' for a backslash.",
                text,
                token.start + 1 + match.start(),
            )
        return _SIMPLE[match[5]]

    return _ESCAPE.sub(one, token.text)

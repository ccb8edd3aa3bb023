"""
From the text of a filter to a tree.

::

    filter     = [sequence]
    sequence   = choice {["AND"] choice}
    choice     = negation {"OR" negation}
    negation   = ("NOT" | "-") negation | operand
    operand    = "(" sequence ")" | path operator values | name "(" arguments ")" | value
    arguments  = (path | value) {"," (path | value)}
    values     = value | "(" sequence of value ")"
    path       = name {"." (name | string)}

OR binds tighter than AND, as in the service's language. A value alone is looked for in all fields; ``and``, ``or`` and ``not``
are such values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gcp_emulator.logging.lexer import FilterError, Token, tokens, unescaped

KEYWORDS = ("AND", "OR", "NOT")
MAX_LENGTH = 20_000
MAX_DEPTH = 100
_LACKING = {
    "source": "folders and organizations do not exist here; name the project in resource_names.",
    "cast": "compare the field itself.",
    "regexp_extract": "compare the field with '=~'.",
}


@dataclass(frozen=True, slots=True)
class Value:
    """
    Right side of a comparison.

    Attributes:
        text: Its text; in a regular expression, escapes are left to the expression.
        quoted: Whether it stood in quotation marks.
        offset: Offset of its beginning.
    """

    text: str
    quoted: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Comparison:
    path: tuple[str, ...]
    operator: str
    value: Value
    offset: int


@dataclass(frozen=True, slots=True)
class Term:
    """
    A value that stands alone.
    """

    value: Value


@dataclass(frozen=True, slots=True)
class Argument:
    """
    Argument of a function.

    Attributes:
        path: It, read as the name of a field; empty if it is in quotation marks or a number.
        value: It, read as a value.
    """

    path: tuple[str, ...]
    value: Value


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Argument, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


Node = And | Or | Not | Comparison | Term | Call


def parse(text: str) -> Node:
    """
    The tree of a filter; an empty filter is an empty conjunction.

    Raises:
        FilterError: Not the language, or a part of it that this server does not have.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"the filter has {len(text)} characters; {MAX_LENGTH} is the most.", text, MAX_LENGTH)
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        if self._peek().kind == "end":
            return And(())
        tree = self._sequence(self._operand)
        if self._peek().kind != "end":
            raise self._error(f"unexpected {self._peek()}.")
        return tree

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is_word(self, word: str) -> bool:
        return self._peek().kind == "text" and self._peek().text == word

    def _error(self, message: str, token: Token | None = None) -> FilterError:
        return FilterError(message, self._text, (token or self._peek()).start)

    def _sequence(self, operand: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} levels of parentheses.")
        parts = [self._choice(operand)]
        while self._peek().kind not in (")", "end"):
            if self._is_word("AND"):
                self._take()
            parts.append(self._choice(operand))
        self._depth -= 1
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _choice(self, operand: Callable[[], Node]) -> Node:
        parts = [self._negation(operand)]
        while self._is_word("OR"):
            self._take()
            parts.append(self._negation(operand))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _negation(self, operand: Callable[[], Node]) -> Node:
        negative = False
        while self._is_word("NOT") or (self._peek().kind == "-" and operand == self._operand):
            self._take()
            negative = not negative
        part = operand()
        return Not(part) if negative else part

    def _closing(self, opening: Token) -> None:
        if self._peek().kind != ")":
            raise self._error("this parenthesis is never closed.", opening)
        self._take()

    def _operand(self) -> Node:
        if self._peek().kind == "(":
            opening = self._take()
            inner = self._sequence(self._operand)
            self._closing(opening)
            return inner
        first, begin = self._peek(), self._at
        if first.kind == "text" and first.text in KEYWORDS:
            raise self._error(f"unexpected {first}; {first.text} joins comparisons.", first)
        path = self._path()
        if self._peek().kind == "operator":
            return self._values(path, self._take(), first)
        if self._at > begin + 1:
            raise self._error(f"found {first} where a comparison such as severity>=ERROR was expected.", first)
        if first.kind == "text" and self._peek().kind == "(" and self._peek().start == first.end:
            return self._call(first)
        quoted = first.kind == "string"
        return Term(Value(unescaped(first, self._text) if quoted else first.text, quoted=quoted, offset=first.start))

    def _call(self, name: Token) -> Node:
        if advice := _LACKING.get(name.text.lower()):
            raise self._error(f"the function {name.text} is not implemented by this local server; {advice}", name)
        opening = self._take()
        arguments: list[Argument] = []
        while self._peek().kind != ")":
            if arguments:
                if self._peek().kind == "end":
                    raise self._error("this parenthesis is never closed.", opening)
                if self._peek().kind != ",":
                    raise self._error(f"found {self._peek()} where a comma or ')' was expected.")
                self._take()
            arguments.append(self._argument(opening))
        self._take()
        return Call(name.text, tuple(arguments), name.start)

    def _argument(self, opening: Token) -> Argument:
        token = self._peek()
        if token.kind == "end":
            raise self._error("this parenthesis is never closed.", opening)
        if token.kind == "string":
            self._take()
            return Argument((), Value(unescaped(token, self._text), quoted=True, offset=token.start))
        sign = self._take().text if token.kind == "-" else ""
        path = self._path()
        end = self._tokens[self._at - 1].end
        return Argument(path, Value(sign + self._text[token.start + len(sign) : end], quoted=False, offset=token.start))

    def _path(self) -> tuple[str, ...]:
        """
        Names joined by dots without spaces; a quoted one may itself contain dots.
        """
        first = self._peek()
        if first.kind not in ("text", "string"):
            raise self._error(f"found {first} where a field name was expected.")
        parts: list[str] = []
        dotted = True
        end = first.start
        while self._peek().kind in ("text", "string") and self._peek().start == end:
            token = self._take()
            end = token.end
            if token.kind == "string":
                if not dotted:
                    raise self._error(f"a dot is missing before {token}.", token)
                parts.append(unescaped(token, self._text))
                dotted = False
                continue
            text = token.text if dotted else token.text.removeprefix(".")
            if not dotted and text == token.text:
                raise self._error(f"a dot is missing before {token}.", token)
            dotted = text.endswith(".")
            parts.extend(text.removesuffix(".").split("."))
        if dotted or not all(parts):
            raise self._error(f"the field name that begins with {first} has an empty part.", first)
        return tuple(parts)

    def _values(self, path: tuple[str, ...], operator: Token, first: Token) -> Node:
        def one() -> Node:
            if self._peek().kind == "(":
                return listed()
            return Comparison(path, operator.text, self._value(operator), first.start)

        def listed() -> Node:
            opening = self._take()
            inner = self._sequence(one)
            self._closing(opening)
            return inner

        if self._peek().kind == "(" and operator.text in ("!=", "!~"):
            raise self._error(
                f"'{operator.text}' with a list is not implemented by this local server; write NOT field=(a OR b)."
            )
        return one()

    def _value(self, operator: Token) -> Value:
        token = self._take()
        if token.kind == "string":
            return Value(self._string(token, operator), quoted=True, offset=token.start)
        sign = ""
        if token.kind == "-" and self._peek().kind == "text" and self._peek().start == token.end:
            sign, token = "-", self._take()
        if token.kind != "text" or token.text in KEYWORDS:
            raise self._error(f"found {token} where a value was expected.", token)
        if self._peek().kind in ("operator", "string", "text") and self._peek().start == token.end:
            raise self._error(
                f"unexpected {self._peek()}; put values with special characters in double quotation marks."
            )
        return Value(sign + token.text, quoted=False, offset=token.start - len(sign))

    def _string(self, token: Token, operator: Token) -> str:
        if operator.text not in ("=~", "!~"):
            return unescaped(token, self._text)
        if "\\\\" in token.text:
            raise self._error(
                "a doubled backslash in a regular expression is not implemented by this local server; "
                "write '\\.' or '[.]'.",
                token,
            )
        return token.text.replace('\\"', '"')

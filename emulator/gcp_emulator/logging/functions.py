"""
Functions of the Logging query language, and the search in all fields.

``SEARCH`` splits texts into words at spaces and punctuation, without regard to case, and wants all words of its query; words in
backticks are one phrase, which must occur as written.

Source:
    The service's query language documentation, sections on global restrictions and functions; BigQuery's on its log analyzer.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from gcp_emulator import words
from gcp_emulator.logging.leaves import at, leaves, wrong
from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.parser import Argument, Call, Value

Matches = Callable[[Any], bool]

_ENCODED = "%(?:2526|2520|20|21|26|2B|2b|28|29|2C|2c|0A|0a|3A|3a|3B|3b|3D|3d|5B|5b|5D|5d|7C|7c)"
_APART = re.compile(rf"{_ENCODED}|[\]\[<>(){{}}|!;,'\"*&?+/:=@.\-$%\\_\s`]")
_PHRASE = re.compile(r"`([^`]*)`")
_FORMS = {
    "log_id": 'log_id("LOG_ID")',
    "search": 'SEARCH("WORDS") or SEARCH(FIELD, "WORDS")',
    "sample": "sample(FIELD, FRACTION)",
    "ip_in_net": 'ip_in_net(FIELD, "SUBNET")',
}


def term(value: Value) -> Matches:
    """
    Return whether any field of an entry has *value*: a text contains it, a number or truth value is equal to it.
    """
    if value.text == "*" and not value.quoted:
        return lambda _: True
    wanted = value.text.casefold()
    number = _number(value.text)

    def has(leaf: Any) -> bool:
        if isinstance(leaf, str):
            return wanted in leaf.casefold()
        if isinstance(leaf, bool):
            return wanted == str(leaf).lower()
        return number is not None and bool(leaf == number)

    return lambda entry: any(has(leaf) for leaf in leaves(entry))


def function(call: Call, text: str) -> Matches:
    """
    Return the function that *call* is.

    Raises:
        FilterError: There is no such function, or it has other arguments.
    """
    name = call.name.lower()
    if name not in _FORMS:
        known = ", ".join(form.partition("(")[0] for form in _FORMS.values())
        near = words.hint(name, _FORMS)
        raise FilterError(f"there is no function {call.name}; there are {known}.{near}", text, call.offset)
    if len(call.arguments) not in ((1, 2) if name == "search" else (1,) if name == "log_id" else (2,)):
        raise FilterError(f"{call.name} has {len(call.arguments)} arguments; write {_FORMS[name]}.", text, call.offset)
    made: Matches = _MAKERS[name](call, text)
    return made


def _log_id(call: Call, text: str) -> Matches:
    wanted = unquote(_text(call, 0, text)).casefold()
    return lambda entry: unquote(entry.log_name.partition("/logs/")[2]).casefold() == wanted


def _search(call: Call, text: str) -> Matches:
    query = _text(call, -1, text)
    phrases = [phrase for phrase in _PHRASE.findall(query) if phrase]
    tokens = _tokens(_PHRASE.sub(" ", query))
    if not phrases and not tokens:
        raise FilterError("SEARCH has no word to look for.", text, call.offset)
    path = _path(call, text) if len(call.arguments) == 2 else ()

    def found(entry: Any) -> bool:
        texts = [
            str(leaf).lower() if isinstance(leaf, bool) else str(leaf)
            for leaf in (at(entry, path) if path else leaves(entry))
        ]
        there = set().union(*map(_tokens, texts))
        return tokens <= there and all(any(_occurs(phrase, one) for one in texts) for phrase in phrases)

    return found


def _sample(call: Call, text: str) -> Matches:
    path = _path(call, text)
    given = call.arguments[1].value
    fraction = _number(given.text)
    if fraction is None or not 0 <= fraction <= 1:
        raise FilterError(f"'{given.text}' is no fraction; sample takes one from 0 to 1.", text, given.offset)
    most = fraction * 2**64

    def taken(entry: Any) -> bool:
        values = sorted(map(str, at(entry, path)))
        # The value alone decides, so that the same entries are taken each time.
        hashed = hashlib.sha256("\0".join(values).encode()).digest()[:8]
        return bool(values) and int.from_bytes(hashed, "big") < most

    return taken


def _ip_in_net(call: Call, text: str) -> Matches:
    path = _path(call, text)
    subnet = _text(call, 1, text)
    try:
        net = ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        raise FilterError(
            f"'{subnet}' is no subnet; write one such as 10.1.2.0/24.", text, call.arguments[1].value.offset
        ) from None
    return lambda entry: any(_inside(leaf, net) for leaf in at(entry, path))


_MAKERS: dict[str, Callable[[Call, str], Matches]] = {
    "log_id": _log_id,
    "search": _search,
    "sample": _sample,
    "ip_in_net": _ip_in_net,
}


def _path(call: Call, text: str) -> tuple[str, ...]:
    argument: Argument = call.arguments[0]
    if not argument.path:
        raise FilterError(
            f"{call.name} takes a field first; write {_FORMS[call.name.lower()]}.", text, argument.value.offset
        )
    if sentence := wrong(argument.path):
        raise FilterError(sentence, text, argument.value.offset)
    return argument.path


def _text(call: Call, number: int, text: str) -> str:
    value = call.arguments[number].value
    if not value.quoted:
        raise FilterError(
            f"{call.name} takes a text in double quotation marks; write {_FORMS[call.name.lower()]}.",
            text,
            value.offset,
        )
    return value.text


def _tokens(text: str) -> set[str]:
    return {token for token in _APART.split(text.lower()) if token}


def _occurs(phrase: str, text: str) -> bool:
    """
    Tell whether *phrase* is in *text* with no letter or digit beside it.
    """
    begin = text.find(phrase)
    while begin >= 0:
        end = begin + len(phrase)
        before = begin == 0 or _edge(text[begin - 1]) or _edge(phrase[0])
        after = end == len(text) or _edge(text[end]) or _edge(phrase[-1])
        if before and after:
            return True
        begin = text.find(phrase, begin + 1)
    return False


def _edge(letter: str) -> bool:
    return _APART.fullmatch(letter) is not None


def _inside(leaf: Any, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        address = ipaddress.ip_address(leaf) if isinstance(leaf, str) else None
    except ValueError:
        return False
    return address is not None and address in net


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if "_" not in text and abs(number) < float("inf") else None

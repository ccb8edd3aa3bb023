"""
The arguments of a call as a canonical text, and the ids of documents made of names.

Pure. Two calls have the same text exactly if their arguments have equal values of the same types (see ``canonical``). It
does not matter whether an argument is positional or by keyword, and whether a default is given.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from gcp_oncetask.checks.callables import plain
from gcp_oncetask.errors import UsageError
from gcp_oncetask.locks.canonical import NotCanonicalError, canonical, mapping_form

_LONGEST_ID: Final = 700
"""Most characters of a document id with readable names; in a longer one the names are replaced by their hash."""
_LONGEST_SHOWN: Final = 10_000
"""A name of up to so many characters is stored and shown whole. The id is always made of the whole name."""


class Calls:
    """
    The calls of one function, as texts.

    Args:
        fn: The function.
        name: Name of the function in keys; None: its module and qualified name.

    Raises:
        UsageError: The function is asynchronous or a generator, so that its body would run after the lock is released. Or
            it has no name of its own.
    """

    def __init__(self, fn: Callable[..., Any], name: str | None) -> None:
        plain(fn, "only plain functions can be locked for now")
        own = getattr(fn, "__qualname__", "<lambda>")
        if name is None and own.endswith("<lambda>"):
            raise UsageError(f"{fn!r} has no name of its own to make keys of; give name=.")
        self.name: Final = name or f"{fn.__module__}.{own}"
        self._signature = inspect.signature(fn)
        self._rest = {p.name for p in self._signature.parameters.values() if p.kind is p.VAR_POSITIONAL}

    def text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], instead: str = "key") -> str:
        """
        Return the canonical text of the arguments, by name, defaults included. *instead* is the option that the error
        suggests.

        Raises:
            UsageError: An argument has no canonical form.
            TypeError: The function can't be called like this.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = {}
        for name, value in bound.arguments.items():
            try:
                # *args is always a tuple; its form is that of a list.
                parts[name] = canonical(list(value) if name in self._rest else value)
            except NotCanonicalError as error:
                raise UsageError(
                    f"{self.name}: the argument {name!r} can't be part of a key: {error}. "
                    f"Give {instead}=, a function of the arguments that returns a text or JSON data."
                ) from None
        return mapping_form(parts)

    def key(self, key: Callable[..., Any] | str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """
        Return the key of a call: the text that *key* is or returns, or the canonical text of other data that it returns. If
        there is no *key*, return the canonical text of the arguments. None if *key* returns None.

        A text is the key as it is. So a function that returns "7" for one call and 7 for another gives both the same key.

        Raises:
            UsageError: An argument, or the value that *key* returned, has no canonical form.
        """
        if key is None:
            return self.text(args, kwargs)
        value = key(*args, **kwargs) if callable(key) else key
        return value if value is None or isinstance(value, str) else self.own(value)

    def own(self, value: Any) -> str:
        """
        Return the canonical text of *value*, which a function of the arguments returned. A tuple is treated as a list.

        Raises:
            UsageError: *value* has no canonical form.
        """
        try:
            return canonical(list(value) if type(value) is tuple else value)
        except NotCanonicalError as error:
            raise UsageError(
                f"{self.name}: its key= or payload= returned a value of {type(value).__name__} that is no key: {error}."
            ) from None


def digest(text: str) -> str:
    """
    Return the SHA-256 of a text, hexadecimal.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def readable(name: str) -> str:
    """
    Return *name* for people who read a document or an error: a very long one is cut, and followed by its hash.
    """
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:1000]}... sha256={digest(name)}"


def document_id(env: str, kind: str, *names: str) -> str:
    """
    Return the id of the document of *names* in *env*: ``{2 hex}:{env}:{kind}:{name}``, escaped.

    Different names, environments or kinds always give different ids. The hash in front spreads consecutive names, which
    would otherwise make a hot spot.

    Raises:
        UsageError: A name is not a text, is empty, or can't be encoded.
    """
    escaped = [_escaped(name) for name in names]
    rest = ":".join([env, kind, *escaped])
    if len(rest) > _LONGEST_ID:
        # An escaped name has no "=" in it, so this id is no other name's.
        rest = f"{env}:{kind}:sha256={digest(':'.join(escaped))}"
    return f"{digest(rest)[:2]}:{rest}"


def _escaped(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise UsageError(f"A name must be a text of at least one character, not {name!r}.")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise UsageError(f"The name {name!r} holds half a surrogate pair; Firestore can't store it.") from None

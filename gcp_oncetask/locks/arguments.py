"""
What a function was called with, as a canonical text; and the ids of documents that are made of names.

Pure. Two calls have the same text exactly if they mean the same: positional or by keyword, defaults given or not, of equal
values of the same types (see ``canonical``).
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
"""Characters of a document id in which names are readable; a longer name is replaced by its hash."""
_LONGEST_SHOWN: Final = 10_000
"""Characters of a name that are stored and told; ids are made of all of it."""


class Calls:
    """
    The calls of one function, as texts.

    Args:
        fn: The function.
        name: What it is called in keys; None: its module and qualified name.

    Raises:
        UsageError: It is asynchronous or a generator: what it does would happen after the lock is given back. Or it has no
            name of its own.
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
        Canonical text of the arguments, by name, defaults included; *instead* is the option that makes do without.

        Raises:
            UsageError: One of them has no canonical form.
            TypeError: The function can't be called like this.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = {}
        for name, value in bound.arguments.items():
            try:
                # What *args collects is a tuple for want of a choice, and its form is the list's.
                parts[name] = canonical(list(value) if name in self._rest else value)
            except NotCanonicalError as error:
                raise UsageError(
                    f"{self.name}: the argument {name!r} can't be part of a key: {error}. "
                    f"Give {instead}=, a function of the arguments that returns a text or JSON data."
                ) from None
        return mapping_form(parts)

    def key(self, key: Callable[..., Any] | str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """
        The key of a call: the text that *key* is or returns, the canonical text of other data it returns, or of the
        arguments if there is none; None if it returns None.

        A text is the key as it is: so "7" and 7 are one key, if a function returns now one, now the other.

        Raises:
            UsageError: An argument, or what *key* returned, has no canonical form.
        """
        if key is None:
            return self.text(args, kwargs)
        value = key(*args, **kwargs) if callable(key) else key
        return value if value is None or isinstance(value, str) else self.own(value)

    def own(self, value: Any) -> str:
        """
        Canonical text of what a function of the arguments returned; of a tuple that of the list of its parts.

        Raises:
            UsageError: It has none.
        """
        try:
            return canonical(list(value) if type(value) is tuple else value)
        except NotCanonicalError as error:
            raise UsageError(
                f"{self.name}: its key= or payload= returned a value of {type(value).__name__} that is no key: {error}."
            ) from None


def digest(text: str) -> str:
    """
    SHA-256 of a text, hexadecimal.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def readable(name: str) -> str:
    """
    *name* for a person who looks at a document or reads an error: of a very long one the beginning, and a hash.
    """
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:1000]}... sha256={digest(name)}"


def document_id(env: str, kind: str, *names: str) -> str:
    """
    Id of the document that is known by *names* in *env*: ``{2 hex}:{env}:{kind}:{name}``, escaped.

    Names are told apart whatever is in them, environments and kinds do not meet, and the hash in front keeps names that
    follow one another from making a hot spot.

    Raises:
        UsageError: A name is not a text, is empty, or can't be encoded.
    """
    escaped = [_escaped(name) for name in names]
    rest = ":".join([env, kind, *escaped])
    if len(rest) > _LONGEST_ID:
        # No escaped name has a "=" in it.
        rest = f"{env}:{kind}:sha256={digest(':'.join(escaped))}"
    return f"{digest(rest)[:2]}:{rest}"


def _escaped(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise UsageError(f"A name must be a text of at least one character, not {name!r}.")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise UsageError(f"The name {name!r} holds half a surrogate pair; Firestore can't store it.") from None

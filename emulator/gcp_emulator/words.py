"""
Words that a caller chooses from a list.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str]) -> str:
    """
    Return a suggestion, such as `` Did you mean Commit?``, to follow a sentence about *word*; empty if no *known* word is
    similar. Case is ignored.
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f" Did you mean {names[near[0]]}?" if near else ""


def check(name: str, value: object, allowed: Iterable[str]) -> None:
    """
    Check that *value* is one of the *allowed* words for *name*.

    Raises:
        ValueError: It is none of them; the message lists them, and suggests the nearest.
    """
    known = tuple(allowed)
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}.{hint(str(value), known)}")

"""
Words that a caller chooses from a list.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str]) -> str:
    """
    `` Did you mean Commit?``, to stand behind a sentence about *word*; empty if no *known* one is near, in whatever case.
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f" Did you mean {names[near[0]]}?" if near else ""


def check(name: str, value: object, allowed: Iterable[str]) -> None:
    """
    Let *value* be one of the *allowed* words for *name*.

    Raises:
        ValueError: It is not; the message lists them, and the nearest.
    """
    known = tuple(allowed)
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}.{hint(str(value), known)}")

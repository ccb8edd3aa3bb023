"""
Checks of words that a caller chooses from a list; the error suggests the word that was probably meant. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import UsageError


def hint(word: object, known: Iterable[str]) -> str:
    """
    Return a suggestion, such as `` Did you mean run?``, to follow a sentence about *word*; empty if no *known* word is
    similar. Case is ignored.
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.5) if isinstance(word, str) else []
    return f" Did you mean {names[near[0]]}?" if near else ""


def wrong(name: str, value: object, allowed: Iterable[str]) -> str | None:
    """
    Return a sentence if *value* is not one of the *allowed* words for *name*, else None. The sentence lists the allowed
    words and suggests the nearest.
    """
    known = tuple(map(str, allowed))
    # Only texts are compared: True and 1 are no words, and other objects may not be comparable.
    if isinstance(value, str) and value in known:
        return None
    *most, last = map(repr, known)
    return f"{name} is {shown(value)}; it must be {', '.join(most)} or {last}.{hint(value, known)}"


def check(
    name: str, value: object, allowed: Iterable[str], error: type[UsageError] = UsageError, **facts: object
) -> None:
    """
    Check that *value* is one of the *allowed* words for *name*.

    Raises:
        UsageError: It is none of them. The exception is of the class *error* and has *facts*.
    """
    sentence = wrong(name, value, allowed)
    if sentence is not None:
        raise error(sentence, **facts)


def unknown(owner: str, given: Iterable[str], known: Iterable[str], beside: Iterable[str] = ()) -> str:
    """
    Return a sentence about the first argument in *given*, which *owner* does not know. It lists the *known* arguments, and
    suggests the nearest of them and of those *beside* them.
    """
    name, names = next(iter(given)), tuple(known)
    takes = f"; it takes {', '.join(f'{each}=' for each in names)}" if names else ""
    return f"{owner} takes no {name}={takes}.{hint(name, (*names, *beside))}"

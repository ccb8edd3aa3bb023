"""
Words that a caller chooses from a list: a wrong one is named together with the one that was probably meant. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gcp_oncetask.checks.values import shown
from gcp_oncetask.errors import UsageError


def hint(word: object, known: Iterable[str]) -> str:
    """
    `` Did you mean run?``, to stand behind a sentence about *word*; empty if no *known* one is near, in whatever case.
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.5) if isinstance(word, str) else []
    return f" Did you mean {names[near[0]]}?" if near else ""


def wrong(name: str, value: object, allowed: Iterable[str]) -> str | None:
    """
    What is wrong with *value* as the word for *name*, with the *allowed* ones and the nearest of them; None: nothing.
    """
    known = tuple(map(str, allowed))
    # True and 1 are no words, nor is what can't be compared.
    if isinstance(value, str) and value in known:
        return None
    *most, last = map(repr, known)
    return f"{name} is {shown(value)}; it must be {', '.join(most)} or {last}.{hint(value, known)}"


def check(
    name: str, value: object, allowed: Iterable[str], error: type[UsageError] = UsageError, **facts: object
) -> None:
    """
    Let *value* be one of the *allowed* words for *name*.

    Raises:
        UsageError: It is not, as *error* with *facts*.
    """
    sentence = wrong(name, value, allowed)
    if sentence is not None:
        raise error(sentence, **facts)


def unknown(owner: str, given: Iterable[str], known: Iterable[str], beside: Iterable[str] = ()) -> str:
    """
    What is wrong with the first of the arguments *given*, which *owner* does not know: with those that it knows, and the nearest
    of them and of those *beside* them.
    """
    name, names = next(iter(given)), tuple(known)
    takes = f"; it takes {', '.join(f'{each}=' for each in names)}" if names else ""
    return f"{owner} takes no {name}={takes}.{hint(name, (*names, *beside))}"

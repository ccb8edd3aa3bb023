"""
Generated changes that no test need catch, by the reason. The page ``docs/survivors.md`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REASONS: Mapping[str, Sequence[str]] = {}
"""Reason -> the changes, as a run names them."""
ARGUED: Mapping[str, str] = {change: reason for reason, changes in REASONS.items() for change in changes}


def page() -> str:
    """
    The page that lists them.
    """
    lines = [
        "# Generated changes that no test catches",
        "",
        "`make mutants-generated` makes small changes of `rules/` and `store/`, one at a time. A change turns a comparison round or",
        "moves its bound. It swaps `and` and `or`. It drops an operand, a statement, an argument or a case. It changes a number, a",
        "text or a truth value, or returns nothing. Each one is tried by the tests that run the changed function, the unit tests",
        "first. A change that no test catches fails the run, unless it is one of these.",
        "",
    ]
    for reason, changes in REASONS.items():
        lines += [f"## {reason}", "", *(f"- `{change}`" for change in changes), ""]
    return "\n".join(lines)

"""
Generated changes that no test need catch, by the reason. The page ``docs/survivors.md`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REASONS: Mapping[str, Sequence[str]] = {
    "It changes a text for people and nothing else": (
        (
            "rules/verbs.py _of_lock: 'Nobody holds it, so there is nothing to free.' => "
            "'Nobody holds it, so there is nothing to free.~'"
        ),
        (
            "rules/verbs.py _of_key: 'The function raised when it ran last; the next call runs it again.' => "
            "'The function raised when it ran last; the next call runs it again.~'"
        ),
        "rules/refused.py cut_off: name in dropped => name not in dropped",
        "rules/refused.py cut_off: 'headers' => 'headers~'",
    ),
    "It is the same: the caller looks whether it is true, or takes the last part": (
        "rules/evidence.py _is_request: return False => return None",
        "rules/expiry.py look: 1 => 2",
    ),
    "It is the same: any mark stands for the parts that differ, and an empty pair in a query is none": (
        "rules/floods.py _masked: '*' => '*~'",
        "rules/delivery.py delivery_url: '' if target.endswith(('?', '&')) else '&' => '&'",
    ),
    "Another condition of the same rule says it too: the due time begins with the environment": (
        (
            "rules/expiry.py newly_scheduled: after is None or after.env != env or after.status is not Status.SCHEDULED or "
            "features.unknown(after) => after is None or after.status is not Status.SCHEDULED or features.unknown(after)"
        ),
    ),
    "It runs when the module is loaded, before the change; with it, the library can't be imported": (
        "rules/record.py _camel: return head + ''.join((part.capitalize() for part in rest)) => return None",
    ),
}
"""Reason -> the changes, as a run names them."""
ARGUED: Mapping[str, str] = {change: reason for reason, changes in REASONS.items() for change in changes}


def page() -> str:
    """
    The page that lists them.
    """
    lines = [
        "# Generated changes that no test catches",
        "",
        "`make mutants-generated` makes small changes of `rules/` and `store/`, one at a time. A change turns a comparison",
        "round or moves its bound. It swaps `and` and `or`. It drops an operand, a statement, an argument or a case. It changes",
        "a number, a text or a truth value, or returns nothing. Each one is tried by the tests that run the changed function,",
        "the unit tests first. A change that no test catches fails the run, unless it is one of these.",
        "",
    ]
    for reason, changes in REASONS.items():
        lines += [f"## {reason}", "", *(f"- `{change}`" for change in changes), ""]
    return "\n".join(lines)

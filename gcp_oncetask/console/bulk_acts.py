"""
One act on all records that fit a filter, as they were when the question was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from gcp_oncetask.clock import at_least
from gcp_oncetask.console.access import Visitor
from gcp_oncetask.console.asked import arguments_of, command_of, filters_of
from gcp_oncetask.console.page import ConsolePage
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.finding.criteria import criteria
from gcp_oncetask.operate import many
from gcp_oncetask.operate.acts import Decision
from gcp_oncetask.rules.record import Person
from gcp_oncetask.rules.timestamps import instant, parse_instant

VERBS: Final = ("reset", "cancel", "dismiss", "delete")
MOST: Final = 500
"""Most records of one form."""
SECONDS: Final = 20.0
"""Seconds after which one form ends, done or not; the next form goes on."""
COUNTED: Final = 1000
"""A question counts no further."""


def question(locker: Locker, asked: Mapping[str, str], notice: str = "", status: int = 200) -> ConsolePage:
    """
    The question before the act: the number of records, and the oldest five.

    Raises:
        UsageError: The act or the filter is none.
        StoreError: Firestore was unreachable or refused.
    """
    verb, filters = _verb(asked), filters_of(asked)
    cut = parse_instant(asked["cut"]) if asked.get("cut") else runtime_of(locker).store.estimate()
    chosen = _chosen(asked)
    fitting = many.fitting(locker, criteria(**arguments_of(filters)), cut, paths=chosen)
    counted = many.count(locker, fitting, Decision(verb), COUNTED)
    values = {
        "verb": verb,
        "filters": filters,
        "chosen": sorted(chosen),
        "filter": filter_text(asked),
        "cut": instant(cut),
        "count": counted.number,
        "more": counted.more,
        "oldest": counted.oldest,
        "refused": counted.refused,
        "types": counted.number > many.TYPED or verb == "delete",
        "most": MOST,
        "command": command_of(verb, filters, cut=instant(cut)),
        "notice": notice,
    }
    return ConsolePage(template="many.html", title=f"{verb} many?", values=values, status=status, read=cut)


def act(locker: Locker, visitor: Visitor, form: Mapping[str, str]) -> ConsolePage:
    """
    Do the act on at most ``MOST`` records, and for at most ``SECONDS`` seconds. A record that has changed since it was found
    is skipped.

    Raises:
        UsageError: The act or the filter is none.
        StoreError: Firestore was unreachable or refused while the records were looked for.
    """
    verb, filters, count = _verb(form), filters_of(form), form.get("count", "")
    if (int(count or 0) > many.TYPED or verb == "delete") and form.get("typed", "").replace(",", "").strip() != count:
        return question(locker, form, f"Type {count} to do it. Nothing was done.", 400)
    runtime, cut, chosen = runtime_of(locker), parse_instant(form["cut"]), _chosen(form)
    by, start = Person(visitor.name, visitor.proven), runtime.clock.mark()
    wanted, decision = criteria(**arguments_of(filters)), Decision(verb, note=form.get("note") or None)
    found = list(islice(many.fitting(locker, wanted, cut, paths=chosen), MOST + 1))
    tallies = []
    for tally in many.perform_all(locker, found[:MOST], decision, by):
        tallies.append(tally)
        if at_least(start, runtime.clock.mark()) > SECONDS:
            break
    left = len(tallies) < len(found)
    done = sum(one.done for one in tallies)
    # Records that were refused would come first again, so a form that has done nothing is the last one.
    values = {
        "verb": verb,
        "filters": filters,
        "chosen": sorted(chosen),
        "filter": filter_text(form),
        "cut": form["cut"],
        "count": count,
        "done": done,
        "tallies": [one for one in tallies if not one.done],
        "left": left and done > 0,
        "command": command_of(verb, filters, cut=form["cut"]),
    }
    return ConsolePage(template="many_done.html", title=f"{verb} many", values=values)


def _verb(asked: Mapping[str, str]) -> str:
    verb = asked.get("verb", "")
    if verb not in VERBS:
        raise UsageError(f"There is no act {verb!r:.40} on many records; the acts are {', '.join(VERBS)}.")
    return verb


def _chosen(asked: Mapping[str, str]) -> frozenset[str]:
    # A browser sends the lines of a form with carriage returns.
    return frozenset(filter(None, asked.get("chosen", "").replace("\r\n", "\n").split("\n")))


def filter_text(asked: Mapping[str, str]) -> str:
    """
    Return the filter and the chosen records as one text, which the form's token is over.
    """
    return "\n".join([*(f"{name}={text}" for name, text in filters_of(asked).items()), *sorted(_chosen(asked))])

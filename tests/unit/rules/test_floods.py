"""
Which alerts belong together: by event, kind and cause, without what differs from one document to the next.
"""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_oncetask.rules.floods import WAITS, Group, group_of, kind_of
from gcp_oncetask.rules.record import Event


def of(reason: str, path: str = "orders/o1", name: str = "5-7-failure", event: Event = Event.FAILURE) -> Group:
    return group_of(event, path, name, reason)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ValueError: card 17 declined", "orders/a17"), ("ValueError: card 2 declined", "orders/a2")),
        (("no order ann", "orders/ann"), ("no order bob", "orders/bob")),
        (("KeyError: 'ann'", "orders/x"), ("KeyError: 'bob'", "orders/y")),
        (('no "a b" and `c`', "orders/x"), ('no "d" and `e f`', "orders/y")),
        (("no mail to ann@example.com", "orders/x"), ("no mail to bob@example.org", "orders/y")),
        (("GET https://a.test/x?y failed", "orders/x"), ("GET https://b.test/ failed", "orders/y")),
        (("at 2026-01-01T00:00:00Z: no", "orders/x"), ("at 2027-12-31T23:59:59Z: no", "orders/y")),
        (("nonce 3fa9c1 is old", "orders/x"), ("nonce b00 is old", "orders/y")),
        (("no parcel lot of ann", "shops/ann/parcels/lot"), ("no parcel box of bob", "shops/bob/parcels/box")),
        (("no  order\n x1", "orders/x1"), ("no order x2", "orders/x2")),
        (("no one", "onceTasks/0a:E:mail:one"), ("no two", "onceTasks/ff:E:mail:two")),
        (("no a b", "onceTasks/0a:E:mail:a%20b"), ("no c d", "onceTasks/ff:E:mail:c%20d")),
    ],
)
def test_what_differs_between_documents_makes_no_other_reason(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert of(*one) == of(*other)


@pytest.mark.parametrize(
    "other",
    [
        of("card stolen"),
        of("card declined", "parcels/o1"),
        of("card declined", "onceTasks/00:E:orders-2:o1"),
        of("card declined", name="5-7-stuck"),
        of("card declined", event=Event.TAKEOVER),
        of("can't be: card declined"),
    ],
)
def test_event_kind_name_and_words_do(other: Group) -> None:
    assert other != of("card declined")
    assert other.mark != of("card declined").mark


def test_an_apostrophe_quotes_nothing() -> None:
    assert of("it can't run, and doesn't") != of("it can't stop, and doesn't")


def test_names_tell_alerts_apart_and_their_numbers_do_not() -> None:
    assert of("no", name="5-7-result-lost") == of("no", name="6-19-result-lost")
    assert of("no", name="damaged-attempts-3fa9c1b2d4e5") != of("no", name="damaged-owed-3fa9c1b2d4e5")
    assert of("no", name="refused-20260101") == of("no", name="refused-20260102")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("orders/42", "orders"),
        ("shops/7/parcels/42", "shops/*/parcels"),
        ("onceTasks/0a:E:mail:7", "mail"),
        ("onceLocks/0a:E:once:f:e1", "onceLocks/once"),
        ("deliveries/t1", "deliveries"),
    ],
)
def test_kind(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@given(st.text(max_size=600), st.text(string.printable, min_size=1, max_size=40).filter(lambda text: "/" not in text))
def test_any_text_has_a_short_mark(reason: str, id_: str) -> None:
    mark = of(reason, f"orders/{id_}").mark
    assert mark.startswith(WAITS)
    assert len(mark) == len(WAITS) + 24
    assert mark == of(reason, f"orders/{id_}").mark

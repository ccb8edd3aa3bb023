"""
The signed text of a link, and the claims that are read from it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gcp_oncetask.rules import link_tokens
from gcp_oncetask.rules.link_tokens import LinkClaims

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = link_tokens.digest_of("otk_1")
CLAIMS = LinkClaims(
    "a/1", "E", DIGEST, "approval", "approved", {"by": "ü"}, T0, T0 + timedelta(days=1), "Ship?", "Yes", None
)


def test_link_is_read_with_each_key_that_may_have_signed_it() -> None:
    token = link_tokens.sign(CLAIMS, "new")

    assert token.isascii()
    assert link_tokens.verified(token, ["old", "new"]) == CLAIMS
    assert link_tokens.verified(token, ["old"]) is None
    assert link_tokens.verified(token, []) is None


@pytest.mark.parametrize(
    "change", [lambda t: "A" + t, lambda t: t[:-1], lambda t: t.replace(".", ""), lambda t: t + "ü"]
)
def test_link_that_was_changed_is_refused(change: object) -> None:
    assert callable(change)
    assert link_tokens.verified(change(link_tokens.sign(CLAIMS, "k")), ["k"]) is None


def test_key_is_not_in_its_digest() -> None:
    assert DIGEST == link_tokens.digest_of("otk_1") != link_tokens.digest_of("otk_2")
    assert "otk_1" not in DIGEST


def test_links_of_one_question_have_one_event() -> None:
    other = CLAIMS._replace(label="No", data=None, for_="Ann", expires=T0)

    assert CLAIMS.id == other.id
    assert len({CLAIMS.id, CLAIMS._replace(wait="b").id, CLAIMS._replace(key="k").id}) == 3
    assert CLAIMS._replace(issued=T0 + timedelta(seconds=1)).id != CLAIMS.id


def test_answer_is_its_label_or_its_payload() -> None:
    assert CLAIMS.answer == "Yes"
    assert CLAIMS._replace(label=None).answer == '{"by": "ü"}'

"""
URLs of deliveries: what they name, and how long they may be.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from gcp_oncetask.rules.delivery import LONGEST_TARGET, Delivery, delivery_url, path_digest, trouble_with_url
from tests.unit.checks.test_names import CHARACTERS


@pytest.mark.parametrize(("character", "sizes"), CHARACTERS.items())
@pytest.mark.parametrize(
    "target",
    ["https://x.test/run", "https://x.test/run?a=b", "https://x.test/" + "p" * 1900, "https://x.test/" + "p" * 1950],
)
def test_urls_of_deliveries_end_at_2083_characters(character: str, sizes: tuple[int, int], target: str) -> None:
    """
    The path stands in it as long as there is room, then its digest, then nothing; sequence and dispatch always do.
    """
    for count in range(1, 1500 // sizes[0] + 1):
        path = f"orders/{character * count}"
        url = delivery_url(Delivery("E", path, 10**9, 10**6, "n"), target)
        named = parse_qs(urlsplit(url).query)
        readable = f"{target}{'&' if '?' in target else '?'}oncetask_document=orders%2F{'x' * sizes[1] * count}"
        rest = "&oncetask_sequence=1000000000&oncetask_dispatch=1000000"
        expected: str | None = path
        if len(readable + rest) > 2083:
            expected = path_digest(path) if len(target) < 1950 else None
        assert (named.get("oncetask_document", [None])[0], len(url) <= 2083) == (expected, True)
        assert (named["oncetask_sequence"], named["oncetask_dispatch"]) == (["1000000000"], ["1000000"])


@pytest.mark.parametrize(("character", "size"), [("x", 1), ("%C3", 3), ("ü", 6), ("日", 9), ("😀", 12)])
def test_urls_end_where_a_delivery_could_not_be_named(character: str, size: int) -> None:
    """
    By their length encoded, without the fragment; whatever fits can be delivered to.
    """
    start = "https://x.test/"
    longest = start + character * ((LONGEST_TARGET - len(start)) // size)

    assert trouble_with_url(longest) is None
    assert trouble_with_url(f"{longest}#{'f' * 3000}") is None
    assert "at most 2,020" in str(trouble_with_url(longest + character))
    if character.isascii():
        assert len(delivery_url(Delivery("E", "orders/" + "x" * 1500, 10**9, 10**6, "n"), longest)) <= 2083

"""
The sorted set under the indexes, against plain lists.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gcp_emulator.firestore import sorted_keys
from gcp_emulator.firestore.sorted_keys import TOP, SortedKeys

numbers = st.integers(0, 30)


@given(
    initial=st.sets(numbers),
    changes=st.lists(numbers, max_size=60),
    low=numbers,
    high=numbers,
    behind=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_sorted_keys_agree_with_a_list(initial, changes, low, high, behind):
    """After any insertions and removals, ranges and counts are those of a sorted list, in chunks however small."""
    original, sorted_keys.CHUNK = sorted_keys.CHUNK, 2
    try:
        keys = SortedKeys((n, "x") for n in initial)
        present = set(initial)
        for n in changes:
            if n in present:
                keys.remove((n, "x"))
                present.discard(n)
            else:
                keys.add((n, "x"))
                present.add(n)
        end = (high, TOP) if behind else (high,)
        inside = [(n, "x") for n in sorted(present) if low <= n and (n < high or (behind and n == high))]
        assert list(keys.between((low,), end)) == inside
        assert list(keys.between((low,), end, descending=True)) == inside[::-1]
        assert keys.count((low,), end) == len(inside)
        assert list(keys.between((), (TOP,))) == [(n, "x") for n in sorted(present)]
    finally:
        sorted_keys.CHUNK = original

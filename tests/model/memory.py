"""
What the model remembers between two explorations: the outcomes of calls, which follow from the code.
"""

from __future__ import annotations

from tests.model import programs, replay, state


def forget() -> None:
    """
    Forget every outcome, because the code has changed.
    """
    replay.run.cache_clear()
    programs.believes.cache_clear()
    state.looked_after.cache_clear()

"""
Checks of the histories that no mutant trips: check -> the reason.
"""

from __future__ import annotations

UNTRIPPED: dict[str, str] = {}

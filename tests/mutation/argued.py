"""
Generated changes that no test need catch: change -> the reason.
"""

from __future__ import annotations

ARGUED: dict[str, str] = {}

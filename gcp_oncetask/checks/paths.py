"""
Check paths of documents by Firestore's rules. Pure.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST_ID: Final = 1500
"""Most bytes of an id, and of a text that an index holds whole."""
_LONGEST_NAME: Final = 6 * 1024
"""Most bytes of a document's name. It counts 16, and the bytes of each collection and id plus one."""
_DEEPEST: Final = 100
"""Most collections below one another."""
_PART: Final = "[A-Za-z0-9][ -.0-~]{,499}"
_USUAL: Final = re.compile(f"{_PART}/{_PART}(?:/{_PART}/{_PART}){{,3}}")
"""Paths of few and short parts in ASCII, which are far from all limits and reserved names."""


def valid_path(path: str) -> bool:
    """
    Tell whether *path* can name a document.
    """
    return trouble_with_path(path) is None


def trouble_with_path(path: str) -> str | None:
    """
    Return the reason why *path* can't name a document, as the end of a sentence; None if it can.
    """
    if _USUAL.fullmatch(path):
        return None
    parts = path.split("/")
    if len(parts) % 2:
        return "it has an odd number of parts: collections and ids alternate"
    size = 16
    for part in parts:
        trouble = trouble_with_id(part)
        if trouble is not None:
            return trouble
        size += len(part.encode()) + 1
    if size > _LONGEST_NAME:
        return f"it has {size:,} bytes, and a document's name at most {_LONGEST_NAME:,}"
    if len(parts) > 2 * _DEEPEST:
        return f"it is {len(parts) // 2} collections deep, and a document at most {_DEEPEST}"
    return None


def trouble_with_id(text: str) -> str | None:
    """
    Return the reason why *text* can't be the id of a document or collection, as the end of a sentence; None if it can.
    """
    if not text:
        return "an id is not empty"
    if text in (".", "..") or (text.startswith("__") and text.endswith("__")):
        return f"Firestore keeps the id {text[:40]!r} for itself, as it does '.', '..' and '__x__'"
    if "/" in text:
        return "an id holds no '/'"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "it holds half a surrogate pair, which no encoding has"
    return None if size <= LONGEST_ID else f"it has {size:,} bytes, and an id at most {LONGEST_ID:,}"

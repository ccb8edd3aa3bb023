"""
Refuse records that need a newer release: this one reads them, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from gcp_oncetask.errors import UnknownFeatureError
from gcp_oncetask.rules import features
from gcp_oncetask.store.snapshot import Snapshot


def check_needs(snapshot: Snapshot) -> None:
    """
    Refuse a record that needs a newer release.

    Raises:
        UnknownFeatureError: The record needs one.
    """
    unknown = features.unknown(snapshot.lock)
    if unknown:
        raise needs_newer(snapshot.path, unknown)


def needs_newer(path: str, unknown: Sequence[str]) -> UnknownFeatureError:
    """
    Return the error about a record that needs features that this release does not know.
    """
    said = ", ".join(unknown)
    return UnknownFeatureError(
        f"{path} needs {said}, which this release does not know; deploy a newer one. Nothing was written.",
        document=path,
        needs=tuple(unknown),
    )

"""
Firestore's TTL at its quickest: what has expired is deleted at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gcp_oncetask.store.codec import decode
from gcp_oncetask.testing.cloud import OncetaskCloud


def expiries(cloud: OncetaskCloud) -> dict[str, datetime]:
    """
    ``expireAt`` of every document that has one, by path.
    """
    documents: dict[str, Any] = cloud.local.firestore.documents(cloud.local.project)  # type: ignore[union-attr]  # it is the embedded one
    return {path: decode(made.fields["expireAt"]) for path, made in documents.items() if "expireAt" in made.fields}


def delete_expired(cloud: OncetaskCloud) -> list[str]:
    """
    Delete what has expired by now; returns its paths.
    """
    expired = [path for path, at in expiries(cloud).items() if at <= cloud.clock_now()]
    for path in expired:
        cloud.local.firestore_client().document(path).delete()
    return expired


def pass_hours(cloud: OncetaskCloud, hours: int) -> list[str]:
    """
    Let time pass, sweep every half an hour, and delete what expires on the way; returns its paths.
    """
    gone: list[str] = []
    for _ in range(hours * 2):
        cloud.advance(minutes=30)
        gone += delete_expired(cloud)
        cloud.sweep()
        cloud.run_until_idle()
    return gone


HOUR = timedelta(hours=1)

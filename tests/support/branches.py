"""
Documents in a subcollection, which no trigger of the functions is called for.
"""

from __future__ import annotations

from gcp_oncetask import LockedModel


class Branch(LockedModel, collection="shops/{shop}/branches"):
    shop: str

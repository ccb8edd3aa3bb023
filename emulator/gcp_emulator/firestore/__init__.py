"""
A Firestore of one's own: an embedded server, and Google's emulator where it is installed.
"""

from gcp_emulator.firestore.google import GoogleFirestore, find
from gcp_emulator.firestore.indexes import IndexCheck
from gcp_emulator.firestore.server import FirestoreServer

__all__ = ["FirestoreServer", "GoogleFirestore", "IndexCheck", "find"]

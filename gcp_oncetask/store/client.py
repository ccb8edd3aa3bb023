"""
The classes of Firestore's client that the library's own interface takes and gives; other packages import them from here.
"""

from google.cloud.firestore import Client, Transaction

__all__ = ["Client", "Transaction"]

"""
The classes of Firestore's client in the library's own interface; other packages import them from here.
"""

from google.cloud.firestore import Client, Transaction

__all__ = ["Client", "Transaction"]

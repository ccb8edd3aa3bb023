"""
Services besides Firestore: Cloud Tasks, Cloud Logging, identity tokens, mail. Each module is the only importer of its
client.
"""

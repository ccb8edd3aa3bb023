"""
One service each: Cloud Tasks, Cloud Logging, identity tokens, mail; each the only importer of its client.
"""

"""
Things that go wrong around the library.
"""

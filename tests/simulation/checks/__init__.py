"""
Checks of the promise, each in a module of its own.
"""

"""
Locks by name, and functions that run once: what has no document of its own lives in ``onceLocks``.

``lock``: a lock on a name. ``runs``: one call of a function that runs once. ``holding``: what both have in common.
``arguments``: keys made of a function's arguments. The decorators are in ``gcp_oncetask.decorators``.
"""

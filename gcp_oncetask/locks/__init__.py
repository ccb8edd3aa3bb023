"""
Named locks, and functions that run once. Their documents are in the collection ``onceLocks``.

``lock``: a lock on a name. ``runs``: one call of a function that runs once. ``holding``: a granted lease of either.
``arguments``: keys made of a function's arguments. ``canonical``: values as texts. The decorators are in
``gcp_oncetask.decorators``.
"""

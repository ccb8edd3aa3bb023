"""
Once-tasks: a unit of work with an id of the caller's choice, on top of the locker.
"""

"""
Once-tasks: typed payloads with an id, each run once, on the locker's leases.
"""

"""
The life of an attempt, pushed or pulled: it is claimed, run and settled, or taken over after its lease has expired.
"""

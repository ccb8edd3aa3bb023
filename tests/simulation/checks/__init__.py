"""
Invariants that all kinds of histories check, as the wire and the handlers show them.
"""

"""
Invariants that all kinds of histories check.
"""

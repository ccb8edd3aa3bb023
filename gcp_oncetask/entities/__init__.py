"""
Chains of steps on the user's own documents: models, the locker, what a person may do.
"""

"""
Chains of steps on the user's own documents: models, the locker, commands for a person on call.
"""

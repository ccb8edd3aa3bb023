"""
One attempt, pushed or pulled: claim, run, settle; and the takeover of one whose lease has expired.
"""

"""
What follows a commit: resource keys handed on, alerts sent, damaged and refused records attended to.
"""

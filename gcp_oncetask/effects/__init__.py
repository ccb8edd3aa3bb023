"""
The effects that follow a commit: Cloud Tasks are created, resource keys handed over, alerts sent, and damaged and
refused records dealt with.
"""

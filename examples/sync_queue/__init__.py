"""
A slow service is kept in step with a stream of updates.
"""

"""
A webhook endpoint that handles each event once, however often it is sent.
"""

"""
The sweep: what is due and nobody attends to, collection by collection; alerts told together.
"""

"""
The page behind a link by which a person answers a durable handler.
"""

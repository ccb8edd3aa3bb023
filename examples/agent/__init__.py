"""
An agent that thinks by a model, works with tools and asks a person, as one durable handler.
"""

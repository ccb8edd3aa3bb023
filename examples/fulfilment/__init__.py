"""
The fulfilment of orders as one durable handler.
"""

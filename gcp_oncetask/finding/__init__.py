"""
Find records by their status, by the reason for which they need a person, by kind, collection, age or resource key.
"""

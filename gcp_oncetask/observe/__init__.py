"""
What is told, and to whom: spans and metrics, alerts.
"""

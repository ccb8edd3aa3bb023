"""
One deployment: its settings, clock and clients, their requirements, and the targets of its tasks.
"""

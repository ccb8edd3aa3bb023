"""
One deployment: its settings, clock and clients, what they need, where its tasks may go.
"""

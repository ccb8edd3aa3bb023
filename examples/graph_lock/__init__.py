"""
Several processes that change one network graph, one at a time.
"""

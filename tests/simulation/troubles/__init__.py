"""
Troubles of the world, each in a module of its own.
"""

"""
What goes wrong in the worlds of histories, one module for each subject.
"""

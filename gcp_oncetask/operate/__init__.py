"""
The acts of people, which the command line and the console share: their consequences as sentences, and their execution.
"""

"""
The mail that reminds people of the records that still need one.
"""

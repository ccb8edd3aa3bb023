"""
Checks of what is seen on the wire and in handlers. They use no rule, no codec and no log event of the library.
"""

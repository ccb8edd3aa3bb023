"""
Nightly reports: every customer's at the same local time each night, one at a time per warehouse, through a whole year with an
outage in the middle. ``python -m examples.reports`` plays the year on a virtual clock in seconds and checks every night.

``app.py`` is the application, as a user writes it; ``warehouses.py`` is the outside world; ``year.py`` lets the time pass
and causes failures; ``promise.py`` computes, without the library, the runs that each night owes; ``table.py`` compares.
"""

"""
A shop: each order is charged once and gets one receipt, even if processes and services fail. ``make demo`` runs it with
many failures.

``app.py`` is the application, as a user writes it; ``payments.py`` is the outside world; ``demo.py`` causes the failures
and counts.
"""

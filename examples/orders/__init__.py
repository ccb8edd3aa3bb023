"""
A shop: each order is charged and gets a receipt, once, whatever fails. ``make demo`` runs it with everything failing.

``app.py`` is what a user writes; ``payments.py`` is the outside world; ``demo.py`` breaks things and counts.
"""

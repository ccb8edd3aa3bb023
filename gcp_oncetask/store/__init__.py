"""
Firestore: the only package that imports its client.

``codec`` values and locks <-> messages; ``wire`` the remote calls; ``store`` the one way to change a document;
``transaction`` the user's own transactions with our fence in them; ``queries`` what the sweeper looks for.
"""

"""
Firestore: the only package that imports its client.

``codec`` values and locks <-> messages; ``wire`` the remote calls; ``failures`` what their failures mean; ``snapshot`` a document
as it is known, and the write that takes it on; ``side_writes`` what a commit on a once-task writes along; ``store`` the one way
to change a document; ``transaction`` the user's own transactions with our fence in them; ``queries`` what is looked for;
``sessions`` the workers that are alive; ``listen`` being woken by a change.
"""

"""
Firestore: the only package that imports its client.

``codec``: values <-> messages. ``part_forms``, ``readers``, ``lock_codec``: the record <-> its stored map. ``wire``: the
remote calls. ``failures``: the errors for their failures.
``snapshot``: a document as it is known, and the write that changes it. ``side_writes``: the additional writes of a commit on
a once-task. ``flow``: the protocol of a change. ``store``: the only way to change a document. ``transaction``: the user's
own transactions, with the library's fence. ``queries``: the queries. ``sessions``: the workers that are alive. ``listen``:
the listener for a change.
"""

"""
Checks of the histories that no mutant trips: check -> the reason.
"""

from __future__ import annotations

UNTRIPPED: dict[str, str] = {
    "tasks: TTL deletes it, …, with … alerts owed": (
        "the check of its time of expiry trips at the commit that sets it, long before TTL comes"
    ),
    "tasks: sequence … has the idempotency key of …": (
        "the check of the idempotency key trips when the handler is entered, before it does anything"
    ),
    "locks: it was recorded … times": "a second run trips the check of its grant, or of its start",
    "locks: two calls returned … and …": "a second result trips the check of its grant, or of its commit",
    "locks: the write of token … was refused while its holder may believe in it": (
        "a holder that believes in its token after a later grant trips the comparison with the stored lease at that grant"
    ),
    "locks: a zombie changed it at the end": (
        "a commit of a holder that has lost its lock trips the check of the changed record at that commit"
    ),
    "troubles/misroutes: the handler of another route runs for it": (
        "without the look at the route, the entity's path and fields do not fit the model of the other route either, and the "
        "check of the answer trips"
    ),
    "families: … has an answer, and its writes are not there": (
        "Firestore applies all writes of a commit or none, and a commit without the entry trips another check"
    ),
    "families: it is made for the same word as …": (
        "children are made in the commit that says so; other ids in each attempt trip the check of the dispatches of the parent"
    ),
}

"""
The person who acts by the command line.
"""

from __future__ import annotations

import getpass
import socket

from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import UsageError
from gcp_oncetask.rules.record import Person
from gcp_oncetask.services import identity


def person_of(locker: Locker, claimed: str | None) -> Person:
    """
    Return the person who acts here: the account of the program's credentials, which is proven, with *claimed* beside it. On the
    local cloud there are no accounts: *claimed*, else ``user@host``, not proven.

    Raises:
        UsageError: The account can't be learnt, and *claimed* is None.
    """
    if locker.config.firestore_emulator is not None:
        return Person(claimed or f"{getpass.getuser()}@{socket.gethostname()}", proven=False)
    account = identity.account()
    if account is not None:
        return Person(account, proven=True, claimed=claimed)
    if claimed is None:
        raise UsageError(
            "The account of your credentials can't be learnt, so the record would not say who acts: give --as, such as "
            "--as ann@example.com. Nothing was done."
        )
    return Person(claimed, proven=False)

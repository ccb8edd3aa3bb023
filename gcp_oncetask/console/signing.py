"""
Forms that only a page of the console can send: a signed token over visitor, act, document and version. The only importer of
itsdangerous.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Final

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from gcp_oncetask.clock import Clock
from gcp_oncetask.console.access import Access, Visitor

LIFE: Final = 3600
"""Seconds for which a form may be sent."""


class FormTrouble(Enum):
    """
    The reason for which a form is refused.
    """

    FORGED = auto()
    """This console has not made the form for this visitor, act, document and version."""
    EXPIRED = auto()
    """The form is too old."""


class Forms:
    """
    Signs and checks forms.

    Args:
        keys: Secret keys; the last one signs, and all verify.
        clock: Gives the time for the age of forms.
    """

    def __init__(self, keys: Sequence[str], clock: Clock) -> None:
        class Signer(TimestampSigner):
            def get_timestamp(self) -> int:
                return int(clock.now().timestamp())

        self._forms = URLSafeTimedSerializer(list(keys), salt="gcp_oncetask.console.form", signer=Signer)
        self._said = URLSafeTimedSerializer(list(keys), salt="gcp_oncetask.console.said", signer=Signer)

    def token(self, visitor: Visitor, *what: str) -> str:
        """
        Return a token for a form in which *visitor* does *what*: act, document or filter, version.
        """
        return str(self._forms.dumps([visitor.name, *what]))

    def trouble(self, token: str, visitor: Visitor, *what: str) -> FormTrouble | None:
        """
        Return the reason to refuse a form; None: it is good.
        """
        try:
            signed: Any = self._forms.loads(token, max_age=LIFE)
        except SignatureExpired as expired:
            signed = self._forms.load_payload(expired.payload) if expired.payload is not None else None
            return FormTrouble.EXPIRED if signed == [visitor.name, *what] else FormTrouble.FORGED
        except BadSignature:
            return FormTrouble.FORGED
        return None if signed == [visitor.name, *what] else FormTrouble.FORGED

    def say(self, sentence: str) -> str:
        """
        Return *sentence* in a form in which a URL can carry it to the next page.
        """
        return str(self._said.dumps(sentence))

    def said(self, token: str) -> str:
        """
        Return the sentence that ``say`` has signed within the last hour; empty: there is none.
        """
        try:
            return str(self._said.loads(token, max_age=LIFE))
        except BadSignature:
            return ""


def stranger(access: Access, host: str, site: str | None, origin: str | None) -> str | None:
    """
    Return the reason for which a POST may come from another site's page; None: it comes from ours.

    Args:
        access: Knows the console's origins.
        host: The header ``Host``.
        site: The header ``Sec-Fetch-Site``.
        origin: The header ``Origin``; it counts only without the other one.
    """
    if not access.host_is_ours(host):
        return f"The host {host!r:.100} is none of ONCETASK_CONSOLE_ORIGIN."
    if site is not None:
        return None if site == "same-origin" else f"A page of another origin has sent the form ({site!r:.40})."
    if origin is None or not access.origin_is_ours(origin, host):
        return f"The form comes from the origin {origin!r:.100}, which is none of ONCETASK_CONSOLE_ORIGIN."
    return None

"""
Verify the identity token of a delivery; no other header counts as identity. Learn the account of this program's own
credentials. This module and ``proxy_identity`` import google.auth.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from gcp_oncetask.clock import Clock
from gcp_oncetask.config import Verify
from gcp_oncetask.services import tokens
from gcp_oncetask.services.tokens import Certificates, shown, time_claim

CERTS_URL: Final = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS: Final = frozenset({"accounts.google.com", "https://accounts.google.com"})
_REMOVED: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
_METADATA_TIMEOUT: Final = 1.0
_MOST_BYTES: Final = 4096
"""Most bytes of the metadata server's answer."""
_SCOPES: Final = (
    "https://www.googleapis.com/auth/cloud-platform",
    "openid",
    "https://www.googleapis.com/auth/userinfo.email",
)
_ABOUT_TOKENS: Final = "https://oauth2.googleapis.com/tokeninfo"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_REGION: Final = re.compile(r"projects/[^/]+/regions/([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A verified caller.

    Attributes:
        email: Account of the caller.
        audience: The audience its token was made for.
        issuer: Issuer of the token.
        expires: Unix time at which the token ends, in seconds.
    """

    email: str
    audience: str
    issuer: str
    expires: float


@dataclass(frozen=True, slots=True)
class Denied:
    """
    A refused caller.

    Attributes:
        forbidden: True: the token is good, but the account may not call (403). False: the token is missing or bad (401).
        reason: A sentence for the log alone. It names settings, which a caller must not learn.
    """

    forbidden: bool
    reason: str


class Verifier:
    """
    Verifies identity tokens.

    Args:
        mode: ``token`` verifies the token of ``Authorization``. ``platform`` prefers ``X-Serverless-Authorization``, as IAM
            does. On Cloud Run only, it also accepts a token whose signature IAM has removed; a signature that is there is
            verified. ``off`` accepts every caller, and logs a warning.
        audiences: Accepted audiences.
        callers: Accounts that may call.
        certs_url: URL of the public keys; None: Google's.
        clock: Gives wall time for expiry, and elapsed time for the cache.
        service: Name of the Cloud Run service of this process; None: it does not run on Cloud Run.
        skew: Seconds by which clocks may differ.
        certificates: Returns the public keys, instead of *certs_url*.
    """

    def __init__(
        self,
        *,
        mode: Verify,
        audiences: Collection[str],
        callers: Collection[str],
        certs_url: str | None,
        clock: Clock,
        service: str | None = None,
        skew: float = 10.0,
        certificates: Certificates | None = None,
    ) -> None:
        self._mode = mode
        self._audiences = frozenset(audiences)
        self._callers = frozenset(callers)
        self._clock = clock
        self._skew = skew
        self._service = service
        self._told = False
        url = certs_url or CERTS_URL
        fetch = certificates or partial(tokens.download_keys, url)
        self._keys = tokens.PublicKeys(url, clock, fetch, _rsa, "ONCETASK_OIDC_CERTS_URL")
        if mode == "off":
            logging.getLogger("gcp_oncetask").warning(
                "ONCETASK_VERIFY is off: ANYBODY who can reach this service can run its tasks. For local work only."
            )

    def check(self, authorization: str | None, serverless: str | None = None) -> Identity | Denied:
        """
        Verify the ``Authorization`` and ``X-Serverless-Authorization`` headers of a request.

        Raises:
            IdentityError: The public keys could not be fetched, so no token can be verified.
        """
        if self._mode == "off":
            return Identity("", "", "", float("inf"))
        # If both headers are there, IAM has checked the second one only.
        given = serverless if self._mode == "platform" and serverless is not None else authorization
        scheme, _, token = (given or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return self._unproved("The request has no identity token (Authorization: Bearer ...).")
        parts = tokens.split(token.strip())
        if parts is None:
            return self._unproved("The identity token is malformed.")
        header, claims, signed, signature = parts
        return self._bad_signature(header, signed, signature) or self._claims(claims)

    def _bad_signature(self, header: dict[str, Any], signed: bytes, signature: str) -> Denied | None:
        if header.get("alg") != "RS256":
            return self._unproved(
                f"The identity token is signed with {shown(header.get('alg'))}; only RS256 is accepted."
            )
        if "crit" in header:
            return self._unproved("The identity token has extensions that must be understood (crit), and are not.")
        if signature == _REMOVED:
            return self._not_believed()
        kid = header.get("kid")
        if not isinstance(kid, str):
            return self._unproved("The identity token names no key.")
        key = self._keys.get(kid)
        if key is None:
            # It may be a new key, which IAM knows already.
            return Denied(False, "The identity token is signed with a key that its issuer does not publish.")
        raw = tokens.decoded(signature)
        if raw is None or not key.verify(signed, raw):
            return self._unproved("The identity token's signature is wrong.")
        return None

    def _not_believed(self) -> Denied | None:
        """
        Return the refusal of a token whose signature was removed, by the platform as it says; None if it is accepted.
        """
        if self._mode != "platform":
            return Denied(
                False,
                "The platform has verified and removed the token's signature; if this service is reachable through IAM "
                "alone, set ONCETASK_VERIFY=platform.",
            )
        if self._service is None:
            return Denied(
                False,
                "The identity token's signature is said to be removed by the platform, but this is not Cloud Run (K_SERVICE "
                "is not set): anybody can write that.",
            )
        return None

    def _unproved(self, reason: str) -> Denied:
        # IAM refuses such a request. So it does not protect this service, although the setting says so.
        if self._mode == "platform" and self._service is not None and not self._told:
            self._told = True
            logging.getLogger("gcp_oncetask").error(
                "A request without a good identity token has reached the service %s, and ONCETASK_VERIFY is platform: the "
                "service lets the public in, so ANYBODY can run its tasks. Set ONCETASK_VERIFY=token, or make it private: "
                "gcloud run services remove-iam-policy-binding %s --region=REGION --member=allUsers "
                "--role=roles/run.invoker; and: gcloud run services update %s --region=REGION --invoker-iam-check. "
                "The request: %s",
                *(self._service,) * 3,
                reason,
            )
        return Denied(forbidden=False, reason=reason)

    def _claims(self, claims: dict[str, Any]) -> Identity | Denied:
        now = self._clock.now().timestamp()
        expires, issued = time_claim(claims.get("exp")), time_claim(claims.get("iat"))
        if expires is None or issued is None:
            return Denied(
                forbidden=False, reason="The identity token doesn't say when it was issued and when it expires."
            )
        if now > expires + self._skew:
            return Denied(forbidden=False, reason=f"The identity token expired {now - expires:.0f} s ago.")
        if issued > now + self._skew:
            return Denied(
                forbidden=False, reason="The identity token is from the future; is this machine's clock right?"
            )
        if "nbf" in claims:
            begins = time_claim(claims["nbf"])
            if begins is None or begins > now + self._skew:
                return Denied(forbidden=False, reason=f"The identity token is not valid before {shown(claims['nbf'])}.")
        issuer, audience, email = claims.get("iss"), claims.get("aud"), claims.get("email")
        if not isinstance(issuer, str) or issuer not in ISSUERS:
            return Denied(forbidden=False, reason=f"The identity token's issuer is {shown(issuer)}, not Google.")
        if not isinstance(audience, str) or audience not in self._audiences:
            accepted = ", ".join(sorted(self._audiences))
            return Denied(
                forbidden=False,
                reason=f"The identity token's audience is {shown(audience)}; ONCETASK_AUDIENCE accepts: {accepted}.",
            )
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            return Denied(forbidden=True, reason="The identity token has no verified account.")
        if email not in self._callers:
            return Denied(
                forbidden=True,
                reason=f"{shown(email)} may not call: set ONCETASK_CALLERS or ONCETASK_SERVICE_ACCOUNT.",
            )
        return Identity(email, audience, issuer, expires)


def _rsa(pem: str) -> Any:
    from google.auth.crypt import RSAVerifier

    parse: Any = RSAVerifier.from_string
    return parse(pem)


def default_project() -> str | None:
    """
    Return the project of the environment, of the credentials, or of the machine; None if none of them has one.
    """
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        if os.environ.get(name):
            return os.environ[name]
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        project: str | None = google.auth.default(request=_hasty())[1]
    except (GoogleAuthError, OSError):
        return None
    return project


def account() -> str | None:
    """
    Return the account of this program's credentials: a service account, by its key, by impersonation or of the machine; or a
    person, whom Google's server names for the person's access token. None if there are no credentials, or if they have no name.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    request = _hasty()
    try:
        found: Any = google.auth.default(scopes=_SCOPES, request=request)[0]
        if getattr(found, "service_account_email", None) in (None, "", "default"):
            found.refresh(request)
        named = getattr(found, "service_account_email", None)
        return named or _person_of(found.token, request)
    except (GoogleAuthError, OSError, ValueError):
        return None


def _person_of(token: str, request: Any) -> str | None:
    # In the body, because addresses are logged.
    answer = request(_ABOUT_TOKENS, method="POST", body=urlencode({"access_token": token}).encode(), headers=_FORM)
    told = json.loads(answer.data) if answer.status == HTTPStatus.OK else {}
    email = told.get("email") if str(told.get("email_verified")).lower() == "true" else None
    return email if isinstance(email, str) and email else None


def _hasty() -> Any:
    """
    Return a request that gives up soon: outside of Google Cloud, google.auth waits tens of seconds for a metadata server.
    """
    from google.auth.transport import requests as transport

    class Hasty(transport.Request):
        def __call__(self, *args: Any, **options: Any) -> Any:
            call: Any = super().__call__  # without types in google.auth
            return call(*args, **{**options, "timeout": _METADATA_TIMEOUT})

    return Hasty()


def default_region() -> str | None:
    """
    Return the region of this Cloud Run service or machine, as its metadata server gives it; None if there is no such
    server.
    """
    from gcp_oncetask.services import download

    url = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}/computeMetadata/v1/instance/region"
    flavor = {"Metadata-Flavor": "Google"}
    try:
        answer = download.get(url, seconds=_METADATA_TIMEOUT, size=_MOST_BYTES, headers=flavor)
    except (OSError, ValueError):
        return None
    # An internet provider may answer any name with a search page; only the real server sends this header.
    told = answer.body.decode(errors="replace").strip() if answer.headers.get("Metadata-Flavor") == "Google" else ""
    region = _REGION.fullmatch(told)
    return region[1] if region else None

"""
Decide about the visitors of the console: whether they may enter, and whether they may act.

People come through Google's identity-aware proxy, whose signed header is verified. Service accounts come with an identity
token for the console's origin. The console of the local cloud is open.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gcp_oncetask.checks import urls
from gcp_oncetask.clock import Clock
from gcp_oncetask.config import Config
from gcp_oncetask.runtime import requirements
from gcp_oncetask.services.identity import Denied, Verifier
from gcp_oncetask.services.proxy_identity import HEADER, ProxyVerifier

_ROBOT: Final = ".gserviceaccount.com"
_ON_RUN: Final = re.compile(r"/projects/[0-9]+/locations/[^/]+/services/[^/]+")
_LOCAL_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")


class Role(StrEnum):
    """
    The rights of a visitor.
    """

    VIEWER = "viewer"
    """Sees everything but contents, and does nothing."""
    OPERATOR = "operator"
    """Sees contents, and acts."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """
    A person or a service account in the console.

    Attributes:
        name: The account.
        proven: Whether the account is verified; on the local cloud it is not.
        role: The rights.
    """

    name: str
    proven: bool
    role: Role

    @property
    def acts(self) -> bool:
        """
        Tell whether the visitor may act and see contents.
        """
        return self.role is Role.OPERATOR


def is_local(config: Config) -> bool:
    """
    Tell whether the console works on the local cloud and is open: Firestore is the emulator, this is no Cloud Run service,
    and no proxy is configured.
    """
    return config.firestore_emulator is not None and requirements.service() is None and config.console_audience is None


def behind_proxy_on_run(config: Config) -> bool:
    """
    Tell whether the proxy acts on the Cloud Run service itself. Then Cloud Tasks can't deliver to the same service.
    """
    return _ON_RUN.fullmatch(config.console_audience or "") is not None


def problems(config: Config) -> list[str]:
    """
    Return a sentence for each setting without which the console lets no one in.
    """
    if is_local(config):
        return []
    found = []
    if not config.console_operators and not config.console_viewers:
        found.append(
            "ONCETASK_CONSOLE_OPERATORS is not set (nor ONCETASK_CONSOLE_VIEWERS): the accounts that may enter the console, "
            "for example ann@example.com,domain:example.com."
        )
    if config.console_audience is None and not any(
        account.endswith(_ROBOT) for account in (*config.console_operators, *config.console_viewers)
    ):
        found.append(
            "ONCETASK_CONSOLE_AUDIENCE is not set: the audience of the identity-aware proxy, without which no person can be "
            "identified, for example /projects/123/locations/europe-west1/services/console."
        )
    if not config.console_origin:
        found.append(
            "ONCETASK_CONSOLE_ORIGIN is not set: the origin at which browsers see the console, for example "
            "https://console-abc.a.run.app."
        )
    return found


class Access:
    """
    Decides who enters the console.

    Args:
        config: Settings; ``problems`` of them are none.
        clock: Gives the time for the expiry of tokens.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self.local: Final = is_local(config)
        self._origins = [origin for origin in map(urls.origin_of, config.console_origin) if origin is not None]
        self._proxy = self._tokens = None
        if config.console_audience is not None:
            self._proxy = ProxyVerifier(audience=config.console_audience, keys_url=config.console_keys_url, clock=clock)
        robots = [one for one in (*config.console_operators, *config.console_viewers) if one.endswith(_ROBOT)]
        if robots and config.console_origin:
            self._tokens = Verifier(
                mode="platform" if config.verify == "platform" else "token",
                audiences=(self._origins[0],),
                callers=robots,
                certs_url=config.oidc_certs_url,
                clock=clock,
                service=requirements.service(),
            )

    def enter(self, header: Callable[[str], str | None]) -> Visitor | Denied:
        """
        Return the visitor who sends a request, given a function that returns its headers.

        Raises:
            IdentityError: The public keys could not be fetched, so no visitor can be identified.
        """
        if self.local:
            return Visitor(f"{getpass.getuser()}@{os.uname().nodename}", False, Role.OPERATOR)
        given = header(HEADER)
        if self._proxy is not None and (given is not None or self._tokens is None):
            user = self._proxy.check(given)
            return user if isinstance(user, Denied) else self._with_role(user.email, user.domain)
        if self._tokens is None:
            return Denied(True, "Neither the identity-aware proxy nor a service account is configured for the console.")
        found = self._tokens.check(header("authorization"), header("x-serverless-authorization"))
        if isinstance(found, Denied):
            return Denied(True, found.reason)
        return self._with_role(found.email, None)

    def _with_role(self, account: str, domain: str | None) -> Visitor | Denied:
        config = self._config
        for role, members in ((Role.OPERATOR, config.console_operators), (Role.VIEWER, config.console_viewers)):
            if _is_member(members, account, domain):
                return Visitor(account, True, role)
        return Denied(
            True, f"{account!r:.200} may not enter: add it to ONCETASK_CONSOLE_OPERATORS or ONCETASK_CONSOLE_VIEWERS."
        )

    def host_is_ours(self, host: str) -> bool:
        """
        Tell whether *host*, the header of that name, is one of the console's.
        """
        if self.local and _LOCAL_HOST.fullmatch(host):
            return True
        return any(urls.origin_of(f"{origin.partition('://')[0]}://{host}") == origin for origin in self._origins)

    def origin_is_ours(self, origin: str, host: str) -> bool:
        """
        Tell whether *origin*, the header of that name, is the console's, which was asked at *host*.
        """
        if self.local and origin in (f"http://{host}", f"https://{host}"):
            return True
        return urls.origin_of(origin) in self._origins


def _is_member(members: Sequence[str], account: str, domain: str | None) -> bool:
    names = {member.casefold() for member in members}
    return account.casefold() in names or (domain is not None and f"domain:{domain.casefold()}" in names)

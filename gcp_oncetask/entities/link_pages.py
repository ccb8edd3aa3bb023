"""
The page of a link, for the adapters of frameworks: GET asks, and POST sends the event. Programs that follow the links of a mail
send nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from gcp_oncetask.config.settings import MAKE_KEY
from gcp_oncetask.entities.answering import LinkFound, LinkQuestion, LinkState, answer_of
from gcp_oncetask.entities.chains import runtime_of
from gcp_oncetask.entities.link_markup import HEADERS, document
from gcp_oncetask.entities.locker import Locker
from gcp_oncetask.errors import OncetaskError
from gcp_oncetask.execution.endpoint import IncomingRequest
from gcp_oncetask.observe.log_context import LOGGER
from gcp_oncetask.rules import link_tokens
from gcp_oncetask.rules.link_tokens import LinkClaims
from gcp_oncetask.rules.mailbox import told_time
from gcp_oncetask.rules.record import Person
from gcp_oncetask.services.identity import Denied
from gcp_oncetask.services.proxy_identity import HEADER, ProxyVerifier

_UNNAMED: Final = "the holder of the link"


class PageAnswer(NamedTuple):
    """
    The answer to a browser.

    Attributes:
        html: The page.
        status: HTTP status.
        headers: Headers of the answer.
    """

    html: str
    status: int
    headers: Mapping[str, str] = HEADERS


class LinkPages:
    """
    Serves the pages of links.

    Args:
        locker: Gives the environment, the database and the keys.
    """

    def __init__(self, locker: Locker) -> None:
        self._runtime = runtime_of(locker)

    @cached_property
    def _proxy(self) -> ProxyVerifier | None:
        config = self._runtime.config
        if config.console_audience is None:
            return None
        return ProxyVerifier(
            audience=config.console_audience, keys_url=config.console_keys_url, clock=self._runtime.clock
        )

    def serve(self, method: str, request: IncomingRequest) -> PageAnswer:
        """
        Answer a request of an HTTP *method*. Only POST writes.
        """
        keys = self._runtime.config.link_keys
        if not keys:
            LOGGER.error(
                "a link was opened, and ONCETASK_LINK_KEYS is not set here: no link can be verified. %s", MAKE_KEY
            )
            return _UNAVAILABLE
        claims = link_tokens.verified(parse_qs(request.query).get("t", [""])[0], keys)
        if claims is None or claims.env != self._runtime.config.env:
            LOGGER.warning("a link was refused: no key of ONCETASK_LINK_KEYS has signed it for this environment")
            return _REFUSED
        question = LinkQuestion(self._runtime, claims)
        try:
            found = question.answer(self._person(claims, request.header)) if method == "POST" else question.look()
        except OncetaskError as error:
            LOGGER.error("%s: a link can't be answered now: %s", claims.path, error)
            return _UNAVAILABLE
        return _page(claims, found, posted=method == "POST")

    def _person(self, claims: LinkClaims, header: Callable[[str], str | None]) -> Person:
        """
        Return the person who answers: the proxy's, if there is a proxy, else the one to whom the link was given.

        Raises:
            IdentityError: The public keys of the proxy could not be fetched.
        """
        given = header(HEADER)
        if self._proxy is not None and given is not None:
            user = self._proxy.check(given)
            if not isinstance(user, Denied):
                return Person(user.email, proven=True, claimed=claims.for_)
            LOGGER.warning("%s: the person behind a link is not proven: %s", claims.path, user.reason)
        return Person(claims.for_ or _UNNAMED, proven=False)


def _page(claims: LinkClaims, found: LinkFound, *, posted: bool) -> PageAnswer:
    match found.state:
        case LinkState.OPEN:
            until = f"Your answer is sent when you press the button. The link works until {told_time(claims.expires)}."
            doubtful = [] if found.doubt is None else [f"{found.doubt}, so its handler may not take your answer."]
            return PageAnswer(document(claims.text, *doubtful, until, button=claims.answer), 200)
        case LinkState.SENT if found.doubt is not None:
            sentences = [f"Your answer is kept: {claims.answer}", f"{found.doubt}, so the task may not take it."]
            return PageAnswer(document("Perhaps too late", *sentences, f"The question was: {claims.text}"), 202)
        case LinkState.SENT:
            sentence = f"Your answer was sent: {claims.answer}"
            return PageAnswer(document("Thank you", sentence, f"The question was: {claims.text}"), 200)
        case LinkState.ANSWERED:
            sentences = [f"The question was: {claims.text}", "The first answer counts; nothing was sent now."]
            if found.act is not None:
                by, said, when = found.act.person.said, answer_of(found.act, claims.wait), told_time(found.act.at)
                sentences.insert(0, f"{by} answered at {when}: {said}")
            return PageAnswer(document("Already answered", *sentences), 409 if posted else 200)
        case LinkState.CLOSED:
            sentence = (
                "The question is closed, and nothing was sent: its time is over, another way has answered it, the task was "
                "cancelled, or the task has ended."
            )
            return PageAnswer(document("Too late", sentence, f"The question was: {claims.text}"), 410)
        case LinkState.EXPIRED:
            return PageAnswer(document("Refused", f"The link has expired at {told_time(claims.expires)}."), 410)
        case LinkState.FULL:
            return PageAnswer(document("Not now", "Too many answers wait already. Please try again later."), 503)


_REFUSED: Final = PageAnswer(
    document(
        "Refused", "The link was changed, or it belongs to another service. Please open it again from the message."
    ),
    403,
)
_UNAVAILABLE: Final = PageAnswer(
    document("Not now", "The answer can't be taken at the moment. Please try again in a minute."), 503
)

"""
A console behind the identity-aware proxy, on the test's cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from gcp_oncetask import Locker
from gcp_oncetask.tasks import TaskManager
from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support.console_app import AUDIENCE, OPERATOR, Browser, app_of, config, register, settings
from tests.support.orders import Mortal


class Desk:
    """
    A deployment with a console, and the people before it.
    """

    def __init__(self, cloud: OncetaskCloud, keys_url: str, **changes: Any) -> None:
        self.cloud = cloud
        self.issuer = cloud.local.oidc
        options = {"console_keys_url": keys_url, **settings(**changes)}
        self.manager = TaskManager(Locker(config=config(**options)))
        register(self.manager)
        self.app = app_of(self.manager)
        cloud.use(self.manager.locker)
        cloud.mount("https://tasks.test", Mortal(self.app))

    def headers(self, email: str = OPERATOR, **claims: Any) -> dict[str, str]:
        """
        Headers with which the proxy sends the requests of a person.
        """
        return {"x-goog-iap-jwt-assertion": self.issuer.proxy.token(AUDIENCE, email, **claims)}

    def browser(self, email: str | None = OPERATOR, **claims: Any) -> FlaskClient:
        """
        A client that asks as the browser of a person would; None: without the proxy.
        """
        client = Browser(self.app, use_cookies=True)
        if email is not None:
            [value] = self.headers(email, **claims).values()
            client.environ_base["HTTP_X_GOOG_IAP_JWT_ASSERTION"] = value
        return client


@pytest.fixture
def open_desk(oncetask_cloud: OncetaskCloud) -> Iterator[Callable[..., Desk]]:
    """
    Opens desks; options are settings.
    """
    issuer = oncetask_cloud.local.oidc
    issuer.start()
    yield lambda **changes: Desk(oncetask_cloud, issuer.proxy_keys_url, **changes)
    issuer.stop()


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """
    A desk with the usual settings.
    """
    return open_desk()

"""
The page of a link in a real browser.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.serving import make_server

from gcp_oncetask.testing.cloud import OncetaskCloud
from tests.support import browser as browsers
from tests.support.tasks import Service

QUESTION = "<b>Refund</b> order 42?"


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """
    A browser.
    """
    if not browsers.is_installed():
        pytest.skip(browsers.MISSING)
    with browsers.opened() as driver:
        yield driver


@pytest.mark.parametrize("script", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_person_answers_by_a_link(oncetask_cloud: OncetaskCloud, window: Any, script: bool) -> None:
    """
    The page asks, sends at the click, and then says who has answered; it loads nothing, and its policy is not hurt.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    service = Service(oncetask_cloud, link_keys=("k" * 32,)).handle()
    links: list[str] = []

    def act(task: Any, attempt: Any) -> Any:
        words = {"text": QUESTION, "label": "Yes, refund", "for_": "ann@example.com"}
        links.append(attempt.link("approval", {"yes": True}, expires=timedelta(days=1), **words))
        return attempt.wait_event("approval", dict, timeout=timedelta(days=1))

    service.act = act
    service.create("a")
    oncetask_cloud.run_until_idle()
    server = make_server("127.0.0.1", 0, service.app, threaded=True)
    origin = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        browsers.look(window, script=script)
        browsers.requested(window)
        browsers.complaints(window)
        window.get(links[0].replace("https://tasks.test", origin))
        assert window.find_element("css selector", "h1").text == QUESTION
        window.find_element("css selector", "button").click()
        assert "Your answer was sent: Yes, refund" in window.find_element("xpath", "//h1[.='Thank you']/..").text
        window.get(links[0].replace("https://tasks.test", origin))
        assert "ann@example.com (unproven) answered" in window.find_element("css selector", "main").text
        assert window.find_elements("css selector", "img, script") == []
        assert {url for url in browsers.requested(window) if not url.startswith(f"{origin}/oncetask/link")} <= {
            f"{origin}/favicon.ico"
        }
        assert [each for each in browsers.complaints(window) if "favicon" not in str(each)] == []
    finally:
        server.shutdown()
        server.server_close()
    oncetask_cloud.run_until_idle()
    assert service.lock("a").result == {"yes": True}

"""
A page of the program under ``exec``, such as a console: find out whether the program serves it, once it answers.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

PATH: Final = "/oncetask/console/"
_EVERY: Final = 0.3
_TIMEOUT: Final = 5.0


class PageWatch:
    """
    Asks for a page on this machine until the program answers; then tells its address, if the page is there.

    Args:
        base_url: Address of the program; another machine's is not asked.
        path: Path of the page.
        tell: Function that is called with the page's address, in another thread.
    """

    def __init__(self, base_url: str, path: str, tell: Callable[[str], object]) -> None:
        self._url = base_url.rstrip("/") + path
        self._tell = tell
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """
        Begin to ask.
        """
        if urlsplit(self._url).hostname not in ("127.0.0.1", "localhost", "::1"):
            return
        self._thread = threading.Thread(target=self._run, name="gcp-emulator-page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """
        Ask no more.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT)

    def _run(self) -> None:
        # No proxy of the environment is asked, and no redirection is followed.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        while not self._ended.wait(_EVERY):
            try:
                with opener.open(self._url, timeout=_TIMEOUT) as answer:
                    found = answer.status == 200
            except urllib.error.HTTPError as error:
                error.close()
                found = False
            except (OSError, ValueError):
                # The program does not listen yet.
                continue
            if found and not self._ended.is_set():
                self._tell(self._url)
            return


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None

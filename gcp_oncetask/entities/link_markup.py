"""
The page of a link: one small document that needs no script and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from gcp_oncetask.checks.values import printable

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;overflow-wrap:anywhere}p{overflow-wrap:anywhere}"
    "button{font:inherit;padding:.6rem 1.2rem;max-width:100%;overflow-wrap:anywhere;cursor:pointer}"
)
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    # The link is in the address of the page.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def document(title: str, *sentences: str, button: str | None = None) -> str:
    """
    Return the HTML of a page with a *title*, some *sentences*, and a *button* that sends the page's own address by POST.
    """
    shown = _plain(title)
    rows = "".join(f"<p>{_plain(sentence)}</p>\n" for sentence in sentences)
    form = "" if button is None else f'<form method="post"><button type="submit">{_plain(button)}</button></form>\n'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{shown}</h1>\n{rows}{form}"
        "</main>\n</body>\n</html>\n"
    )


def _plain(text: str) -> str:
    return escape(printable(text))

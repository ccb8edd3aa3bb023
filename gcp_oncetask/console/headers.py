"""
Headers of the console's answers, of no other answers of the application.
"""

from __future__ import annotations

from typing import Final

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types oncetask"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer browsers send "Origin: null" with the console's own forms.
    "Referrer-Policy": "same-origin",
}
PAGE_CACHE: Final = "no-store"
FILE_CACHE: Final = "private, max-age=31536000, immutable"
"""For files with a hash of their contents in the URL."""

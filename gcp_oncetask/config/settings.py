"""
Check the settings of ``Config``, and read their texts from the environment. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from gcp_oncetask.checks import urls, values, words
from gcp_oncetask.errors import UsageError

VERIFY: Final = ("token", "platform", "off")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAKE_KEY: Final = "Make one: openssl rand -hex 32"
_KEY: Final = re.compile(r"[!-+\--~]{32,200}")
_DAY: Final = 86_400.0
_HOUR: Final = 3600.0

Check: TypeAlias = Callable[[Any, str], object]
"""Takes a value and the setting's name. Raises UsageError if the value is invalid."""


def _like(pattern: str, wanted: str) -> Check:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise UsageError(f"{name} is {values.shown(value)}; it must be {wanted}.")

    return check


def _optional(check: Check) -> Check:
    return lambda value, name: None if value is None else check(value, name)


def _each(check: Check) -> Check:
    def check_all(value: Any, name: str) -> None:
        if not isinstance(value, tuple):
            raise UsageError(
                f"{name} is {values.shown(value)}; it must be a tuple of texts (comma-separated, as a variable)."
            )
        wrong: list[str] = []
        for one in value:
            try:
                check(one, name)
            except UsageError as error:
                wrong.append(str(error))
        if wrong:
            raise UsageError(" ".join(wrong))

    return check_all


def _seconds(least: float, most: float) -> Check:
    def check(value: Any, name: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(
                f"{name} is {values.shown(value)}; it must be a number of seconds, {least:g} to {most:.0f}."
            )

    return check


def _whole(least: int, most: int) -> Check:
    return partial(values.whole, least=least, most=most)


def _verify(value: Any, name: str) -> None:
    words.check(name, value, VERIFY)


def _level(value: Any, name: str) -> None:
    words.check(name, value.upper() if isinstance(value, str) else value, LEVELS)


def _truth(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {values.shown(value)}; it must be true or false.")


def _keys(value: Any, name: str) -> None:
    # The sentence shows no part of a key.
    if not isinstance(value, tuple) or not all(isinstance(one, str) and _KEY.fullmatch(one) for one in value):
        raise UsageError(
            f"{name} must be a tuple of texts (comma-separated, as a variable), each of 32 to 200 characters of printable ASCII "
            f"without spaces and commas. {MAKE_KEY}"
        )


_ACCOUNT: Final = _like(
    r"[!-?A-~]+@[A-Za-z0-9.-]+", "an account's address, like tasks@my-project.iam.gserviceaccount.com"
)
_MEMBER: Final = _like(
    r"domain:[A-Za-z0-9.-]+|[!-9;-?A-~]+@[A-Za-z0-9.-]+", "an account, like ann@example.com, or domain:example.com"
)
_EMULATOR: Final = _optional(urls.host_and_port)

CHECKS: Final[dict[str, Check]] = {
    "env": _like(r"[A-Za-z0-9_-]{1,100}", "1 to 100 letters, digits, underscores and hyphens, like staging"),
    "project": _optional(_like(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}", "the id of a project, like my-project")),
    "database": _like(
        r"\(default\)|[A-Za-z0-9][A-Za-z0-9-]{0,62}", "the id of a database: (default), or letters, digits and hyphens"
    ),
    "queue": values.queue,
    "location": _optional(_like(r"[a-z][a-z0-9-]{0,62}", "a region, like europe-west1")),
    "base_url": _optional(urls.base_url),
    "service_account": _optional(_ACCOUNT),
    "audience": _each(
        _like(r"[!-+\--~]+", "printable ASCII without spaces and commas, like https://orders-abc.a.run.app")
    ),
    "targets": _each(urls.allowed),
    "callers": _each(_ACCOUNT),
    "verify": _verify,
    "collections": _each(values.collection),
    "alert_to": _each(urls.mail_address),
    "alert_from": _optional(urls.mail_address),
    "alert_prefix": values.plain_or_empty,
    "smtp_url": _optional(urls.mail_server),
    "dispatch_deadline": _seconds(15, 1800),
    "request_timeout": _seconds(0.001, 7 * _DAY),
    "dispatch_grace": _seconds(0.001, _DAY),
    "stuck": _seconds(0.001, 31 * _DAY),
    "log_grace": _seconds(0, _DAY),
    "log_interval": _seconds(0, _DAY),
    "log_contents": _truth,
    "log_level": _level,
    "alert_retry": _seconds(0.001, 7 * _DAY),
    "alert_window": _seconds(0, _DAY),
    "shards": _whole(1, 1000),
    "pull_shards": _whole(1, 1000),
    "inline_limit": _whole(0, 65_536),
    "rpc_timeout": _seconds(0.001, _HOUR),
    "patience": _seconds(0.001, _DAY),
    "coalesce": _truth,
    "margin": _seconds(1, _HOUR),
    "oidc_certs_url": _optional(urls.web_url),
    "console_audience": _optional(
        _like(r"/projects/[0-9]+/[!-+\--~]+", "as the proxy makes it, like /projects/123/global/backendServices/456")
    ),
    "console_operators": _each(_MEMBER),
    "console_viewers": _each(_MEMBER),
    "console_origin": _each(urls.web_origin),
    "console_banner": values.plain_or_empty,
    "console_keys_url": _optional(urls.web_url),
    "link_keys": _keys,
    "tasks_emulator": _EMULATOR,
    "firestore_emulator": _EMULATOR,
    "logging_emulator": _EMULATOR,
}
"""The check of each field of ``Config``. Its UsageError names the setting."""

_TRUTH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
# ASCII digits only; int() and float() would also take underscores, nan and inf.
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,20}")
_WANTED: Final = {"bool": "true or false", "float": "a number of seconds", "int": "a whole number"}


def read(name: str, kind: str, text: str) -> Any:
    """
    Convert the *text* of an environment variable to a value.

    Args:
        name: The variable, for the error.
        kind: The field's annotation: ``bool``, ``float``, ``int``, or one that begins with ``tuple`` or ``str``.
        text: Text of the variable, without white space around it.

    Raises:
        UsageError: The text can't be converted.
    """
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool" and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if kind == "float" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "int" and _WHOLE.fullmatch(text):
        return int(text)
    if kind in _WANTED:
        raise UsageError(f"{name} is {values.shown(text)}; it must be {_WANTED[kind]}.")
    return text


def wrong(field: str, name: str, value: Any) -> str | None:
    """
    Return a sentence if *value* is invalid for the *field* whose variable is *name*, else None.
    """
    try:
        CHECKS[field](value, name)
    except UsageError as error:
        return str(error)
    return None

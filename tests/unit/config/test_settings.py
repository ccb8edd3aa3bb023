"""
Settings: each has one check, which every bad value meets, as text in the environment and as a value in code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from gcp_oncetask import Config, ConfigError
from gcp_oncetask.config import FIELDS
from gcp_oncetask.config.settings import CHECKS

NAN: Final = float("nan")
INF: Final = float("inf")
TEXTS: Final = ("", "\ud800", "a\0b", "a\r\nb", 5, b"x", True)
"""What no text setting is; from the environment, which has texts alone and no empty ones, the middle three."""
NUMBERS: Final = (NAN, INF, -INF, -1, 1e300, 10**400, "5", True, None, b"1", timedelta(seconds=5))
SECONDS: Final = ("nan", "inf", "-1", "1e300", "1e9999", "1_000", "\uff11\uff12", "0x10", "soon", "5 s", "9" * 5000)
WHOLE: Final = (0.5, 2**63, -1, "5", True, None, NAN)
COUNTS: Final = ("nan", "1.5", "1_0", "\uff11\uff12", "-1", "9" * 5000, "x", "1e3")
EMULATORS: Final = (
    "localhost",
    "localhost:",
    ":80",
    "localhost:0",
    "localhost:70000",
    "http://localhost:80",
    "a b:80",
    "a:80/x",
)
ACCOUNTS: Final = ("tasks", "a b@c.test", "@c.test", "a@", "a@b@c.test", "a@c.test\nb@d.test")
WEB_URLS: Final = (
    "orders.test",
    "//orders.test",
    "ftp://orders.test",
    "https://",
    "https:///x",
    "https://user:secret@orders.test",
    "https://secret@orders.test",
    "https://orders.test#x",
    "https://or ders.test",
    "https://orders.test/a\r\nb",
    "https://orders.test:0",
    "https://orders.test:99999",
    "https://orders.test:\uff18\uff10",
    "https://[::1",
    "https://orders.test\\@evil.test",
)
MAIL_URLS: Final = (
    "mail.test",
    "http://mail.test",
    "smtp://",
    "smtp://user:secret@",
    "smtp://user:secret@mail.test:0",
    "smtp://user:secret@mail.test:x",
    "smtp://user:secret@mail.test/x",
    "smtp://user:secret@mail.test?x=1",
    "smtp://user:sec ret@mail.test",
    "smtp://user:secret@mail.test\r\nx",
)
TARGETS: Final = (
    "https://orders.test/x",
    "https://orders.test?x",
    "https://orders.test=",
    "https://orders.test=a b",
    "https://orders.test=ü",
    "=https://orders.test",
    "http://orders.test",
    "http://127.0.0.1.orders.test",
    "http://localhost.orders.test",
    "HTTPS://orders.test",
    "https://a.test=1,https://A.test:443=2",
)
COLLECTIONS: Final = ("a/b", "a//b", "/a", "..", "__x__")
QUEUES: Final = ("a b", "a_b", "a\nb", "x" * 101, "projects/p/queues/q", "projects/p/locations/l/queues/a\nb")

TABLE: Final[dict[str, tuple[Sequence[str], Sequence[Any]]]] = {
    # field: bad texts, bad values beside these
    "env": (("a b", "a/b", "ü", "x" * 101), TEXTS),
    "project": (("a b", "-a", "a/b"), TEXTS),
    "database": (("a b", "(x)", "a/b", "ü"), (*TEXTS, None)),
    "queue": (QUEUES, (*TEXTS, None)),
    "location": (("a b", "Europe", "a/b"), TEXTS),
    "base_url": ((*WEB_URLS, "https://orders.test?x", "https://orders.test/?"), TEXTS),
    "service_account": (ACCOUNTS, TEXTS),
    "audience": (("a b",), ("https://a.test", ["https://a.test"], ("",), (5,), ("a,b",), ("\ud800",), None)),
    "targets": (
        (*WEB_URLS, *TARGETS),
        ("https://a.test", ["https://a.test"], ("",), (5,), ("https://a.test=a,b",), ("\ud800",), None),
    ),
    "callers": (ACCOUNTS, ("a@b.test", ["a@b.test"], ("",), (5,), ("a@b.test", "x"), None)),
    "verify": (("maybe", "TOKEN"), TEXTS),
    "collections": (COLLECTIONS, ("orders", ["orders"], ("",), (5,), ("\ud800",), None)),
    "alert_to": (("a@b.test\r\nBcc: c@d.test",), ("a@b.test", ("",), (5,), ("\ud800",), None)),
    "alert_from": (("a@b.test\r\nBcc: c@d.test",), TEXTS),
    "alert_prefix": (("a\r\nBcc: c@d.test",), (*TEXTS[1:], None)),
    "smtp_url": (MAIL_URLS, TEXTS),
    "dispatch_deadline": ((*SECONDS, "14", "1801"), NUMBERS),
    "request_timeout": ((*SECONDS, "0"), NUMBERS),
    "dispatch_grace": ((*SECONDS, "0"), NUMBERS),
    "stuck": (SECONDS, NUMBERS),
    "log_grace": (SECONDS, NUMBERS),
    "log_interval": (SECONDS, NUMBERS),
    "log_contents": (("perhaps", "2", "\uff11"), ("true", 1, 0, None)),
    "log_level": (("LOUD", "10"), TEXTS),
    "alert_retry": ((*SECONDS, "0"), NUMBERS),
    "alert_window": (SECONDS, NUMBERS),
    "shards": ((*COUNTS, "0", "1001"), WHOLE),
    "pull_shards": ((*COUNTS, "0", "1001"), WHOLE),
    "inline_limit": ((*COUNTS, "65537"), WHOLE),
    "rpc_timeout": ((*SECONDS, "0"), NUMBERS),
    "patience": ((*SECONDS, "0"), NUMBERS),
    "coalesce": (("perhaps", "2"), ("true", 1, 0, None)),
    "margin": ((*SECONDS, "0.5"), NUMBERS),
    "oidc_certs_url": (WEB_URLS, TEXTS),
    "console_audience": (("projects/1/x", "/projects/p/x", "/projects/1/a b"), TEXTS),
    "console_operators": (("ann", "domain:", "group:a@b.test", "a b@c.test"), (*TEXTS, None, ["a@b.test"])),
    "console_viewers": (("ann", "domain:"), (*TEXTS, None)),
    "console_origin": (
        ("console.test", "https://c.test/a", "https://c.test?a=b", "http://c.test", "ftp://c.test"),
        (*TEXTS, None),
    ),
    "console_banner": (("a\r\nb",), (*TEXTS[1:], None)),
    "console_keys_url": (WEB_URLS, TEXTS),
    "link_keys": (
        ("secret", "sec ret" + "x" * 32, "secret" * 40, "secret,x" + "y" * 40),
        ("secret" * 6, ["secret" * 6], ("secret" * 6, "secret"), (5,), ("\ud800" * 32,), ("secret," * 6,), None),
    ),
    "tasks_emulator": (EMULATORS, TEXTS),
    "firestore_emulator": (EMULATORS, TEXTS),
    "logging_emulator": (EMULATORS, TEXTS),
}
LISTS: Final = (
    *("audience", "targets", "callers", "collections", "alert_to"),
    *("console_operators", "console_viewers", "console_origin", "link_keys"),
)
"""Settings whose texts are split at commas."""
ENV: Final = {field: env for env, field, *_ in FIELDS}


def sentences(error: ConfigError, env: str) -> list[str]:
    """
    What is wrong with the error for one wrong setting: nothing, if it is one printable sentence that begins with its name and
    tells no secret.
    """
    text = str(error)
    wrong = [] if text.startswith(f"{env} ") else [f"{text!r} does not begin with {env}"]
    wrong += [f"{text!r} tells a secret"] if "secret" in text or "sec ret" in text else []
    wrong += [] if text.isprintable() and len(text) < 400 else [f"{text!r} can't be read"]
    return wrong


def test_every_setting_has_a_check_and_rows() -> None:
    """
    No setting is left out, of the checks and of the table below.
    """
    names = [f.name for f in dataclasses.fields(Config)]
    assert names == list(CHECKS)
    assert names == list(TABLE)


@pytest.mark.parametrize("field", TABLE)
def test_wrong_setting_is_refused_with_its_name(field: str) -> None:
    """
    As text in the environment and as a value in code it is a ConfigError that begins with the variable and shows no secret.
    """
    env = ENV[field]
    bad_texts, bad_values = TABLE[field]
    texts = [
        *bad_texts,
        *(() if field in LISTS else TEXTS[1:4]),
    ]
    wrong = []
    for text in texts if field not in ("shards", "pull_shards", "inline_limit") else bad_texts:
        try:
            Config.from_env({env: text})
        except ConfigError as error:
            wrong += sentences(error, env)
        else:
            wrong.append(f"{text!r:.100} was read")
    for value in bad_values:
        try:
            Config(**{field: value})
        except ConfigError as error:
            wrong += sentences(error, env)
        else:
            if value is not None or "None" not in str(Config.__annotations__[field]):
                wrong.append(f"{value!r:.100} was taken")
    assert wrong == []


def test_settings_as_they_are_written_are_taken() -> None:
    """
    Usual values, with white space around them, are read; blank ones are not set.
    """
    config = Config.from_env(
        {
            "ONCETASK_BASE_URL": " https://example.test:8443/orders/ \n",
            "ONCETASK_QUEUE": "projects/example.test:p/locations/europe-west1/queues/a-1",
            "ONCETASK_TARGETS": "https://A.test, https://b.test:8443/=https://x.test?a=b, http://localhost:80, https://A.test",
            "ONCETASK_CALLERS": "a@b.test, tasks@p.iam.gserviceaccount.com,",
            "ONCETASK_COLLECTIONS": "orders,customers/{customer}/orders",
            "ONCETASK_SMTP_URL": "smtp+starttls://us%40er:p%20w@mail.test:587",
            "ONCETASK_ALERT_TO": "Ann <ann@example.test>",
            "ONCETASK_LOG_CONTENTS": "Yes",
            "ONCETASK_LOG_LEVEL": "warning",
            "ONCETASK_LOG_GRACE_SECONDS": ".5",
            "ONCETASK_SHARDS": "+4",
            "ONCETASK_LOCATION": "  ",
            "FIRESTORE_EMULATOR_HOST": "[::1]:8080",
            "CLOUD_TASKS_EMULATOR_HOST": "tasks_emulator:8123",
            "CLOUD_LOGGING_EMULATOR_HOST": "::1:8080",
        }
    )
    assert (config.base_url, config.shards, config.log_grace) == ("https://example.test:8443/orders/", 4, 0.5)
    assert (config.log_contents, config.location) == (True, None)
    assert config.callers == ("a@b.test", "tasks@p.iam.gserviceaccount.com")

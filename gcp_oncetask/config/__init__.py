"""
Configuration: one frozen value, read from the environment in one place.

``FIELDS`` is the table of settings in ``docs/reference/settings.md``; a test compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from gcp_oncetask.checks import urls, words
from gcp_oncetask.config import settings
from gcp_oncetask.errors import ConfigError, UsageError

__all__ = ["Config"]

Verify = Literal["token", "platform", "off"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "debug", "info", "warning", "error", "critical"]


def _var(name: str, help_: str, default: Any, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"env": name, "help": help_})


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    Everything that differs between deployments.

    Durations are seconds. A field that is None is found out when it is needed; if it can't be, the error says what to set.
    The error comes when a web server, a worker or a command starts, else at the first call. ``repr()`` leaves out the mail
    server's URL, because the URL has its password, and the keys of links.

    Raises:
        ConfigError: Values are malformed, or contradict each other; the message names all of them.
    """

    env: str = _var("ONCE_TASK_ENV", "environment: documents and deliveries of another one are refused", "DEFAULT")
    project: str | None = _var("GOOGLE_CLOUD_PROJECT", "project (else found by google.auth)", None)
    database: str = _var("ONCETASK_DATABASE", "Firestore database", "(default)")
    queue: str = _var("ONCETASK_QUEUE", "Cloud Tasks queue: an id, or a full name", "default")
    location: str | None = _var("ONCETASK_LOCATION", "region of the queue (else asked of the metadata server)", None)
    base_url: str | None = _var(
        "ONCETASK_BASE_URL", "URL that paths given to schedule() are joined to: scheme, host and perhaps a path", None
    )
    service_account: str | None = _var(
        "ONCETASK_SERVICE_ACCOUNT", "account whose identity token a delivery carries", None
    )
    audience: tuple[str, ...] = _var(
        "ONCETASK_AUDIENCE",
        "accepted audiences, comma-separated; the first is asked for at the base URL (else its scheme and host)",
        (),
    )
    targets: tuple[str, ...] = _var(
        "ONCETASK_TARGETS",
        "targets of tasks besides ONCETASK_BASE_URL: origin or origin=audience (else the origin), comma-separated",
        (),
    )
    callers: tuple[str, ...] = _var(
        "ONCETASK_CALLERS", "accounts that may call, comma-separated (else the service account)", ()
    )
    verify: Verify = _var(
        "ONCETASK_VERIFY",
        "token; platform: on a private Cloud Run service also tokens whose signature IAM has verified and removed; or off",
        "token",
    )
    collections: tuple[str, ...] = _var(
        "ONCETASK_COLLECTIONS",
        "collections to sweep besides those of registered models and those in which a process has scheduled, "
        "comma-separated",
        (),
    )
    alert_to: tuple[str, ...] = _var(
        "ONCETASK_ALERT_TO", "addresses to which alerts are mailed, comma-separated (none: alerts are logged)", ()
    )
    alert_from: str | None = _var("ONCETASK_ALERT_FROM", "sender of alerts (else the user of the SMTP URL)", None)
    alert_prefix: str = _var("ONCETASK_ALERT_PREFIX", "beginning of the subjects of alerts", "[oncetask]")
    smtp_url: str | None = _var(
        "ONCETASK_SMTP_URL",
        "smtp://user:password@host:587 (STARTTLS if offered), smtps://..., smtp+starttls:// (required)",
        None,
        secret=True,
    )
    dispatch_deadline: float = _var(
        "ONCETASK_DISPATCH_DEADLINE_SECONDS", "time that Cloud Tasks waits for an answer, 15 to 1800", 600.0
    )
    request_timeout: float = _var(
        "ONCETASK_REQUEST_TIMEOUT_SECONDS", "longest a request may live on the platform", 300.0
    )
    dispatch_grace: float = _var(
        "ONCETASK_DISPATCH_GRACE_SECONDS", "an unclaimed task that is overdue by so much is dispatched again", 60.0
    )
    stuck: float = _var(
        "ONCETASK_STUCK_SECONDS", "a person is alerted of a task that waits unclaimed for so long", 900.0
    )
    log_grace: float = _var(
        "ONCETASK_LOG_GRACE_SECONDS",
        "how long log lines may take to become visible: a missing line counts only after it; the same in all processes",
        120.0,
    )
    log_interval: float = _var(
        "ONCETASK_LOG_INTERVAL_SECONDS", "a process asks Cloud Logging at most once in this time", 10.0
    )
    log_contents: bool = _var(
        "ONCETASK_LOG_CONTENTS",
        "whether saved fields, results and params may appear in logs, and words of validators in errors",
        False,
    )
    log_level: LogLevel = _var("ONCETASK_LOG_LEVEL", "level at which decisions are logged", "INFO")
    alert_retry: float = _var(
        "ONCETASK_ALERT_RETRY_SECONDS", "an alert whose sending is not confirmed after so long is tried again", 120.0
    )
    alert_window: float = _var(
        "ONCETASK_ALERT_WINDOW_SECONDS",
        "how long alerts wait, after the first one of their kind and reason, to become one mail; 0: each is a mail; the same in "
        "all processes",
        600.0,
    )
    shards: int = _var("ONCETASK_SHARDS", "hot-spot shards of the due index", 1)
    pull_shards: int = _var("ONCETASK_PULL_SHARDS", "shards that workers share among themselves, per kind", 8)
    inline_limit: int = _var(
        "ONCETASK_INLINE_LIMIT_BYTES", "documents up to this size travel in the delivery; 0: never", 16_384
    )
    rpc_timeout: float = _var("ONCETASK_RPC_TIMEOUT_SECONDS", "deadline of one remote call", 10.0)
    patience: float = _var("ONCETASK_PATIENCE_SECONDS", "total time for a write and its retries", 30.0)
    coalesce: bool = _var(
        "ONCETASK_COALESCE", "whether commits of threads that wait for each other share a remote call", True
    )
    margin: float = _var(
        "ONCETASK_MARGIN_SECONDS", "kept between a holder's own deadline and the lease's end; at least 1", 1.0
    )
    oidc_certs_url: str | None = _var(
        "ONCETASK_OIDC_CERTS_URL", "URL of the identity certificates, for local work", None
    )
    console_audience: str | None = _var(
        "ONCETASK_CONSOLE_AUDIENCE",
        "audience of the identity-aware proxy before the console, like /projects/123/locations/europe-west1/services/console",
        None,
    )
    console_operators: tuple[str, ...] = _var(
        "ONCETASK_CONSOLE_OPERATORS",
        "who may act in the console: accounts, and domain:example.com for all of a Workspace domain, comma-separated",
        (),
    )
    console_viewers: tuple[str, ...] = _var(
        "ONCETASK_CONSOLE_VIEWERS", "who may look at the console without contents and acts; as the operators", ()
    )
    console_origin: tuple[str, ...] = _var(
        "ONCETASK_CONSOLE_ORIGIN",
        "origins at which browsers see the console, comma-separated; service accounts' identity tokens are made for the first",
        (),
    )
    console_banner: str = _var(
        "ONCETASK_CONSOLE_BANNER",
        "text of the console's bar, with a colour if wanted, like red:PRODUCTION (red, orange, green, blue, purple or grey)",
        "",
    )
    console_keys_url: str | None = _var(
        "ONCETASK_CONSOLE_KEYS_URL", "URL of the identity-aware proxy's keys, for local work", None
    )
    link_keys: tuple[str, ...] = _var(
        "ONCETASK_LINK_KEYS",
        "secret keys of the links by which people answer, comma-separated: the first signs, all verify",
        (),
        secret=True,
    )
    tasks_emulator: str | None = _var("CLOUD_TASKS_EMULATOR_HOST", "host:port, for local work", None)
    firestore_emulator: str | None = _var("FIRESTORE_EMULATOR_HOST", "host:port, for local work", None)
    logging_emulator: str | None = _var("CLOUD_LOGGING_EMULATOR_HOST", "host:port, for local work", None)

    def __post_init__(self) -> None:
        if found := problems(self):
            raise config_error(found)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """
        Make a configuration from *environ*; no other function reads the environment.

        Raises:
            ConfigError: Values can't be read or contradict each other, or names beginning with ``ONCETASK_`` are unknown.
                The message lists all of them, with suggestions for unknown names.
        """
        values, unread = read(environ)
        if unread:
            raise config_error([*unread.values(), *problems(unchecked(values), unread)])
        return cls(**values)


FIELDS: Final = tuple((f.metadata["env"], f.name, f.default, f.metadata["help"]) for f in fields(Config))
"""(environment name, field, default, meaning) of every setting."""


def config_error(sentences: Collection[str], hint: str = "") -> ConfigError:
    """
    Return one error for all *sentences*, each once, which are also its ``problems``. If there are several, *hint* ends the
    message.
    """
    told = tuple(dict.fromkeys(sentences))
    if len(told) == 1:
        return ConfigError(told[0], problems=told)
    lines = [f"{len(told)} settings are missing or wrong:", *(f"  - {one}" for one in told), *([hint] if hint else [])]
    return ConfigError("\n".join(lines), problems=told)


def read(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Read *environ*. Return the values by field, and a sentence for each variable that is unknown or can't be read, by field
    (unknown ones by name).
    """
    known = {f.metadata["env"]: f for f in fields(Config)}
    values: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for name in environ:
        if name.startswith(("ONCETASK_", "ONCE_TASK_")) and name not in known:
            unread[name] = f"{name} is not a setting of gcp-oncetask.{words.hint(name, known)}"
    for name, f in known.items():
        if text := environ.get(name, "").strip():
            try:
                values[f.name] = settings.read(name, str(f.type), text)
            except UsageError as error:
                unread[f.name] = str(error)
    return values, unread


def unchecked(values: Mapping[str, Any]) -> Config:
    """
    Return a configuration with *values* that may contradict each other, for ``problems`` only.
    """
    made = object.__new__(Config)
    for f in fields(Config):
        object.__setattr__(made, f.name, values.get(f.name, f.default))
    return made


def problems(c: Config, unread: Collection[str] = ()) -> list[str]:
    """
    Return a sentence for each invalid value and for each contradiction. Fields in *unread* are left out.
    """
    found: dict[str, str] = {}
    for f in fields(Config):
        sentence = settings.wrong(f.name, f.metadata["env"], getattr(c, f.name))
        if sentence is not None and f.name not in unread:
            found[f.name] = sentence
    odd = {*found, *unread}
    if odd.isdisjoint(("alert_to", "smtp_url")) and c.alert_to and c.smtp_url is None:
        found["alert_to"] = (
            "ONCETASK_ALERT_TO is set, but ONCETASK_SMTP_URL is not: no mail could be sent. It names the mail server, for "
            "example smtp+starttls://user:password@mail.example.com:587."
        )
    if "targets" not in odd and (twice := _twice(c.targets)) is not None:
        found["targets"] = f"ONCETASK_TARGETS has {twice} twice, with different audiences."
    if odd.isdisjoint(("patience", "rpc_timeout")) and c.patience < c.rpc_timeout:
        found["patience"] = (
            f"ONCETASK_PATIENCE_SECONDS ({c.patience:g}) must be at least ONCETASK_RPC_TIMEOUT_SECONDS ({c.rpc_timeout:g})."
        )
    return list(found.values())


def _twice(targets: Collection[str]) -> str | None:
    known: dict[str, str] = {}
    for text in targets:
        origin, audience = urls.allowed(text, "ONCETASK_TARGETS")
        if known.setdefault(origin, audience) != audience:
            return origin
    return None


def level(config: Config) -> int:
    """
    Return the log level of decisions as a number.
    """
    return logging.getLevelNamesMapping()[config.log_level.upper()]

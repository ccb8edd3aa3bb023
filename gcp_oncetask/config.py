"""
Configuration: one frozen value, read from the environment in one place.

``FIELDS`` is the table that the README prints; a test compares them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from gcp_oncetask import words
from gcp_oncetask.errors import ConfigError

Verify = Literal["token", "platform", "off"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "debug", "info", "warning", "error", "critical"]

_ENV_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_QUEUE: Final = re.compile(r"(projects/[^/]+/locations/[^/]+/queues/)?[A-Za-z0-9-]{1,100}")
_LEVELS: Final = tuple(level for level in get_args(LogLevel) if level.isupper())


def _var(name: str, help_: str, default: Any) -> Any:
    return field(default=default, metadata={"env": name, "help": help_})


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    Everything that differs between deployments.

    Durations are seconds. Fields that are None are found out at first use, or are an error there that says what to set.

    Raises:
        ConfigError: A value is malformed, or two of them contradict each other.
    """

    env: str = _var("ONCE_TASK_ENV", "environment: documents and deliveries of another one are refused", "DEFAULT")
    project: str | None = _var("GOOGLE_CLOUD_PROJECT", "project (else found by google.auth)", None)
    database: str = _var("ONCETASK_DATABASE", "Firestore database", "(default)")
    queue: str = _var("ONCETASK_QUEUE", "Cloud Tasks queue: an id, or a full name", "default")
    location: str | None = _var("ONCETASK_LOCATION", "region of the queue (else asked of the metadata server)", None)
    base_url: str | None = _var(
        "ONCETASK_BASE_URL", "scheme and host that paths given to schedule() are joined to", None
    )
    service_account: str | None = _var(
        "ONCETASK_SERVICE_ACCOUNT", "account whose identity token a delivery carries", None
    )
    audience: tuple[str, ...] = _var(
        "ONCETASK_AUDIENCE",
        "accepted audiences, comma-separated; the first is asked for (else the target's scheme and host)",
        (),
    )
    callers: tuple[str, ...] = _var(
        "ONCETASK_CALLERS", "accounts that may call, comma-separated (else the service account)", ()
    )
    verify: Verify = _var("ONCETASK_VERIFY", "token, platform (IAM verified and removed the signature) or off", "token")
    collections: tuple[str, ...] = _var(
        "ONCETASK_COLLECTIONS", "collections to sweep besides those of registered models, comma-separated", ()
    )
    alert_to: tuple[str, ...] = _var(
        "ONCETASK_ALERT_TO", "who is mailed, comma-separated (nobody: alerts are logged)", ()
    )
    alert_from: str | None = _var("ONCETASK_ALERT_FROM", "sender of alerts (else the user of the SMTP URL)", None)
    alert_prefix: str = _var("ONCETASK_ALERT_PREFIX", "what alerts' subjects begin with", "[oncetask]")
    smtp_url: str | None = _var(
        "ONCETASK_SMTP_URL",
        "smtp://user:password@host:587 (STARTTLS if offered), smtps://..., smtp+starttls:// (required)",
        None,
    )
    dispatch_deadline: float = _var(
        "ONCETASK_DISPATCH_DEADLINE_SECONDS", "how long Cloud Tasks waits for an answer, 15 to 1800", 600.0
    )
    request_timeout: float = _var(
        "ONCETASK_REQUEST_TIMEOUT_SECONDS", "longest a request may live on the platform", 300.0
    )
    dispatch_grace: float = _var(
        "ONCETASK_DISPATCH_GRACE_SECONDS", "how overdue an unclaimed task is before it is dispatched again", 60.0
    )
    log_grace: float = _var("ONCETASK_LOG_GRACE_SECONDS", "how long log lines may take to become visible", 120.0)
    log_interval: float = _var(
        "ONCETASK_LOG_INTERVAL_SECONDS", "a process asks Cloud Logging at most once in this time", 10.0
    )
    log_contents: bool = _var(
        "ONCETASK_LOG_CONTENTS", "whether saved fields, results and params may appear in logs", False
    )
    log_level: LogLevel = _var("ONCETASK_LOG_LEVEL", "level at which decisions are logged", "INFO")
    alert_retry: float = _var(
        "ONCETASK_ALERT_RETRY_SECONDS", "how long a sender is trusted before an alert is tried again", 120.0
    )
    shards: int = _var("ONCETASK_SHARDS", "hot-spot shards of the due index", 1)
    pull_shards: int = _var("ONCETASK_PULL_SHARDS", "shards that workers share among themselves, per kind", 8)
    inline_limit: int = _var(
        "ONCETASK_INLINE_LIMIT_BYTES", "documents up to this size travel in the delivery; 0: never", 16_384
    )
    rpc_timeout: float = _var("ONCETASK_RPC_TIMEOUT_SECONDS", "deadline of one remote call", 10.0)
    patience: float = _var("ONCETASK_PATIENCE_SECONDS", "total time for a write and its retries", 30.0)
    margin: float = _var(
        "ONCETASK_MARGIN_SECONDS", "kept between a holder's own deadline and the lease's end; at least 1", 1.0
    )
    oidc_certs_url: str | None = _var(
        "ONCETASK_OIDC_CERTS_URL", "where identity certificates are fetched, for local work", None
    )
    tasks_emulator: str | None = _var("CLOUD_TASKS_EMULATOR_HOST", "host:port, for local work", None)
    firestore_emulator: str | None = _var("FIRESTORE_EMULATOR_HOST", "host:port, for local work", None)
    logging_emulator: str | None = _var("CLOUD_LOGGING_EMULATOR_HOST", "host:port, for local work", None)

    def __post_init__(self) -> None:
        for sentence in _problems(self):
            raise ConfigError(sentence)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """
        Read *environ*; the only reader of the environment.

        Raises:
            ConfigError: A value can't be read, or a name beginning with ``ONCETASK_`` is unknown (the message names the
                nearest one).
        """
        known = {f.metadata["env"]: f for f in fields(cls)}
        for name in environ:
            if name.startswith(("ONCETASK_", "ONCE_TASK_")) and name not in known:
                raise ConfigError(f"{name} is not a setting of gcp-oncetask.{words.hint(name, known)}", name=name)
        values = {f.name: _parse(name, f.type, environ[name]) for name, f in known.items() if environ.get(name)}
        return cls(**values)


FIELDS: Final = tuple((f.metadata["env"], f.name, f.default, f.metadata["help"]) for f in fields(Config))
"""(environment name, field, default, meaning) of every setting."""


def _parse(name: str, annotation: Any, text: str) -> Any:
    kind = str(annotation)
    text = text.strip()
    try:
        if kind.startswith("tuple"):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind == "bool":
            return {
                "true": True,
                "1": True,
                "yes": True,
                "on": True,
                "false": False,
                "0": False,
                "no": False,
                "off": False,
            }[text.lower()]
        if kind == "float":
            return float(text)
        if kind == "int":
            return int(text)
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "float": "a number of seconds", "int": "a whole number"}[kind]
        raise ConfigError(f"{name} is {text!r}; it must be {wanted}.", name=name) from None
    return text


def _problems(c: Config) -> list[str]:
    found = []
    if not _ENV_NAME.fullmatch(c.env):
        found.append(f"ONCE_TASK_ENV is {c.env!r}; it may hold letters, digits, underscores and hyphens only.")
    if not _QUEUE.fullmatch(c.queue):
        found.append(
            f"ONCETASK_QUEUE is {c.queue!r}; it must be a queue id (letters, digits, hyphens) or "
            "projects/PROJECT/locations/LOCATION/queues/QUEUE."
        )
    chosen = (("ONCETASK_VERIFY", c.verify, get_args(Verify)), ("ONCETASK_LOG_LEVEL", c.log_level.upper(), _LEVELS))
    found.extend(sentence for name, word, known in chosen if (sentence := words.wrong(name, word, known)))
    if c.base_url is not None and not re.fullmatch(r"https?://[^/?#]+(/[^?#]*)?", c.base_url):
        found.append(f"ONCETASK_BASE_URL is {c.base_url!r}; it must be like https://orders-abc.a.run.app.")
    if c.smtp_url is not None and not re.match(r"(smtp|smtps|smtp\+starttls)://", c.smtp_url):
        found.append("ONCETASK_SMTP_URL must begin with smtp://, smtps:// or smtp+starttls://.")
    if c.alert_to and c.smtp_url is None:
        found.append("ONCETASK_ALERT_TO is set, but ONCETASK_SMTP_URL is not: nobody could be mailed.")
    if not 15 <= c.dispatch_deadline <= 1800:
        found.append(f"The dispatch deadline is {c.dispatch_deadline:g} s; Cloud Tasks allows 15 to 1800.")
    found.extend(
        f"{name} is {getattr(c, name):g} s; it must be more than 0."
        for name in ("request_timeout", "dispatch_grace", "rpc_timeout", "patience", "alert_retry")
        if getattr(c, name) <= 0
    )
    if c.log_grace < 0 or c.log_interval < 0:
        found.append("log_grace and log_interval must not be negative.")
    if c.patience < c.rpc_timeout:
        found.append(f"patience ({c.patience:g} s) must be at least the rpc_timeout ({c.rpc_timeout:g} s).")
    if c.margin < 1:
        found.append(f"margin is {c.margin:g} s; it must be at least 1.")
    found.extend(
        f"{name} is {getattr(c, name)}; it must be 1 to 1000."
        for name in ("shards", "pull_shards")
        if not 1 <= getattr(c, name) <= 1000
    )
    if not 0 <= c.inline_limit <= 65_536:
        found.append(f"inline_limit is {c.inline_limit}; it must be 0 to 65536 bytes.")
    return found


def level(config: Config) -> int:
    """
    The log level of decisions as a number.
    """
    return logging.getLevelNamesMapping()[config.log_level.upper()]

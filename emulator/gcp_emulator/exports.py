"""
Environment variables for a program on the local cloud: the addresses of the cloud, and settings by which the program is
reached.

The cloud sets the variables with its addresses in any case. The variables for the program's address, the account that calls
it, the recipients of mail and the keys of links are kept if the user has set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gcp_emulator.cloud import LocalCloud

APP_PORT: Final = 8080
PORT_NAMES: Final = ("PORT", "FLASK_RUN_PORT")
"""Where servers read their port: that of Cloud Run, which gunicorn reads too, and Flask's."""
_YOURS: Final = (
    "ONCETASK_BASE_URL",
    "ONCETASK_AUDIENCE",
    "ONCETASK_SERVICE_ACCOUNT",
    "ONCETASK_QUEUE",
    "ONCETASK_ALERT_TO",
    "ONCETASK_LINK_KEYS",
)
LINK_KEY: Final = "a-key-for-local-work-alone-0123456789abcdef"
"""Signs the links of a program on the local cloud. The key is public, and so of no use elsewhere."""
ALERT_TO: Final = "oncall@example.com"


def exports(cloud: LocalCloud, environ: Mapping[str, str], app_port: int | None, default_port: int) -> dict[str, str]:
    """
    Return the variables for a program whose other environment is *environ*.

    Args:
        cloud: A started one.
        environ: The user's own environment; an empty value is none.
        app_port: Port that the user has named for the program's server; None: as *environ* says, else *default_port*.
        default_port: See there.

    Raises:
        CloudError: The cloud is not started.
        ValueError: A variable of *environ* that names the port is no port.
    """
    given = {name: value for name, value in environ.items() if value}
    found = cloud.environment()
    if app_port is not None or "ONCETASK_BASE_URL" not in given:
        port = str(port_of(given, default_port) if app_port is None else app_port)
        found |= dict.fromkeys(PORT_NAMES, port)
        found["ONCETASK_BASE_URL"] = f"http://127.0.0.1:{port}"
    else:
        found["ONCETASK_BASE_URL"] = given["ONCETASK_BASE_URL"]
    callers = given.get("ONCETASK_CALLERS", "").split(",")
    defaults = {
        "ONCETASK_AUDIENCE": found["ONCETASK_BASE_URL"],
        "ONCETASK_SERVICE_ACCOUNT": callers[0].strip() or f"app@{cloud.project}.iam.gserviceaccount.com",
        "ONCETASK_QUEUE": cloud.queues[0] if cloud.queues else "default",
        "ONCETASK_LINK_KEYS": LINK_KEY,
    }
    if "ONCETASK_SMTP_URL" in found:
        defaults["ONCETASK_ALERT_TO"] = ALERT_TO
    return found | {name: given.get(name, value) for name, value in defaults.items()}


def port_of(environ: Mapping[str, str], default: int) -> int:
    """
    The port that a server reads from *environ*.

    Raises:
        ValueError: It is no port; the message names the variable.
    """
    for name in PORT_NAMES:
        text = environ.get(name)
        if text:
            if not text.isdecimal() or not 0 < int(text) < 65536:
                raise ValueError(f"{name} is {text!r} in the environment, which is no port")
            return int(text)
    return default


def kept(found: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """
    The names of *found* that stand as the user has set them.
    """
    return [name for name in (*PORT_NAMES, *_YOURS) if name in found and found[name] == environ.get(name)]

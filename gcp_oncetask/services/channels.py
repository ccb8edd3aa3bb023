"""
The channel for alerts that the settings ask for. The module that sends mail is imported only for settings that ask for mail.
"""

from __future__ import annotations

from gcp_oncetask.config import Config
from gcp_oncetask.observe.alerts import AlertChannel, LogChannel


def channel_from(config: Config) -> AlertChannel:
    """
    Return the channel for alerts: mail if *config* names recipients and a server, else the log.

    Raises:
        ConfigError: The server's URL or an address is not usable.
    """
    if not config.alert_to or config.smtp_url is None:
        return LogChannel()
    from gcp_oncetask.services.smtp import SmtpChannel

    return SmtpChannel(config.smtp_url, to=config.alert_to, sender=config.alert_from, prefix=config.alert_prefix)

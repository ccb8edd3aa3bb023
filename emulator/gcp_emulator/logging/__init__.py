"""
Cloud Logging: writing and listing log entries, with the service's query language, limits and delays.
"""

from gcp_emulator.logging.lexer import FilterError
from gcp_emulator.logging.server import LoggingServer

__all__ = ["FilterError", "LoggingServer"]

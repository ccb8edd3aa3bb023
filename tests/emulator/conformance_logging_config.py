"""
The services that configure logging: each RPC is refused.
"""

from __future__ import annotations

from gcp_emulator.logging.configuration import CONFIG, METRICS
from tests.emulator.conformance import Row, Service

_TEST = "test_logging_server.py::test_"
ROWS = [
    *(
        Row(
            name,
            "",
            "refused",
            "The error says what is there instead.",
            f"{_TEST}configuration_is_refused_with_a_sentence",
        )
        for name in CONFIG
    ),
    *(
        Row(name, "", "refused", "The error says what is there instead.", f"{_TEST}metrics_are_refused_with_a_sentence")
        for name in METRICS
    ),
]
SERVICE = Service(
    title="Cloud Logging, configuration",
    name="google.logging.v2.ConfigServiceV2`, `google.logging.v2.MetricsServiceV2",
    rows=ROWS,
    asked={row.rpc: [] for row in ROWS},
    about="Buckets, views, links, sinks, exclusions, settings and metrics do not exist: a project keeps all of its entries.",
    clients=frozenset({"config_client", "metrics_client"}),
)

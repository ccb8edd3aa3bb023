"""
The services that configure logging, ``ConfigServiceV2`` and ``MetricsServiceV2``: each RPC is refused with a sentence that
names a way without it. And the monitored resources that the local cloud knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.api import label_pb2, monitored_resource_pb2
from google.protobuf import empty_pb2

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Faults
from gcp_emulator.rpc import Method, RpcError, Service

_INSTEAD = {
    "Bucket": "This local server has no log buckets: a project keeps its entries of the last 30 days, in memory.",
    "View": "This local server has no views: list the entries of a project with a filter.",
    "Link": "This local server has no Log Analytics: list the entries of a project with a filter.",
    "Sink": "This local server has no sinks: every entry stays in its project; follow new ones with TailLogEntries.",
    "Exclusion": "This local server has no exclusions: every entry is kept; leave some out with a filter that has NOT.",
    "Settings": "This local server has no settings of logging: entries are kept in memory, without keys of encryption.",
    "CopyLogEntries": "This local server copies no entries: list those of a project with ListLogEntries.",
    "LogMetric": "This local server has no log-based metrics: count what ListLogEntries finds with the metric's filter.",
}
CONFIG = (
    *(
        f"{verb}{noun}"
        for noun in ("Bucket", "View", "Sink", "Exclusion")
        for verb in ("Get", "Create", "Update", "Delete")
    ),
    *("ListBuckets", "ListViews", "ListSinks", "ListExclusions"),
    *("CreateBucketAsync", "UpdateBucketAsync", "UndeleteBucket"),
    *("ListLinks", "GetLink", "CreateLink", "DeleteLink"),
    *("GetCmekSettings", "UpdateCmekSettings", "GetSettings", "UpdateSettings", "CopyLogEntries"),
)
METRICS = ("ListLogMetrics", "GetLogMetric", "CreateLogMetric", "UpdateLogMetric", "DeleteLogMetric")
_RESOURCES = {
    "global": ("Global", ""),
    "cloud_function": ("Cloud Function", "function_name region"),
    "cloud_run_job": ("Cloud Run Job", "job_name location"),
    "cloud_run_revision": ("Cloud Run Revision", "service_name revision_name location configuration_name"),
    "cloud_scheduler_job": ("Cloud Scheduler Job", "job_id location"),
    "cloud_tasks_queue": ("Cloud Tasks Queue", "queue_id target_type location"),
    "gae_app": ("GAE Application", "module_id version_id zone"),
    "gce_instance": ("VM Instance", "instance_id zone"),
    "generic_node": ("Generic Node", "location namespace node_id"),
    "generic_task": ("Generic Task", "location namespace job task_id"),
    "k8s_container": ("Kubernetes Container", "location cluster_name namespace_name pod_name container_name"),
}


def refusing(faults: Faults, clock: Clock) -> list[Service]:
    """
    Return the services that configure logging.
    """
    return [
        Service(f"google.logging.v2.{name}", {rpc: _refused(rpc) for rpc in rpcs}, faults, clock)
        for name, rpcs in (("ConfigServiceV2", CONFIG), ("MetricsServiceV2", METRICS))
    ]


def _refused(rpc: str) -> Method:
    sentence = next(text for noun, text in _INSTEAD.items() if noun in rpc)

    def refuse(_request: Any) -> Any:
        raise RpcError(grpc.StatusCode.UNIMPLEMENTED, f"{rpc} is not implemented. {sentence}")

    run: Callable[[Any], Any] = refuse
    return Method(run, empty_pb2.Empty, empty_pb2.Empty)


def resources() -> list[Any]:
    """
    Descriptors of the kinds of resources that programs on Google Cloud mostly write for.
    """
    return [
        monitored_resource_pb2.MonitoredResourceDescriptor(
            name=f"monitoredResourceDescriptors/{name}",
            type=name,
            display_name=title,
            labels=[label_pb2.LabelDescriptor(key=key) for key in ("project_id", *labels.split())],
        )
        for name, (title, labels) in _RESOURCES.items()
    ]

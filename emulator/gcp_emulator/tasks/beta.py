"""
``google.cloud.tasks.v2beta3.CloudTasks``, by the RPCs of v2: its messages have the same fields but for a few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.cloud import tasks_v2beta3
from google.protobuf import json_format
from google.protobuf.message import Message

from gcp_emulator.faults import Faults
from gcp_emulator.rpc import Method, Service, unimplemented

NAME = "google.cloud.tasks.v2beta3.CloudTasks"
_STABLE = "google.cloud.tasks.v2."
_BETA = "google.cloud.tasks.v2beta3."
_OUTPUT_ONLY = ("stats", "type", "type_")
_ROUTING = "app_engine_routing_override"


def service(stable: Service) -> Service:
    """
    Return the service of v2beta3. Each call is one of *stable*, the service of v2, with its faults and counts. Fields that
    v2 lacks (pull tasks, times to live of a queue and its tasks, read masks) are refused with UNIMPLEMENTED.
    """
    methods = {name: _method(stable, name, method) for name, method in stable.methods.items()}
    return Service(NAME, methods, Faults(), stable.clock)


def _method(stable: Service, name: str, method: Method) -> Method:
    return Method(_run(stable, name, method), _beta(method.request), _beta(method.response))


def _run(stable: Service, name: str, method: Method) -> Callable[[Any], Any]:
    def run(request: Any) -> Any:
        given = json_format.MessageToDict(request, preserving_proto_field_name=True)
        if isinstance(queue := given.get("queue"), dict):
            for field in _OUTPUT_ONLY:
                queue.pop(field, None)
            if http := queue.pop("app_engine_http_queue", None):
                queue[_ROUTING] = http.get(_ROUTING, {})
        if mask := given.get("update_mask"):
            stable_mask = mask.replace("appEngineHttpQueue.", "").replace(
                "appEngineHttpQueue", "appEngineRoutingOverride"
            )
            given["update_mask"] = stable_mask
        try:
            asked = json_format.ParseDict(given, method.request())
        except json_format.ParseError as error:
            raise unimplemented(f"A field of v2beta3 that v2 lacks ({str(error).partition(chr(10))[0]})") from None
        answer = json_format.MessageToDict(stable.call(name, asked), preserving_proto_field_name=True)
        for found in (answer, *answer.get("queues", ())):
            if _ROUTING in found:
                found["app_engine_http_queue"] = {_ROUTING: found.pop(_ROUTING)}
        for packed in (answer.get("metadata", {}), answer.get("response", {})):
            if "@type" in packed:
                packed["@type"] = packed["@type"].replace(_STABLE, _BETA)
        return json_format.ParseDict(answer, _beta(method.response)())

    return run


def _beta(message: type[Message]) -> type[Message]:
    """
    The class of v2beta3 with the name of *message*; *message* itself where it is of no version.
    """
    if not message.DESCRIPTOR.full_name.startswith(_STABLE):
        return message
    found: type[Message] = getattr(tasks_v2beta3, message.DESCRIPTOR.name).pb()
    return found

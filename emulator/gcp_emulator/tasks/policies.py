"""
Policies of queues, which are remembered and not enforced, and the list of locations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2, policy_pb2

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Faults
from gcp_emulator.rpc import Method, RpcError, Service
from gcp_emulator.tasks import checks
from gcp_emulator.tasks.backlog import QueueState

_FIELDS = ("bindings", "audit_configs", "version")


class Policies:
    """
    ``SetIamPolicy``, ``GetIamPolicy`` and ``TestIamPermissions``: any caller has every permission under any policy.
    """

    def __init__(self, queue: Callable[[str], QueueState]) -> None:
        """
        Serve policies.

        Args:
            queue: Finds a queue by its name; raises ``RpcError`` if it is missing.
        """
        self._queue = queue

    def methods(self) -> dict[str, Method]:
        """
        The three RPCs.
        """
        tested = iam_policy_pb2.TestIamPermissionsResponse
        return {
            "SetIamPolicy": Method(self._set, iam_policy_pb2.SetIamPolicyRequest, policy_pb2.Policy),
            "GetIamPolicy": Method(self._get, iam_policy_pb2.GetIamPolicyRequest, policy_pb2.Policy),
            "TestIamPermissions": Method(self._test, iam_policy_pb2.TestIamPermissionsRequest, tested),
        }

    def _set(self, request: Any) -> Any:
        state = self._queue(request.resource)
        old = _policy(state)
        if request.policy.etag and request.policy.etag != old.etag:
            raise RpcError(
                grpc.StatusCode.ABORTED, "The policy has another etag by now; read it, change it and set it again."
            )
        policy = policy_pb2.Policy()
        policy.CopyFrom(old)
        for field in request.update_mask.paths or _FIELDS:
            if field != "etag":
                policy.ClearField(field)
                policy.MergeFrom(_only(request.policy, field))
        state.policy = policy
        return _policy(state)

    def _get(self, request: Any) -> Any:
        return _policy(self._queue(request.resource))

    def _test(self, request: Any) -> Any:
        self._queue(request.resource)
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)


def _policy(state: QueueState) -> Any:
    policy = policy_pb2.Policy()
    if state.policy is not None:
        policy.CopyFrom(state.policy)
    policy.ClearField("etag")
    policy.etag = hashlib.sha256(policy.SerializeToString(deterministic=True)).digest()[:8]
    return policy


def _only(policy: Any, field: str) -> Any:
    if field not in _FIELDS:
        raise checks.invalid(f"SetIamPolicyRequest.updateMask names an unknown field: {field}.")
    found = policy_pb2.Policy()
    if field == "version":
        found.version = policy.version
    else:
        getattr(found, field).extend(getattr(policy, field))
    return found


def locations(names: Callable[[str], Iterable[str]], clock: Clock) -> Service:
    """
    ``google.cloud.location.Locations``.

    Args:
        names: Ids of the locations of a project.
        clock: The clock of the service.
    """

    def listed(request: Any) -> Any:
        project = request.name.partition("/")[2]
        if not request.name.startswith("projects/") or not project or "/" in project:
            raise checks.invalid('Project name must be formatted: "projects/<PROJECT_ID>".')
        found = [_location(f"{request.name}/locations/{one}") for one in sorted(set(names(project)))]
        return locations_pb2.ListLocationsResponse(locations=found)

    def got(request: Any) -> Any:
        return _location(checks.location_name(request.name))

    methods = {
        "ListLocations": Method(listed, locations_pb2.ListLocationsRequest, locations_pb2.ListLocationsResponse),
        "GetLocation": Method(got, locations_pb2.GetLocationRequest, locations_pb2.Location),
    }
    return Service("google.cloud.location.Locations", methods, Faults(), clock)


def _location(name: str) -> Any:
    location = name.rpartition("/")[2]
    return locations_pb2.Location(name=name, location_id=location, labels={"cloud.googleapis.com/region": location})

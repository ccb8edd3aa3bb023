"""
Batches of tasks, policies, locations, and projects that are not served, through Google's client.
"""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2, tasks_v2beta3
from google.cloud.location import locations_pb2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.cloud.tasks_v2beta3.services.cloud_tasks.transports import CloudTasksGrpcTransport as BetaTransport

from gcp_emulator.clock import VirtualClock
from gcp_emulator.cloud import LocalCloud
from gcp_emulator.tasks import TasksServer
from gcp_emulator.testing import InProcessCloud

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
URL = "https://orders.test/"
BINDING = {"role": "roles/cloudtasks.enqueuer", "members": ["user:ann@example.com"]}


@pytest.fixture
def server():
    server = TasksServer(VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)), auto=False)
    server.locations = ("europe-west1",)
    server.start()
    server.create_queue(QUEUE)
    yield server
    server.stop()


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def client(channel):
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def requests(*names):
    return [{"task": {"name": f"{QUEUE}/tasks/{name}", "http_request": {"url": URL}}} for name in names]


def ids(server):
    return [task.name.rpartition("/")[2] for task in server.tasks()]


# Batches


def test_batch_creates_tasks(server, client):
    """
    The operation has ended, and its answer has the tasks.
    """
    operation = client.batch_create_tasks(request={"parent": QUEUE, "requests": requests("a", "b")})
    assert operation.done()
    assert [task.name for task in operation.result().tasks] == [f"{QUEUE}/tasks/a", f"{QUEUE}/tasks/b"]
    assert operation.metadata.state == tasks_v2.BatchCreateTasksMetadata.State.SUCCEEDED
    assert operation.metadata.start_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert ids(server) == ["a", "b"]


def test_batch_tells_which_task_was_not_created(server, client):
    """
    A name that is taken fails alone, and the metadata names its place and the reason.
    """
    operation = client.batch_create_tasks(request={"parent": QUEUE, "requests": requests("a", "a", "b")})
    assert operation.metadata.state == tasks_v2.BatchCreateTasksMetadata.State.PARTIALLY_SUCCEEDED
    [(index, status)] = operation.metadata.failed_requests.items()
    assert (index, status.code, status.message) == (1, 6, "Requested entity already exists")
    assert ids(server) == ["a", "b"]


def test_batch_with_the_same_id_is_made_once(server, client):
    """
    A batch that is sent again with its ``request_id`` is the operation that it was.
    """
    request = {"parent": QUEUE, "requests": [{"task": {"http_request": {"url": URL}}}], "request_id": "once"}
    first, second = client.batch_create_tasks(request=request), client.batch_create_tasks(request=request)
    assert first.operation.name == second.operation.name == f"{LOCATION}/operations/once"
    assert len(server.tasks()) == 1


def test_batch_that_fails_whole_is_an_error(client):
    """
    If no task could be deleted, the operation has failed, with the documented sentence.
    """
    operation = client.batch_delete_tasks(request={"parent": QUEUE, "names": [f"{QUEUE}/tasks/none"]})
    with pytest.raises(
        exceptions.Aborted, match=r"None of the requests succeeded, refer to BatchDeleteTasksMetadata\."
    ):
        operation.result()


def test_operation_is_found_by_its_name(client):
    """
    ``GetOperation`` finds an operation that was made, and no other one.
    """
    operation = client.batch_create_tasks(request={"parent": QUEUE, "requests": requests("a")}).operation
    assert client.get_operation({"name": operation.name}) == operation
    with pytest.raises(exceptions.NotFound):
        client.get_operation({"name": f"{LOCATION}/operations/none"})


def test_batch_deletes_tasks(server, client):
    """
    Tasks that are there are deleted; one that is not fails alone.
    """
    client.batch_create_tasks(request={"parent": QUEUE, "requests": requests("a", "b", "c")})
    names = [f"{QUEUE}/tasks/{name}" for name in ("a", "none", "c")]
    operation = client.batch_delete_tasks(request={"parent": QUEUE, "names": names, "request_id": "x"})
    assert operation.metadata.state == tasks_v2.BatchDeleteTasksMetadata.State.PARTIALLY_SUCCEEDED
    assert {index: status.code for index, status in operation.metadata.failed_requests.items()} == {1: 5}
    assert ids(server) == ["b"]


@pytest.mark.parametrize("count", [0, 101])
def test_batch_has_one_to_a_hundred_tasks(server, client, count):
    """
    More than the documented number, or none, is refused whole.
    """
    with pytest.raises(exceptions.InvalidArgument, match=f"this one has {count}"):
        client.batch_create_tasks(request={"parent": QUEUE, "requests": requests(*(f"n{n}" for n in range(count)))})
    assert server.tasks() == []


def test_batch_is_of_one_queue(client):
    """
    Requests and names of another queue are refused, and so is a queue that is missing.
    """
    other = f"{LOCATION}/queues/other"
    with pytest.raises(exceptions.InvalidArgument, match="must be the one of the batch"):
        client.batch_create_tasks(request={"parent": QUEUE, "requests": [{**requests("a")[0], "parent": other}]})
    with pytest.raises(exceptions.InvalidArgument, match="must be in the queue of the batch"):
        client.batch_delete_tasks(request={"parent": QUEUE, "names": [f"{other}/tasks/a"]})
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        client.batch_create_tasks(request={"parent": other, "requests": requests("a")})


def test_batch_of_the_beta(server, channel):
    """
    The client of v2beta3 reads its own messages out of the operation.
    """
    beta = tasks_v2beta3.CloudTasksClient(transport=BetaTransport(channel=channel))
    operation = beta.batch_create_tasks(request={"parent": QUEUE, "requests": requests("a")})
    assert [task.name for task in operation.result().tasks] == [f"{QUEUE}/tasks/a"]
    assert operation.metadata.state == tasks_v2beta3.BatchCreateTasksMetadata.State.SUCCEEDED


# Policies


def test_policy_is_remembered(client):
    """
    A queue without a policy has an empty one; what is set comes back, and permissions do not depend on it.
    """
    assert not client.get_iam_policy(request={"resource": QUEUE}).bindings
    made = client.set_iam_policy(request={"resource": QUEUE, "policy": {"bindings": [BINDING]}})
    found = client.get_iam_policy(request={"resource": QUEUE})
    assert found == made
    assert [(one.role, list(one.members)) for one in found.bindings] == [(BINDING["role"], BINDING["members"])]
    asked = ["cloudtasks.tasks.create", "cloudtasks.queues.delete"]
    assert list(client.test_iam_permissions(request={"resource": QUEUE, "permissions": asked}).permissions) == asked


def test_policy_with_an_old_etag_is_refused(client):
    """
    A policy that was read before another one was set does not take its place.
    """
    old = client.get_iam_policy(request={"resource": QUEUE})
    client.set_iam_policy(request={"resource": QUEUE, "policy": {"bindings": [BINDING]}})
    with pytest.raises(exceptions.Aborted, match="another etag"):
        client.set_iam_policy(request={"resource": QUEUE, "policy": {"etag": old.etag}})


def test_policy_changes_what_its_mask_names(client):
    """
    With a mask the fields stay that it does not name.
    """
    client.set_iam_policy(request={"resource": QUEUE, "policy": {"bindings": [BINDING], "version": 1}})
    made = client.set_iam_policy(
        request={"resource": QUEUE, "policy": {"version": 3}, "update_mask": {"paths": ["version"]}}
    )
    assert (made.version, len(made.bindings)) == (3, 1)


def test_policy_is_returned_whatever_version_is_asked(client):
    """
    The version that a caller can read changes nothing.
    """
    made = client.set_iam_policy(request={"resource": QUEUE, "policy": {"bindings": [BINDING], "version": 3}})
    asked = {"resource": QUEUE, "options": {"requested_policy_version": 1}}
    assert client.get_iam_policy(request=asked) == made


def test_policy_of_a_missing_queue_is_refused(client):
    """
    Only queues have policies.
    """
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        client.get_iam_policy(request={"resource": f"{LOCATION}/queues/none"})


# Locations


def test_locations_are_listed(client):
    """
    A project has the locations of its queues and those that the server was given.
    """
    listed = client.list_locations(locations_pb2.ListLocationsRequest(name="projects/p")).locations
    assert [location.location_id for location in listed] == ["europe-west1", "l"]
    assert listed[1].name == LOCATION
    found = client.get_location(locations_pb2.GetLocationRequest(name="projects/p/locations/anywhere"))
    assert found.location_id == "anywhere"
    with pytest.raises(exceptions.InvalidArgument):
        client.get_location(locations_pb2.GetLocationRequest(name="projects/p"))


def test_locations_come_in_one_page(client):
    """
    Filter, page size and token change nothing.
    """
    asked = locations_pb2.ListLocationsRequest(name="projects/p", filter="x", page_size=1, page_token="t")
    answer = client.list_locations(asked)
    assert (len(answer.locations), answer.next_page_token) == (2, "")


def test_all_services_are_in_process_too():
    """
    The channel of a cloud inside a test has operations and locations.
    """
    cloud = InProcessCloud()
    client = cloud.tasks_client()
    operation = client.batch_create_tasks(
        request={"parent": cloud.queue, "requests": [{"task": {"http_request": {"url": URL}}}]}
    )
    assert client.get_operation({"name": operation.operation.name}).done
    listed = client.list_locations(locations_pb2.ListLocationsRequest(name=f"projects/{cloud.project}"))
    assert [location.location_id for location in listed.locations] == ["us-central1"]


# Projects


def test_other_projects_are_refused_if_asked():
    """
    With ``project_only`` every call about another project is refused as the service refuses it.
    """
    cloud = LocalCloud("mine", project_only=True, smtp=False)
    with cloud, grpc.insecure_channel(cloud.tasks.address) as channel:
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        assert client.get_queue(name=cloud.queue()).name == cloud.queue()
        other = cloud.queue().replace("mine", "other")
        calls = (
            lambda: client.get_queue(name=other),
            lambda: client.create_task(parent=other, task={"http_request": {"url": URL}}),
            lambda: client.update_queue(queue={"name": other}),
            lambda: client.get_iam_policy(request={"resource": other}),
            lambda: list(client.list_queues(parent="projects/other/locations/us-central1")),
        )
        for call in calls:
            with pytest.raises(
                exceptions.PermissionDenied, match=r"Permission denied on resource project other\."
            ) as caught:
                call()
            assert caught.value.reason == "CONSUMER_INVALID"


def test_any_project_is_served_by_default(client):
    """
    Without that the servers take calls for any project.
    """
    name = "projects/other/locations/l/queues/q"
    client.create_queue(parent="projects/other/locations/l", queue={"name": name})
    assert client.get_queue(name=name).name == name

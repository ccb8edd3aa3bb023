"""
What the local Cloud Tasks does with each RPC and each field.
"""

from __future__ import annotations

from google.cloud import tasks_v2

from tests.emulator.conformance import Row, Service, Verdict, fields_of, requests_of

_API = "test_tasks_api.py::test_"
_BATCHES = "test_tasks_batches.py::test_"
_DELIVERY = "test_tasks_delivery.py::test_"
_TARGETS = "test_tasks_targets.py::test_"
_HTTP = "test_tasks_http.py::test_"
_LOGS = "test_tasks_journal.py::test_"
_REFUSED = f"{_API}refusal_is_the_one_of_the_service"

# The messages of requests to targets end with Request too.
_TARGET_MESSAGES = ("Http", "AppEngineHttp")
ASKED = {
    **{name: fields for name, fields in requests_of(tasks_v2.types).items() if name not in _TARGET_MESSAGES},
    **fields_of(
        tasks_v2.Task,
        tasks_v2.Queue,
        tasks_v2.HttpRequest,
        tasks_v2.AppEngineHttpRequest,
        tasks_v2.HttpTarget,
        tasks_v2.UriOverride,
        tasks_v2.RateLimits,
        tasks_v2.RetryConfig,
    ),
    "SetIamPolicy": ["resource", "policy", "update_mask"],
    "GetIamPolicy": ["resource", "options"],
    "TestIamPermissions": ["resource", "permissions"],
    "GetOperation": ["name"],
    "ListLocations": ["name", "filter", "page_size", "page_token"],
    "GetLocation": ["name"],
}


def _rows(rpc: str, test: str, *fields: str, verdict: Verdict = "supported", why: str = "") -> list[Row]:
    """
    Rows that one test shows: of fields, of which an empty one is the RPC itself.
    """
    return [Row(rpc, field, verdict, why, test) for field in fields]


_NO_KEYS = "There are no keys here; nothing is encrypted."
ROWS = [
    # Queues
    *_rows("CreateQueue", f"{_API}queue_gets_the_defaults_of_the_service", "", "parent", "queue"),
    *_rows("GetQueue", f"{_API}queue_gets_the_defaults_of_the_service", "", "name"),
    *_rows("ListQueues", f"{_API}queues_are_listed_in_pages", "", "parent", "page_size", "page_token"),
    *_rows("ListQueues", _REFUSED, "filter", verdict="refused", why="Its language is not implemented."),
    *_rows("UpdateQueue", f"{_API}update_queue_changes_what_the_mask_names", "", "queue", "update_mask"),
    *_rows("DeleteQueue", f"{_API}deleted_queue_keeps_its_name_for_days", "", "name"),
    *_rows("PauseQueue", f"{_API}pause_and_resume_change_the_state", "", "name"),
    *_rows("ResumeQueue", f"{_API}pause_and_resume_change_the_state", "", "name"),
    *_rows(
        "PurgeQueue",
        f"{_API}purge_deletes_tasks_and_keeps_names_taken",
        "",
        verdict="differs",
        why="Takes effect at once; the service may take a minute.",
    ),
    *_rows("PurgeQueue", f"{_API}purge_deletes_tasks_and_keeps_names_taken", "name"),
    # Tasks
    *_rows("CreateTask", f"{_API}task_is_stored_as_the_service_stores_it", "", "parent", "task"),
    *_rows("CreateTask", f"{_API}basic_view_hides_only_the_body", "response_view"),
    *_rows("GetTask", f"{_API}basic_view_hides_only_the_body", "", "name", "response_view"),
    *_rows("ListTasks", f"{_API}tasks_are_listed_in_pages", "", "parent", "page_size", "page_token"),
    *_rows("ListTasks", f"{_API}basic_view_hides_only_the_body", "response_view"),
    *_rows("DeleteTask", f"{_DELIVERY}deleted_task_is_not_dispatched", "", "name"),
    *_rows("RunTask", f"{_DELIVERY}paused_queue_dispatches_nothing_but_run_task", "", "name"),
    *_rows("RunTask", f"{_API}run_task_shows_the_asked_view", "response_view"),
    *_rows("BatchCreateTasks", f"{_BATCHES}batch_creates_tasks", "", "parent", "requests"),
    *_rows("BatchCreateTasks", f"{_BATCHES}batch_with_the_same_id_is_made_once", "request_id"),
    *_rows("BatchDeleteTasks", f"{_BATCHES}batch_deletes_tasks", "", "parent", "names", "request_id"),
    *_rows(
        "GetOperation",
        f"{_BATCHES}operation_is_found_by_its_name",
        "",
        verdict="differs",
        why="A batch has ended when its call returns, so no operation is ever seen running.",
    ),
    *_rows("GetOperation", f"{_BATCHES}operation_is_found_by_its_name", "name"),
    # Policies, keys, locations
    *_rows("SetIamPolicy", f"{_BATCHES}policy_is_remembered", "", verdict="differs", why="Remembered, not enforced."),
    *_rows("SetIamPolicy", f"{_BATCHES}policy_is_remembered", "resource", "policy"),
    *_rows("SetIamPolicy", f"{_BATCHES}policy_changes_what_its_mask_names", "update_mask"),
    *_rows("GetIamPolicy", f"{_BATCHES}policy_is_remembered", "", "resource"),
    *_rows(
        "GetIamPolicy",
        f"{_BATCHES}policy_is_returned_whatever_version_is_asked",
        "options",
        verdict="differs",
        why="Ignored; a policy comes back as it was set.",
    ),
    *_rows(
        "TestIamPermissions",
        f"{_BATCHES}policy_is_remembered",
        "",
        verdict="differs",
        why="Any caller has every permission.",
    ),
    *_rows("TestIamPermissions", f"{_BATCHES}policy_is_remembered", "resource", "permissions"),
    *_rows("GetCmekConfig", _REFUSED, "", "name", verdict="refused", why=_NO_KEYS),
    *_rows("UpdateCmekConfig", _REFUSED, "", "cmek_config", "update_mask", verdict="refused", why=_NO_KEYS),
    *_rows(
        "ListLocations",
        f"{_BATCHES}locations_are_listed",
        "",
        verdict="differs",
        why="Lists the locations of the project's queues and the one of the cloud.",
    ),
    *_rows("ListLocations", f"{_BATCHES}locations_are_listed", "name"),
    *_rows(
        "ListLocations",
        f"{_BATCHES}locations_come_in_one_page",
        "filter",
        "page_size",
        "page_token",
        verdict="differs",
        why="Ignored; all locations come at once.",
    ),
    *_rows("GetLocation", f"{_BATCHES}locations_are_listed", "", verdict="differs", why="Any location exists."),
    *_rows("GetLocation", f"{_BATCHES}locations_are_listed", "name"),
    # Messages
    *_rows(
        "Task",
        f"{_API}task_is_stored_as_the_service_stores_it",
        "",
        "name",
        "create_time",
        "schedule_time",
        "http_request",
    ),
    *_rows(
        "Task",
        f"{_TARGETS}app_engine_task_goes_to_the_local_address",
        "app_engine_http_request",
        why="At a local address.",
    ),
    *_rows("Task", f"{_TARGETS}app_engine_task_may_run_for_a_day", "dispatch_deadline"),
    *_rows(
        "Task",
        f"{_DELIVERY}task_shows_its_attempts",
        "dispatch_count",
        "response_count",
        "first_attempt",
    ),
    *_rows(
        "Task",
        f"{_DELIVERY}task_shows_its_attempts",
        "last_attempt",
        why="The sentence about an attempt without an answer is ours.",
    ),
    *_rows("Task", f"{_API}basic_view_hides_only_the_body", "view"),
    *_rows("Task", f"{_TARGETS}task_has_retries_of_its_own", "retry_config"),
    *_rows(
        "Queue", f"{_API}queue_gets_the_defaults_of_the_service", "", "name", "rate_limits", "retry_config", "state"
    ),
    *_rows(
        "Queue",
        f"{_TARGETS}routing_of_a_queue_is_kept_and_ignored",
        "app_engine_routing_override",
        verdict="differs",
        why="Kept and ignored: one local address stands for App Engine.",
    ),
    *_rows("Queue", f"{_TARGETS}queue_target_is_kept_and_removed", "http_target"),
    *_rows("Queue", f"{_API}purge_deletes_tasks_and_keeps_names_taken", "purge_time"),
    *_rows(
        "Queue",
        f"{_LOGS}operations_are_logged_as_the_service_logs_them",
        "stackdriver_logging_config",
        verdict="differs",
        why="The deletion of a task has no entry, because its form is not on record.",
    ),
    *_rows("HttpRequest", f"{_HTTP}task_is_pushed_over_http", "", "url", "body"),
    *_rows("HttpRequest", f"{_API}unusual_task_is_accepted", "http_method"),
    *_rows("HttpRequest", f"{_TARGETS}headers_of_the_connection_are_dropped", "headers"),
    *_rows(
        "HttpRequest",
        f"{_TARGETS}access_token_says_its_scope_and_account",
        "oauth_token",
        verdict="differs",
        why="A token that says its scope and account, which no Google API takes.",
    ),
    *_rows(
        "HttpRequest",
        f"{_HTTP}oidc_token_is_minted_for_each_dispatch",
        "oidc_token",
        why="Signed by a key of the local issuer.",
    ),
    *_rows(
        "AppEngineHttpRequest",
        f"{_TARGETS}app_engine_task_goes_to_the_local_address",
        "",
        "relative_uri",
        "headers",
        "body",
    ),
    *_rows("AppEngineHttpRequest", f"{_TARGETS}app_engine_task_is_stored_as_the_service_stores_it", "http_method"),
    *_rows(
        "AppEngineHttpRequest",
        f"{_TARGETS}app_engine_routing_is_kept_and_ignored",
        "app_engine_routing",
        verdict="differs",
        why="Kept and ignored: one local address stands for App Engine.",
    ),
    *_rows("HttpTarget", f"{_TARGETS}queue_overrides_the_address", "", "uri_override"),
    *_rows("HttpTarget", f"{_TARGETS}queue_overrides_method_and_headers", "http_method", "header_overrides"),
    *_rows("HttpTarget", f"{_TARGETS}queue_overrides_the_token", "oidc_token"),
    *_rows(
        "HttpTarget",
        f"{_TARGETS}queue_adds_an_access_token",
        "oauth_token",
        verdict="differs",
        why="As that of a task.",
    ),
    *_rows(
        "UriOverride",
        f"{_TARGETS}queue_overrides_the_address",
        "",
        "scheme",
        "host",
        "port",
        "path_override",
        "query_override",
        "uri_override_enforce_mode",
    ),
    *_rows(
        "RateLimits",
        f"{_API}queue_settings_override_defaults_whole",
        "",
        "max_dispatches_per_second",
        "max_concurrent_dispatches",
    ),
    *_rows("RateLimits", f"{_API}negative_burst_size_is_ignored", "max_burst_size", why="Set by the service."),
    *_rows(
        "RetryConfig",
        f"{_TARGETS}retries_follow_the_settings",
        "",
        "max_attempts",
        "max_retry_duration",
        "min_backoff",
        "max_backoff",
        "max_doublings",
    ),
]
SERVICE = Service(
    title="Cloud Tasks",
    name="google.cloud.tasks.v2.CloudTasks",
    rows=ROWS,
    asked=ASKED,
    about="`v2beta3` is served by the same RPCs. A handler's answers 429 and 503 do not slow a queue down; the service's do.",
    clients=frozenset({"client"}),
)

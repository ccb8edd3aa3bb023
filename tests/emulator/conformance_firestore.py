"""
What the local Firestore does with each RPC and field of ``google.firestore.v1``.
"""

from __future__ import annotations

from google.cloud.firestore_v1 import types

from tests.emulator.conformance import Row, Service, Verdict, fields_of, requests_of

TAGS = "Taken and not heeded: tags of requests show in the statistics of the service, and here are none."
LABELS = "Taken and not heeded."
PLANS = "The plans of this server are not those of the service."
PIPELINES = "Pipelines belong to the Enterprise edition; the call is refused with any fields."
IN_PIPELINES = "Such a value stands in pipelines, not in documents."


def _rows(rpc: str, fields: str, test: str, verdict: Verdict = "supported", why: str = "") -> list[Row]:
    """
    Return the rows of several fields; the RPC or message itself is a dot.
    """
    names = ["" if each == "." else each for each in fields.split()]
    return [Row(rpc, name, verdict, why, f"test_firestore_{test}") for name in names]


def _tags(rpc: str) -> list[Row]:
    return _rows(rpc, "request_options", "rpcs.py::test_request_options_are_not_heeded", "differs", TAGS)


ROWS = [
    *_rows("GetDocument", ". name mask transaction read_time", "rpcs.py::test_get_document"),
    *_tags("GetDocument"),
    *_rows(
        "ListDocuments",
        ". parent collection_id page_size page_token order_by mask transaction read_time show_missing",
        "rpcs.py::test_list_documents",
    ),
    *_tags("ListDocuments"),
    *_rows("CreateDocument", ". parent collection_id document_id document mask", "rpcs.py::test_create_document"),
    *_tags("CreateDocument"),
    *_rows("UpdateDocument", ". document update_mask mask current_document", "rpcs.py::test_update_document"),
    *_tags("UpdateDocument"),
    *_rows("DeleteDocument", ". name current_document", "rpcs.py::test_delete_document"),
    *_tags("DeleteDocument"),
    *_rows(
        "BatchGetDocuments",
        ". database documents mask transaction new_transaction read_time",
        "rpcs.py::test_batch_get_documents",
    ),
    *_tags("BatchGetDocuments"),
    *_rows(
        "BeginTransaction",
        ". database options options.read_only options.read_only.read_time options.read_write",
        "rpcs.py::test_begin_transaction",
    ),
    *_rows(
        "BeginTransaction",
        "options.read_write.retry_transaction",
        "rpcs.py::test_begin_transaction",
        "differs",
        "Its id is checked, but it gives the new transaction no priority.",
    ),
    *_rows(
        "BeginTransaction",
        "options.read_write.concurrency_mode",
        "rpcs.py::test_concurrency_mode_of_a_transaction_is_not_heeded",
        "differs",
        "Taken and not heeded: the server's own option says how conflicts end.",
    ),
    *_tags("BeginTransaction"),
    *_rows("Commit", ". database writes transaction", "rpcs.py::test_commit"),
    *_tags("Commit"),
    *_rows("Rollback", ". database transaction", "rpcs.py::test_rollback"),
    *_tags("Rollback"),
    *_rows("RunQuery", ". parent structured_query transaction new_transaction read_time", "rpcs.py::test_run_query"),
    *_rows("RunQuery", "explain_options", "rpcs.py::test_explanations_are_refused", "refused", PLANS),
    *_tags("RunQuery"),
    *_rows(
        "RunAggregationQuery",
        ". parent structured_aggregation_query transaction new_transaction read_time",
        "rpcs.py::test_run_aggregation_query",
    ),
    *_rows("RunAggregationQuery", "explain_options", "rpcs.py::test_explanations_are_refused", "refused", PLANS),
    *_tags("RunAggregationQuery"),
    *_rows(
        "PartitionQuery",
        ".",
        "rpcs.py::test_partition_query",
        "differs",
        "The parts are of the same size, also for small groups, which the service does not divide.",
    ),
    *_rows(
        "PartitionQuery",
        "parent structured_query partition_count page_token page_size read_time",
        "rpcs.py::test_partition_query",
    ),
    *_tags("PartitionQuery"),
    *_rows("ListCollectionIds", ". parent page_size page_token read_time", "rpcs.py::test_list_collection_ids"),
    *_tags("ListCollectionIds"),
    *_rows("BatchWrite", ". database writes", "rpcs.py::test_batch_write"),
    *_rows("BatchWrite", "labels", "rpcs.py::test_batch_write", "supported", LABELS),
    *_tags("BatchWrite"),
    *_rows("Write", ". database stream_id writes stream_token", "streams.py::test_write"),
    *_rows("Write", "labels", "streams.py::test_write", "supported", LABELS),
    *_tags("Write"),
    *_rows("Listen", ". database add_target remove_target", "streams.py::test_listen"),
    *_rows("Listen", "labels", "streams.py::test_listen", "supported", LABELS),
    *_tags("Listen"),
    *_rows(
        "ExecutePipeline",
        ". database structured_pipeline transaction new_transaction read_time auto_commit_transaction request_options",
        "rpcs.py::test_pipelines_are_refused",
        "refused",
        PIPELINES,
    ),
    *_rows(
        "StructuredQuery",
        ". select from_ where where.composite_filter where.field_filter where.unary_filter order_by start_at end_at offset limit",
        "messages.py::test_structured_query",
    ),
    *_rows(
        "StructuredQuery",
        "find_nearest",
        "messages.py::test_nearest_neighbours_are_refused",
        "refused",
        "The service finds neighbours by a vector index, which is not there.",
    ),
    *_rows("StructuredAggregationQuery", ". structured_query aggregations", "messages.py::test_aggregations"),
    *_rows("Aggregation", ". count count.up_to sum avg alias", "messages.py::test_aggregations"),
    *_rows(
        "Write message",
        ". update delete transform update_mask update_transforms current_document",
        "messages.py::test_writes",
    ),
    *_rows("Precondition", ". exists update_time", "messages.py::test_writes"),
    *_rows(
        "FieldTransform",
        ". field_path set_to_server_value increment maximum minimum append_missing_elements remove_all_from_array",
        "messages.py::test_transforms",
    ),
    *_rows(
        "Value",
        ". null_value boolean_value integer_value double_value timestamp_value "
        "string_value bytes_value reference_value geo_point_value array_value map_value",
        "messages.py::test_values",
    ),
    *_rows(
        "Value",
        "field_reference_value variable_reference_value function_value pipeline_value",
        "messages.py::test_values_of_pipelines_are_refused",
        "refused",
        IN_PIPELINES,
    ),
    *_rows("Target", ". query documents target_id", "streams.py::test_listen"),
    *_rows("Target", "resume_token read_time expected_count", "streams.py::test_listen_goes_on"),
    *_rows("Target", "once", "streams.py::test_listen_once"),
]
_SHARED = fields_of(
    *(types.StructuredQuery, types.StructuredAggregationQuery, types.StructuredAggregationQuery.Aggregation),
    *(types.Precondition, types.DocumentTransform.FieldTransform, types.Value, types.Target),
)
SERVICE = Service(
    title="Firestore",
    name="google.firestore.v1.Firestore",
    rows=ROWS,
    # The message has the name of an RPC.
    asked=requests_of(types) | {"Write message": fields_of(types.Write)["Write"]} | _SHARED,
    about="""
The same tests run on Google's emulator. Where the two differ on purpose, the tests say how and why: limits that Google's
emulator does not keep, for instance. The service `google.firestore.admin.v1` is not there: databases exist as soon as they
are named, and the indexes are those of a file.
""",
    clients=frozenset({"firestore_client"}),
)

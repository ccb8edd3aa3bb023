"""
Mistakes in the rules, each with the test that catches it, from delivery.py to document_paths.py.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

RULES_DELIVERY_TO_DOCUMENT_PATHS = (
    Mutant(
        "a delivery names the first dispatch always",
        "rules/delivery.py",
        "max(lock.dispatches, 1), lock.scheduled_by",
        "1, lock.scheduled_by",
        test="tests/unit/rules/test_delivery.py::test_body_comes_back",
    ),
    Mutant(
        "a delivery is written without its time",
        "rules/delivery.py",
        '            data["waitUntil"] = instant(self.wait_until)\n',
        "            pass\n",
        test="tests/unit/rules/test_delivery.py::test_body_comes_back",
    ),
    Mutant(
        "a body of any length is read",
        "rules/delivery.py",
        "        if len(body) > MAX_BODY:\n",
        "        if False:\n",
        test="tests/unit/rules/test_delivery.py::test_damaged_body_is_refused",
    ),
    Mutant(
        "a delivery may be for no document at all",
        "rules/delivery.py",
        "        if trouble_with_path(delivery.document) is not None:\n",
        "        if False:\n",
        test="tests/unit/rules/test_delivery.py::test_damaged_body_is_refused",
    ),
    Mutant(
        "a number in a body may be negative",
        "rules/delivery.py",
        "or not least <= value < 2**63:\n",
        "or not value < 2**63:\n",
        test="tests/unit/rules/test_delivery.py::test_damaged_body_is_refused",
    ),
    Mutant(
        "a second dispatch has the name of the first",
        "rules/delivery.py",
        "\\n{lock.sequence}\\n{max(lock.dispatches, 1)}",
        "\\n{lock.sequence}",
        test="tests/integration/rules/test_needs.py::test_key_goes_past_those_that_need_a_newer_release",
    ),
    Mutant(
        "a newer payload has the idempotency key of the older one",
        "rules/delivery.py",
        '    revised = f"\\n{revision}" if revision else ""\n',
        '    revised = ""\n',
        test="tests/unit/rules/test_delivery.py::test_newer_payload_has_an_idempotency_key_of_its_own",
    ),
    Mutant(
        "a URL may be longer than Cloud Tasks takes",
        "rules/delivery.py",
        '        if _url_length(made) > _LONGEST_URL:\n            made = f"{target}{mark}{numbers}"\n',
        "",
        test="tests/unit/rules/test_delivery.py::test_urls_end_where_a_delivery_could_not_be_named",
    ),
    Mutant(
        "the query of a URL is lost",
        "rules/delivery.py",
        '    mark = "?" if "?" not in target else',
        '    mark = "?" if True else',
        test="tests/unit/rules/test_delivery.py::test_urls_of_deliveries_end_at_2083_characters",
    ),
    Mutant(
        "any text in a query counts as a document",
        "rules/delivery.py",
        "    return (document, count(sequence) or 0) if valid_path(document) else None\n",
        "    return (document, count(sequence) or 0)\n",
        test="tests/unit/rules/test_delivery.py::test_query_names_a_valid_document_or_none",
    ),
    Mutant(
        "the digest of a path could be a path",
        "rules/delivery.py",
        '    return f"sha256:{hashlib',
        '    return f"sha256/{hashlib',
        test="tests/unit/rules/test_delivery.py::test_query_names_a_valid_document_or_none",
    ),
    Mutant(
        "a URL that is too long is taken",
        "rules/delivery.py",
        "        if length <= LONGEST_TARGET\n",
        "        if True\n",
        test="tests/unit/rules/test_delivery.py::test_urls_end_where_a_delivery_could_not_be_named",
    ),
    Mutant(
        "two kinds have one document for an id",
        "rules/document_paths.py",
        (
            'sha256(f"{self.env}\\n{self.kind}\\n{self.id}".encode()).hexdigest()[:2]\n'
            '        return f"{TASKS}/{digest}:{self.env}:{self.kind}:{escaped}"\n'
        ),
        (
            'sha256(f"{self.env}\\n{self.id}".encode()).hexdigest()[:2]\n'
            '        return f"{TASKS}/{digest}:{self.env}:any:{escaped}"\n'
        ),
        test="tests/integration/rules/test_needs.py::test_own_holder_renews_and_settles_what_became_newer",
    ),
    Mutant(
        "documents below a once-task count as once-tasks",
        "rules/document_paths.py",
        '    return path.startswith(_BELOW_TASKS) and path.count("/") == 1\n',
        "    return path.startswith(_BELOW_TASKS)\n",
        test="tests/unit/rules/test_document_paths.py::test_documents_are_recognised_by_their_paths",
    ),
    Mutant(
        "the id of a once-task is read as it is escaped",
        "rules/document_paths.py",
        "TaskName(parts[1], parts[2], unquote(parts[3]))",
        "TaskName(parts[1], parts[2], parts[3])",
        test="tests/integration/rules/test_retention.py::test_generator_that_stands_still_for_longer_than_its_occurrences_are_kept_goes_on",
    ),
    Mutant(
        "two environments share a resource key",
        "rules/document_paths.py",
        (
            '    digest = hashlib.sha256(f"{env}\\n{key}".encode()).hexdigest()[:2]\n'
            '    return f"{LOCKS}/{digest}:{env}:key:{escaped}"\n'
        ),
        (
            '    digest = hashlib.sha256(f"{key}".encode()).hexdigest()[:2]\n'
            '    return f"{LOCKS}/{digest}:any:key:{escaped}"\n'
        ),
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "two environments share their reminders",
        "rules/document_paths.py",
        '    return f"{LOCKS}/{hashlib.sha256(env.encode()).hexdigest()[:2]}:{env}:reminder"\n',
        '    return f"{LOCKS}/00:any:reminder"\n',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "two queues share the record of a standstill",
        "rules/document_paths.py",
        "    return f\"{LOCKS}/{digest}:{env}:queue:{_escaped(queue, 'queue')}\"\n",
        '    return f"{LOCKS}/00:{env}:queue:any"\n',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "two kinds share their windows",
        "rules/document_paths.py",
        'sha256(f"{env}\\n{event}\\n{kind}".encode()',
        'sha256(f"{env}\\n{event}".encode()',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "two digests share a document",
        "rules/document_paths.py",
        '    return f"{LOCKS}/{hashlib.sha256(id_.encode()).hexdigest()[:2]}:{env}:{_DIGEST}:{id_}"\n',
        '    return f"{LOCKS}/00:{env}:{_DIGEST}:any"\n',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "no document counts as a digest",
        "rules/document_paths.py",
        '    return path.startswith(_BELOW_LOCKS) and path.split(":", 3)[2:3] == [_DIGEST]\n',
        "    return False\n",
        test="tests/unit/rules/test_document_paths.py::test_documents_are_recognised_by_their_paths",
    ),
    Mutant(
        "a collection is registered as an origin",
        "rules/document_paths.py",
        '    return _registry_path(env, "collection", collection)\n',
        '    return _registry_path(env, "origin", collection)\n',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "an origin is registered as a collection",
        "rules/document_paths.py",
        '    return _registry_path(env, "origin", origin)\n',
        '    return _registry_path(env, "collection", origin)\n',
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "a long collection has no document in the register",
        "rules/document_paths.py",
        '    if len(escaped) > LONGEST_ID - len(f"xx:{env}:{what}:"):\n',
        "    if False:\n",
        test="tests/unit/rules/test_document_paths.py::test_two_things_never_share_a_document",
    ),
    Mutant(
        "documents in subcollections fit a template",
        "rules/document_paths.py",
        '    return re.compile("[^/]+".join(parts) + "/[^/]+")\n',
        '    return re.compile("[^/]+".join(parts) + "/.+")\n',
        test="tests/unit/rules/test_document_paths.py::test_documents_fit_templates",
    ),
    Mutant(
        "a named lock counts as a resource key",
        "rules/document_paths.py",
        'and path.split(":", 3)[2:3] == ["key"]\n',
        "\n",
        test="tests/unit/rules/test_document_paths.py::test_documents_are_recognised_by_their_paths",
    ),
    Mutant(
        "a resource key that is too long is taken",
        "rules/document_paths.py",
        '    _bounded("resource key", key, LONGEST_ID - around)\n',
        "    pass\n",
        test="tests/unit/rules/test_document_paths.py::test_longest_resource_key_fits_wherever_it_is_stored",
    ),
    Mutant(
        "two kinds share a lane of workers",
        "rules/document_paths.py",
        "    return PULL + kind\n",
        '    return PULL + "any"\n',
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "live and ended tasks of a key are mixed",
        "rules/document_paths.py",
        "f\"{prefix}/{'live' if live else 'done'}\"",
        'f"{prefix}/live"',
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "an ended task of a key counts as live",
        "rules/document_paths.py",
        'live=not lock.finished)}/{since}"',
        'live=True)}/{since}"',
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "two keys share their waiting tasks",
        "rules/document_paths.py",
        '    return f"{env}/{_escaped(key)}"\n',
        '    return f"{env}/any"\n',
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "tasks that wait for a key are sorted by creation alone",
        "rules/document_paths.py",
        "{instant(wait_until or created)}/{instant(created)}",
        "{instant(created)}/{instant(created)}",
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "tasks of any state are counted for one",
        "rules/document_paths.py",
        '    return f"{env}/{kind}" if state is None else f"{env}/{kind}/{state}"\n',
        '    return f"{env}/{kind}"\n',
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
    Mutant(
        "a task whose cancellation was asked for counts as running",
        "rules/document_paths.py",
        "        state = CANCELLING\n",
        "        pass\n",
        test="tests/unit/rules/test_document_paths.py::test_strings_of_tasks_sort_and_separate",
    ),
)

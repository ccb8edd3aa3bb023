"""
Mistakes in identity and alerts, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

SERVICES = (
    Mutant(
        "a token without a signature is accepted by any mode",
        "services/identity.py",
        '        if self._mode != "platform":\n            return Denied',
        "        if False:\n            return Denied",
        test="tests/unit/services/test_identity.py::test_removed_signature_is_denied_with_the_setting_to_change",
    ),
    Mutant(
        "a removed signature is believed outside of Cloud Run",
        "services/identity.py",
        "        if self._service is None:\n            return Denied",
        "        if False:\n            return Denied",
        test="tests/unit/services/test_identity.py::test_removed_signature_is_believed_on_cloud_run_alone",
    ),
    Mutant(
        "a token of any algorithm is accepted",
        "services/identity.py",
        '        if header.get("alg") != "RS256":\n',
        "        if False:\n",
        test="tests/unit/services/test_identity.py::test_only_rs256_is_looked_at",
    ),
    Mutant(
        "extensions of a token are ignored",
        "services/identity.py",
        '        if "crit" in header:\n',
        "        if False:\n",
        test="tests/unit/services/test_identity.py::test_only_rs256_is_looked_at",
    ),
    Mutant(
        "a wrong signature is accepted",
        "services/identity.py",
        "        if raw is None or not key.verify(signed, raw):\n",
        "        if raw is None:\n",
        test="tests/integration/services/test_identity_http.py::test_forged_or_changed_tokens_are_denied",
    ),
    Mutant(
        "an expired token is accepted",
        "services/identity.py",
        "        if now > expires + self._skew:\n",
        "        if False:\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "a token of the future is accepted",
        "services/identity.py",
        "        if issued > now + self._skew:\n",
        "        if False:\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "a token is accepted before its time",
        "services/identity.py",
        "            if begins is None or begins > now + self._skew:\n",
        "            if begins is None:\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "a token of any issuer is accepted",
        "services/identity.py",
        "        if not isinstance(issuer, str) or issuer not in ISSUERS:\n",
        "        if not isinstance(issuer, str):\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "a token for another audience is accepted",
        "services/identity.py",
        "        if not isinstance(audience, str) or audience not in self._audiences:\n",
        "        if not isinstance(audience, str):\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "an account that is not verified is accepted",
        "services/identity.py",
        '        if not isinstance(email, str) or claims.get("email_verified") is not True:\n',
        "        if not isinstance(email, str):\n",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "any account may call",
        "services/identity.py",
        "        if email not in self._callers:\n",
        "        if False:\n",
        test="tests/unit/services/test_identity.py::test_nobody_may_call_where_nobody_is_configured",
    ),
    Mutant(
        "the header that IAM has not checked is believed",
        "services/identity.py",
        ('        given = serverless if self._mode == "platform" and serverless is not None else authorization\n'),
        "        given = authorization\n",
        test="tests/unit/services/test_identity.py::test_either_header_alone_opens_in_platform_mode",
    ),
    Mutant(
        "a public service says nothing of it",
        "services/identity.py",
        "            self._told = True\n            logging",
        "            self._told = True\n            if False: logging",
        test="tests/unit/services/test_identity.py::test_service_that_lets_the_public_in_is_told_once",
    ),
    Mutant(
        "a token of any length is read",
        "services/tokens.py",
        "    if len(token) > _MAX_TOKEN or token",
        "    if token",
        test="tests/unit/services/test_identity.py::test_token_of_any_length_is_not_read",
    ),
    Mutant(
        "a truth value counts as a time",
        "services/tokens.py",
        "    if isinstance(value, bool) or not isinstance(value, int | float) or not 0",
        "    if not isinstance(value, int | float) or not 0",
        test="tests/unit/services/test_identity.py::test_bad_claims_are_denied",
    ),
    Mutant(
        "each unknown key causes a fetch",
        "services/tokens.py",
        "        return self._tried is None or elapsed(self._tried, self._clock.mark()) >= pause\n",
        "        return True\n",
        test="tests/integration/services/test_identity_http.py::test_failed_fetch_is_cannot_tell_not_denied",
    ),
    Mutant(
        "a failed fetch forgets the known keys",
        "services/tokens.py",
        ("            self._trouble, self._tried = (sentence, error), self._clock.mark()\n            return\n"),
        (
            "            self._trouble, self._tried, self._keys = (sentence, error), "
            "self._clock.mark(), {}\n            return\n"
        ),
        test="tests/integration/services/test_identity_http.py::test_hanging_endpoint_is_bounded_and_holds_up_no_known_key",
    ),
    Mutant(
        "a forked child waits for a lock of its parent",
        "services/tokens.py",
        "        if self._forks != forks.generation:\n            self._lock",
        "        if False:\n            self._lock",
        test="tests/integration/services/test_identity_http.py::test_fork_during_a_fetch_does_not_block_the_child",
    ),
    Mutant(
        "an answer without keys replaces the known keys",
        "services/tokens.py",
        "            if not keys:\n                raise ValueError",
        "            if False:\n                raise ValueError",
        test="tests/integration/services/test_identity_http.py::test_nonsense_instead_of_certificates_is_cannot_tell",
    ),
    Mutant(
        "any answer counts as that of the metadata server",
        "services/identity.py",
        'if answer.headers.get("Metadata-Flavor") == "Google" else ""',
        "",
        test="tests/integration/services/test_identity_http.py::test_region_is_the_metadata_server_s",
    ),
    Mutant(
        "a subject has several lines",
        "observe/alerts.py",
        '    text = printable(f"{prefix} {told}").strip()\n',
        '    text = f"{prefix} {told}".strip()\n',
        test="tests/unit/observe/test_alerts.py::test_alert_subject_is_one_bounded_line",
    ),
    Mutant(
        "a subject of any length is sent",
        "observe/alerts.py",
        '    return text if len(text) <= _MAX_SUBJECT else text[: _MAX_SUBJECT - 3] + "..."\n',
        "    return text\n",
        test="tests/unit/observe/test_alerts.py::test_alert_subject_is_one_bounded_line",
    ),
    Mutant(
        "a mail shows the query of a URL",
        "observe/alerts.py",
        '        "Target": without_data(alert.url or ""),\n',
        '        "Target": alert.url or "",\n',
        test="tests/unit/observe/test_alerts.py::test_alert_body_shows_the_target_without_its_data",
    ),
    Mutant(
        "a digest is told as one alert",
        "observe/alerts.py",
        "    if alert.is_digest:\n        return _digest_of(alert)\n",
        "",
        test="tests/unit/observe/test_alerts.py::test_alert_of_many_says_how_many_and_which",
    ),
    Mutant(
        "a lost result is told as a failure",
        "observe/alerts.py",
        (
            "        _RESULT_LOST if alert.result_lost else _DAMAGED if alert.damaged else "
            "_HAPPENED[alert.event],\n        *(["
        ),
        "        _DAMAGED if alert.damaged else _HAPPENED[alert.event],\n        *([",
        test="tests/unit/observe/test_alerts.py::test_alert_of_a_lost_result_says_that_nothing_runs_again",
    ),
    Mutant(
        "a mail has no evidence",
        "observe/alerts.py",
        "    if alert.evidence:\n",
        "    if False:\n",
        test="tests/unit/observe/test_alerts.py::test_alert_body_tells_all",
    ),
    Mutant(
        "an alert asks no question",
        "observe/alerts.py",
        '        *([f"Question: {alert.question}"] if alert.question else []),\n',
        "",
        test="tests/unit/observe/test_alerts.py::test_alert_of_a_doubt_asks_the_question_and_says_what_each_command_does",
    ),
    Mutant(
        "the commands of an alert have no effects",
        "observe/alerts.py",
        '    effects = alert.effects or ("",)',
        '    effects = ("",)',
        test="tests/unit/observe/test_alerts.py::test_alert_of_a_doubt_asks_the_question_and_says_what_each_command_does",
    ),
    Mutant(
        "a logged alert shows the query of a URL",
        "observe/alerts.py",
        '            "url": without_data(alert.url or ""),\n',
        '            "url": alert.url or "",\n',
        test="tests/unit/observe/test_alerts.py::test_alert_log_has_all_fields",
    ),
    Mutant(
        "control characters of a log line are in the mail",
        "observe/alerts.py",
        '"\\n".join("  " + printable(line) for line in lines)',
        '"\\n".join("  " + line for line in lines)',
        test="tests/unit/services/test_mail.py::test_mail_of_an_alert_has_no_line_of_the_task",
    ),
)

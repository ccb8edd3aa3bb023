"""
Generated changes that no test need catch, by the reason. The page ``docs/explanation/survivors.md`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REASONS: Mapping[str, Sequence[str]] = {
    "It changes a text for people and nothing else": (
        (
            "rules/verbs.py _of_lock: 'It has no holder, so there is nothing to free.' => 'It has no holder, so "
            "there is nothing to free.~'"
        ),
        (
            "rules/verbs.py _of_key: 'The function raised when it ran last; the next call runs it again.' => 'The "
            "function raised when it ran last; the next call runs it again.~'"
        ),
        "rules/refused.py cut_off: name in dropped => name not in dropped",
        "rules/refused.py cut_off: 'headers' => 'headers~'",
        "store/readers.py _of_form: value.string_value or _odd(value) => value.string_value",
        "store/lock_codec.py salvage: '.' => '.~'",
        (
            "store/fields.py _unstorable: 'it is nested too deeply, or holds itself.' => 'it is nested too deeply, "
            "or holds itself.~'"
        ),
        "store/listen.py listening: _LOGGER.debug('no listener on %s: %s', path, error) => pass",
        "store/listen.py listening: 'no listener on %s: %s' => 'no listener on %s: %s~'",
        "store/needs.py needs_newer: ', ' => ', ~'",
        "store/registry.py Registry.origins: 'it' => 'it~'",
    ),
    "It is the same: the caller looks whether it is true, or takes the last part": (
        "rules/evidence.py _is_request: return False => return None",
        "rules/expiry.py look: 1 => 2",
        "store/flow.py ChangeFlow._landed: return False => return None",
        "store/queries.py due_of: 1 => 2",
    ),
    "It is the same: any mark stands for the parts that differ, and an empty pair in a query is none": (
        "rules/floods.py _masked: '*' => '*~'",
        "rules/delivery.py delivery_url: '' if target.endswith(('?', '&')) else '&' => '&'",
    ),
    "Another condition of the same rule says it too: the due time begins with the environment": (
        (
            "rules/expiry.py newly_scheduled: after is None or after.env != env or after.status is not "
            "Status.SCHEDULED or features.unknown(after) => after is None or after.status is not Status.SCHEDULED "
            "or features.unknown(after)"
        ),
    ),
    "It runs when the module is loaded, before the change; with it, the library can't be imported": (
        "rules/record.py _camel: return head + ''.join((part.capitalize() for part in rest)) => return None",
    ),
    "It is a shortcut, or a condition that another one implies: without it the code behind it finds the same": (
        "rules/delivery.py delivery_url: path if _UNQUOTED.fullmatch(path) else quote(path) => quote(path)",
        "store/coalescing.py _after_failure: alone or one.alone => alone",
        (
            "store/coalescing.py Coalescer._end: if traffic.waiting: self._pass_on(traffic) => if True: "
            "self._pass_on(traffic)"
        ),
        "store/codec.py put_all: _INT_MIN <= value <= _INT_MAX => _INT_MIN < value <= _INT_MAX",
        "store/codec.py put_all: _INT_MIN <= value <= _INT_MAX => _INT_MIN <= value < _INT_MAX",
        (
            "store/codec.py as_loaded: if isinstance(value, Enum): return as_loaded(value.value) => if False: "
            "return as_loaded(value.value)"
        ),
        (
            "store/codec.py as_loaded: as_loaded(_jsonable(value)) if plain is None else plain(value) => "
            "as_loaded(_jsonable(value))"
        ),
        (
            "store/readers.py _text: text or value.WhichOneof('value_type') == 'string_value' => "
            "value.WhichOneof('value_type') == 'string_value'"
        ),
        "store/readers.py _status: _STATUSES.get(value.string_value) or Status(_text(value)) => Status(_text(value))",
        (
            "store/readers.py _flag: flag or value.WhichOneof('value_type') == 'boolean_value' => "
            "value.WhichOneof('value_type') == 'boolean_value'"
        ),
        "store/lock_codec.py encode_lock: known is not None and value == known => value == known",
        (
            "store/flow.py ChangeFlow._try: if extra.values and extra.seen is not None: check_conflicts(snapshot, extra) "
            "=> if True: check_conflicts(snapshot, extra)"
        ),
        "store/flow.py ChangeFlow._try: extra.values and extra.seen is not None => extra.seen is not None",
        "store/flow.py ChangeFlow._try: extra.values and extra.seen is not None => extra.values",
        (
            "store/flow.py ChangeFlow._try: self._hold if more is NOTHING else more.hold_in(snapshot, self._hold) "
            "=> more.hold_in(snapshot, self._hold)"
        ),
        (
            "store/json_data.py check: match value: case str(): _check_text(value, at or 'the text') case bool(): "
            "pass case int() if not -2 ** 63 ... => match value: case str(): _check_text(value, at or 'the text') "
            "case int() if not -2 ** 63 <= value < 2 ** 63..."
        ),
        (
            "store/queries.py _ranges_query: if len(ranges) > 1: either = _QueryType() "
            "either.where.composite_filter.op = _OR for floor, ceiling in rang... => if True: either = "
            "_QueryType() either.where.composite_filter.op = _OR for floor, ceiling in ranges: one = r..."
        ),
        "store/queries.py _ranges_query: len(ranges) > 1 => len(ranges) >= 1",
        "store/queries.py _ranges_query: False => True",
        "store/registry.py _LookedUp.find: known is not None and age < _AGAIN => age < _AGAIN",
        (
            "store/registry.py Registry.all: decode(document.fields['collection']) if 'collection' in "
            "document.fields else None => decode(document.fields['collection'])"
        ),
        (
            "store/registry.py Registry.all: decode(document.fields['forgottenAt']) if 'forgottenAt' in "
            "document.fields else None => decode(document.fields['forgottenAt'])"
        ),
        "store/registry.py Registry.all: sorted(found, key=lambda each: each.collection) => sorted(found)",
        "store/side_writes.py Consequences.freed: self.key is None or not self.frees => not self.frees",
        (
            "store/sizes.py check_room: (_bound(snapshot) + sum((write.ByteSize() for write in writes))) * _FACTOR "
            "<= most => (_bound(snapshot) + sum((write.ByteSize() for write in writes))) * _FACTOR < most"
        ),
        "store/sizes.py _bound: bound += source.message.ByteSize() => pass",
        "store/sizes.py _bound: 0 => 1",
        (
            "store/sizes.py apply: kind == 'delete' or not write.HasField('update_mask') => not "
            "write.HasField('update_mask')"
        ),
        "store/sizes.py apply: 'delete' => 'delete~'",
        "store/sizes.py size_of: '/' => '/~'",
        (
            "store/snapshot.py check_conflicts: not changes.values or changes.seen is None or (not "
            "snapshot.exists) => changes.seen is None or not snapshot.exists"
        ),
        (
            "store/snapshot.py check_conflicts: not changes.values or changes.seen is None or (not "
            "snapshot.exists) => not changes.values or not snapshot.exists"
        ),
        (
            "store/snapshot.py _frame: if exists: write.update_mask.SetInParent() "
            "write.update_mask.field_paths.extend(['lock'] if changed is None... => if True: "
            "write.update_mask.SetInParent() write.update_mask.field_paths.extend(['lock'] if changed is None e..."
        ),
        (
            "store/snapshot.py contents_of: if document.name: bare = DocumentType() "
            "bare.fields.MergeFrom(document.fields) document = bare => if True: bare = DocumentType() "
            "bare.fields.MergeFrom(document.fields) document = bare"
        ),
        "store/snapshot.py Update.applied: self.stamped and lock is not None => self.stamped",
        (
            "store/snapshot.py Update.document: if before is None and (not self.stamped): "
            "self.message.update.ClearField('name') return self.message.update => if False: "
            "self.message.update.ClearField('name') return self.message.update"
        ),
        "store/snapshot.py Update.document: self.changed or self.stamped => self.changed",
        (
            "store/store.py Store.consequences: consequences(snapshot, lock, self.estimate()) if "
            "needs_time(snapshot, lock) else NOTHING => consequences(snapshot, lock, self.estimate())"
        ),
        (
            "store/wire.py _changes: match answer.WhichOneof('response_type'): case 'document_change': change = "
            "answer.document_change name = ch... => match answer.WhichOneof('response_type'): case "
            "'document_change': change = answer.document_change name = ch..."
        ),
        (
            "store/codec.py decode: match value.WhichOneof('value_type'): case 'string_value': return "
            "value.string_value case 'integer_value': ... => match value.WhichOneof('value_type'): case "
            "'string_value': return value.string_value case 'integer_value': ..."
        ),
        "store/flow.py key_writes: more.key is None or hold is None => more.key is None",
        "store/flow.py ChangeFlow._again: hold is not None and tried.keyed => tried.keyed",
        (
            "store/transaction.py _after_error: error.failure is FailureClass.AMBIGUOUS and "
            "transaction.in_progress => error.failure is FailureClass.AMBIGUOUS"
        ),
        "rules/keys.py effect: before is not None and after.token != before.token => after.token != before.token",
        "rules/keys.py standing: holder is None or holder.token > key.token => holder is None",
    ),
    "The messages of protobuf note a mask that is extended by no names, too": (
        "store/snapshot.py _frame: write.update_mask.SetInParent() => pass",
    ),
    (
        "Each answer of Firestore has its result and the time of its read, and each of these times is "
        "one that the server has reached"
    ): (
        (
            "store/wire.py Wire.batch_get: if answer.missing: found[answer.missing.removeprefix(calls.prefix)] = "
            "(None, get_timestamp(answer.read_time)) => if True: found[answer.missing.removeprefix(calls.prefix)] "
            "= (None, get_timestamp(answer.read_time))"
        ),
        (
            "store/wire.py Wire.run_query: if answer.HasField('read_time'): read = get_timestamp(answer.read_time) "
            "self._saw(answer.read_time) => if True: read = get_timestamp(answer.read_time) "
            "self._saw(answer.read_time)"
        ),
        "store/wire.py Wire.count: 0 => 1",
        (
            "store/wire.py Wire.count: if answer.HasField('result'): counted = "
            "answer.result.aggregate_fields['n'].integer_value => if True: counted = "
            "answer.result.aggregate_fields['n'].integer_value"
        ),
        "store/queries.py overdue: read or now => read and now",
        "store/queries.py overdue: read or now => now",
        "store/queries.py overdue: read or now => read",
        "store/queries.py overdue: read or store.estimate() => read and store.estimate()",
        "store/queries.py overdue: read or store.estimate() => store.estimate()",
        "store/queries.py overdue: read or store.estimate() => read",
        "store/registry.py Registry.all: read or self._store.estimate() => read and self._store.estimate()",
        "store/registry.py Registry.all: read or self._store.estimate() => self._store.estimate()",
        "store/registry.py Registry.all: read or self._store.estimate() => read",
        "store/sessions.py all_of: read or store.estimate() => read and store.estimate()",
        "store/sessions.py all_of: read or store.estimate() => store.estimate()",
        "store/sessions.py all_of: read or store.estimate() => read",
    ),
    "It changes which writes share a call, and when, not the answer of a caller": (
        (
            "store/coalescing.py Coalescer.commit: None if traffic.waiting else self._begin(traffic, now) => "
            "self._begin(traffic, now)"
        ),
        (
            "store/coalescing.py Coalescer._begin: if len(traffic.calls) >= MOST_CALLS: return None => if True: "
            "return None"
        ),
        (
            "store/coalescing.py Coalescer._pass_on: if one.call is None: one.call = self._begin(traffic, "
            "self._clock.mark()) if one.call is None: return one.wa... => if True: one.call = self._begin(traffic, "
            "self._clock.mark()) if one.call is None: return one.wakeup.set()"
        ),
        (
            "store/coalescing.py Coalescer._turn: if not mine.sent: self._pass_on(traffic) => if True: "
            "self._pass_on(traffic)"
        ),
        (
            "store/coalescing.py Coalescer._begin: if len(traffic.calls) >= MOST_CALLS: traffic.calls = [call for "
            "call in traffic.calls if elapsed(call.since,... => if True: traffic.calls = [call for call in "
            "traffic.calls if elapsed(call.since, now) < SLOW] if len(traffic..."
        ),
    ),
    "It is the bound itself: at this very instant, or with this very value, both are right": (
        "store/coalescing.py Coalescer._begin: elapsed(call.since, now) < SLOW => elapsed(call.since, now) <= SLOW",
        "store/queries.py due_of: text < instant(written) => text <= instant(written)",
        "store/store.py Store.save: elapsed(failed, now) >= self._patience => elapsed(failed, now) > self._patience",
        (
            "store/store.py Store.ensure: elapsed(failed, now) >= self._patience => elapsed(failed, now) > "
            "self._patience"
        ),
        (
            "store/wire.py Wire.estimate: elapsed(mark, now) - surely > _MOST_BEHIND => elapsed(mark, now) - "
            "surely >= _MOST_BEHIND"
        ),
        "store/wire.py Wire._saw_changes: get_timestamp(latest) > known => get_timestamp(latest) >= known",
    ),
    "Both sides have the same length, or the value is replaced before it is read": (
        "store/coalescing.py Coalescer._send: zip(batch, answers, strict=True) => zip(batch, answers)",
        "store/coalescing.py Coalescer._send: True => False",
        (
            "store/queries.py range_query: zip(query.where.composite_filter.filters, (floor, ceiling), "
            "strict=True) => zip(query.where.composite_filter.filters, (floor, ceiling))"
        ),
        "store/queries.py range_query: True => False",
        "store/snapshot.py Update.__init__: self.depth = 0 => pass",
        "store/snapshot.py Update.__init__: 0 => 1",
        (
            "store/snapshot.py Update.document: zip(self.stamped, self.result.transform_results, strict=True) => "
            "zip(self.stamped, self.result.transform_results)"
        ),
        "store/snapshot.py Update.document: True => False",
        (
            "store/wire.py Wire.batch_write: zip(response.write_results, response.status, strict=True) => "
            "zip(response.write_results, response.status)"
        ),
        "store/wire.py Wire.batch_write: True => False",
        "store/wire.py Wire._saw_changes: zip(writes, results, strict=True) => zip(writes, results)",
        "store/wire.py Wire._saw_changes: True => False",
    ),
    (
        "It is about values that no caller hands over: a set holds no maps, and JSON data that was read "
        "back is JSON data"
    ): (
        (
            "store/codec.py _put_set: encode(item).SerializeToString(deterministic=True) => "
            "encode(item).SerializeToString()"
        ),
        "store/codec.py _put_set: True => False",
        (
            "store/json_data.py _bounded: raise _CannotHoldError(f'it is no JSON data ({text_of(error)}).') from "
            "None => pass"
        ),
    ),
    (
        "It leaves a resource key alone a try earlier, as the end of an attempt may: the next task that "
        "wants the key takes it over"
    ): (
        (
            "store/flow.py ChangeFlow.run: bool(tried.keyed) and error.failure in (FailureClass.MOVED, "
            "FailureClass.CONTENTION) => error.failure in (FailureClass.MOVED, FailureClass.CONTENTION)"
        ),
    ),
    "The code that gets the value drops that part as well": (
        "store/snapshot.py Update.document: self.message.update.ClearField('name') => pass",
        "store/store.py Store.reference: '/documents/' => '/documents/~'",
    ),
    (
        "It is in a function that is made when the module is loaded, before the change; with it, the "
        "tests of `store/` fail"
    ): (
        "store/readers.py _of_form: return read => return None",
        "store/readers.py _of_form: check(text) => pass",
        "store/readers.py _of_form: return text => return None",
        "store/readers.py _of_form: value.string_value or _odd(value) => value.string_value and _odd(value)",
        "store/readers.py _of_form: value.string_value or _odd(value) => _odd(value)",
    ),
    "It changes how much one look reads, or by how many calls, not its result": (
        "store/queries.py parked: 4 => 5",
        "store/queries.py waited_for: query.select.fields.add(field_path=_PARKED) => pass",
        "store/queries.py _all_in_range: if len(seen) == before: limit *= 2 => if True: limit *= 2",
        "store/queries.py _all_in_range: len(seen) == before => len(seen) != before",
        "store/queries.py _all_in_range: 2 => 3",
        "store/queries.py _due_in_ranges: len(damaged) == known or len(documents) < most => len(damaged) == known",
        "store/queries.py head_query: 1 => 2",
        (
            "store/queries.py overdue: f'{env}/{PULL}~' if pulled is None else f'{env}/{lane}{AFTER}' => "
            "f'{env}/{lane}{AFTER}'"
        ),
        "store/queries.py with_due: 100 if area.templates else 1 => 100",
        "store/queries.py with_due: 100 if area.templates else 1 => 1",
        "store/queries.py with_due: 100 => 101",
        "store/queries.py with_due: 1 => 2",
        "store/queries.py _first_due: 1 => 2",
        "store/queries.py _pages: if not fresh: page *= 2 => if True: page *= 2",
        "store/queries.py _pages: not fresh => fresh",
        "store/queries.py _pages: 2 => 3",
    ),
    "It changes the length of a pause, not whether there is another try": (
        "store/store.py Store.save: 0 => 1",
        "store/store.py Store.save: tries += 1 => pass",
        "store/store.py Store.save: 1 => 2",
        "store/store.py Store.ensure: 0 => 1",
        "store/store.py Store.ensure: tries += 1 => pass",
        "store/store.py Store.ensure: 1 => 2",
    ),
}
"""Reason -> the changes, as a run names them."""
ARGUED: Mapping[str, str] = {change: reason for reason, changes in REASONS.items() for change in changes}


def page() -> str:
    """
    The page that lists them.
    """
    lines = [
        "# Generated changes that no test catches",
        "",
        "`make mutants-generated` makes small changes of `rules/` and `store/`, one at a time. A change turns a comparison",
        "round or moves its bound. It swaps `and` and `or`. It drops an operand, a statement, an argument or a case. It changes",
        "a number, a text or a truth value, or returns nothing. Each one is tried by the tests that run the changed function,",
        "the unit tests first. A change that no test catches fails the run, unless it is one of these.",
        "",
    ]
    for reason, changes in REASONS.items():
        lines += [f"## {reason}", "", *(f"- `{change}`" for change in changes), ""]
    return "\n".join(lines)

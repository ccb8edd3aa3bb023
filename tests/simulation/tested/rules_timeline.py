"""
Mistakes in the timeline and in the lines of acts, each with the test that catches it.
"""

from __future__ import annotations

from tests.simulation.mutant import Mutant

_TIMELINE = "tests/unit/rules/test_timeline.py::test_"
_ACTS = "tests/unit/rules/test_act_lines.py::test_"

RULES_TIMELINE = (
    Mutant(
        "the line of an act does not say that it was only intended",
        "rules/act_lines.py",
        '        "stage": stage,\n',
        '        "stage": DONE,\n',
        test=f"{_ACTS}intended_act_that_was_done_counts_once",
    ),
    Mutant(
        "acts on two documents have lines of one id",
        "rules/act_lines.py",
        "    said = json.dumps([document, act.sequence,",
        "    said = json.dumps([act.sequence,",
        test=f"{_ACTS}id_of_a_line_is_that_of_its_act",
    ),
    Mutant(
        "an act counts as intended after it was done",
        "rules/act_lines.py",
        "            if known is None or known.stage == INTENDED:\n",
        "            if known is None or told.stage == INTENDED:\n",
        test=f"{_ACTS}intended_act_that_was_done_counts_once",
    ),
    Mutant(
        "an act in record and trail has one source",
        "rules/act_lines.py",
        '        source = each.source if known is None else f"{each.source}, {known.source}"\n',
        "        source = each.source\n",
        test=f"{_ACTS}acts_of_record_and_trail_are_one",
    ),
    Mutant(
        "a dispatch belongs to the attempt before it",
        "rules/timeline_rows.py",
        "        return token + 1 if self.phase in _BEFORE_GRANT and not self.of_attempt else token\n",
        "        return token\n",
        test=f"{_TIMELINE}redispatch_belongs_to_the_attempt_that_comes",
    ),
    Mutant(
        "a failure has the token of the last attempt",
        "rules/timeline_rows.py",
        "                token=lock.token - lock.attempts + error.attempt if present else None,\n",
        "                token=lock.token if present else None,\n",
        test=f"{_TIMELINE}record_alone_tells_its_present_sequence",
    ),
    Mutant(
        "each person who has acted counts as proven",
        "rules/record.py",
        "        return Person(self.by, self.proven, self.claimed)\n",
        "        return Person(self.by, True, self.claimed)\n",
        test=f"{_TIMELINE}act_is_told_once_by_trail_and_record",
    ),
    Mutant(
        "an act does not say that its person is not proved",
        "rules/timeline_rows.py",
        "{act.person.said}",
        "{act.by}",
        test=f"{_TIMELINE}act_is_told_once_by_trail_and_record",
    ),
    Mutant(
        "a grant has the time of the process's clock",
        "rules/timeline_rows.py",
        "                at=granted or at,\n",
        "                at=at,\n",
        test=f"{_TIMELINE}process_that_stood_still_has_no_wrong_clock",
    ),
    Mutant(
        "a process that stood still counts as one whose clock is ahead",
        "rules/timeline_rows.py",
        "    behind = {of: off for of, off in most.items() if off < -SLACK}\n",
        "    behind = {of: off for of, off in most.items() if abs(off) > SLACK}\n",
        test=f"{_TIMELINE}process_that_stood_still_has_no_wrong_clock",
    ),
    Mutant(
        "the line of a sweeper is dated by the clock of the holder that it judges",
        "rules/timeline_rows.py",
        '    if own.get("event") in EVENTS and own.get("holder"):\n',
        '    if own.get("holder"):\n',
        test=f"{_TIMELINE}op_26_takeovers_are_in_order_though_clocks_differ_by_40_s",
    ),
    Mutant(
        "a field of a program is taken for the library's fields",
        "rules/timeline_rows.py",
        "    return own if isinstance(own, dict) else {}\n",
        "    return own or {}\n",
        test=f"{_TIMELINE}lines_of_others_are_left_out",
    ),
    Mutant(
        "a start line of an older release ends the timeline",
        "rules/timeline_rows.py",
        '        return parse_instant(str(own["grantedAt"]))\n    except (KeyError, ValueError):\n',
        '        return parse_instant(str(own["grantedAt"]))\n    except ValueError:\n',
        test=f"{_TIMELINE}start_line_of_an_older_release_has_the_time_of_its_clock",
    ),
    Mutant(
        "lines of another environment are taken",
        "rules/timeline_rows.py",
        ' and own.get("document") == document and own.get("env") == env\n',
        ' and own.get("document") == document\n',
        test=f"{_TIMELINE}lines_of_others_are_left_out",
    ),
    Mutant(
        "record and trail tell of two grants",
        "rules/timeline_rows.py",
        "        if settled or row.phase is Phase.GRANTED:\n",
        "        if settled:\n",
        test=f"{_TIMELINE}op_26_takeovers_are_in_order_though_clocks_differ_by_40_s",
    ),
    Mutant(
        "an identity token in the platform's words is shown",
        "rules/timeline_rows.py",
        '    said = " ".join(_TOKEN.sub("(token)", text).split())\n',
        '    said = " ".join(text.split())\n',
        test=f"{_TIMELINE}op_27_refused_deliveries_are_between_the_attempts",
    ),
    Mutant(
        "a counter that is no number ends the timeline",
        "rules/timeline_rows.py",
        "    except (TypeError, ValueError, OverflowError):\n        return None\n\n\ndef query_of",
        "    except OverflowError:\n        return None\n\n\ndef query_of",
        test=f"{_TIMELINE}damaged_lines_end_no_timeline",
    ),
    Mutant(
        "a URL that is none ends the timeline",
        "rules/timeline_rows.py",
        "    except ValueError:\n        return {}\n    return {name: values[0]",
        "    except KeyError:\n        return {}\n    return {name: values[0]",
        test=f"{_TIMELINE}damaged_lines_end_no_timeline",
    ),
    Mutant(
        "the earlier of two requests has got the grant",
        "rules/timeline_requests.py",
        "key=lambda line: line.at, reverse=True):\n",
        "key=lambda line: line.at):\n",
        test=f"{_TIMELINE}of_two_requests_of_one_trace_the_later_one_got_the_lease",
    ),
    Mutant(
        "an entry of a timeline has a time that is no JSON",
        "rules/timeline.py",
        '            "at": None if self.at is None else instant(self.at),\n',
        '            "at": self.at,\n',
        test=f"{_TIMELINE}entry_is_json_data",
    ),
    Mutant(
        "the timeline does not tell of gaps",
        "rules/timeline.py",
        '    if not document.startswith(f"{LOCKS}/"):\n',
        '    if document.startswith(f"{LOCKS}/"):\n',
        test=f"{_TIMELINE}gaps_are_between_the_attempts_that_are_known",
    ),
    Mutant(
        "a refused delivery stands behind all attempts of its sequence",
        "rules/timeline.py",
        "        if row.server is not None and each.server is not None and each.server > row.server:\n",
        "        if row.server is None:\n",
        test=f"{_TIMELINE}op_27_refused_deliveries_are_between_the_attempts",
    ),
    Mutant(
        "acts in records have no kind",
        "rules/timeline.py",
        "(None, None) if name is None else (name.kind, name.id)\n",
        "(None, None)\n",
        test=f"{_ACTS}acts_of_record_and_trail_are_one",
    ),
)

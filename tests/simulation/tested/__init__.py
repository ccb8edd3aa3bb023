"""
Mistakes that a named test catches.
"""

from __future__ import annotations

from tests.simulation.tested.rules_admin_to_delivery import RULES_ADMIN_TO_DELIVERY
from tests.simulation.tested.rules_evidence_to_named import RULES_EVIDENCE_TO_NAMED
from tests.simulation.tested.rules_owing_to_writes import RULES_OWING_TO_WRITES
from tests.simulation.tested.services import SERVICES

TESTED_MUTANTS = RULES_ADMIN_TO_DELIVERY + RULES_EVIDENCE_TO_NAMED + RULES_OWING_TO_WRITES + SERVICES

"""
Mistakes that a named test catches.
"""

from __future__ import annotations

from tests.simulation.tested.coalescing import COALESCING
from tests.simulation.tested.rules_admin import RULES_ADMIN
from tests.simulation.tested.rules_attempts_to_decisions import RULES_ATTEMPTS_TO_DECISIONS
from tests.simulation.tested.rules_children_to_links import RULES_CHILDREN_TO_LINKS
from tests.simulation.tested.rules_choices import RULES_CHOICES
from tests.simulation.tested.rules_delivery_to_document_paths import RULES_DELIVERY_TO_DOCUMENT_PATHS
from tests.simulation.tested.rules_evidence_to_floods import RULES_EVIDENCE_TO_FLOODS
from tests.simulation.tested.rules_journal import RULES_JOURNAL
from tests.simulation.tested.rules_keys_to_repair import RULES_KEYS_TO_REPAIR
from tests.simulation.tested.rules_reminders import RULES_REMINDERS
from tests.simulation.tested.rules_retention_to_verbs import RULES_RETENTION_TO_VERBS
from tests.simulation.tested.rules_timeline import RULES_TIMELINE
from tests.simulation.tested.rules_writes import RULES_WRITES
from tests.simulation.tested.services import SERVICES
from tests.simulation.tested.store import STORE
from tests.simulation.tested.tasks import TASKS

TESTED_MUTANTS = (
    RULES_ADMIN
    + RULES_ATTEMPTS_TO_DECISIONS
    + RULES_CHILDREN_TO_LINKS
    + RULES_CHOICES
    + RULES_DELIVERY_TO_DOCUMENT_PATHS
    + RULES_EVIDENCE_TO_FLOODS
    + RULES_JOURNAL
    + RULES_KEYS_TO_REPAIR
    + RULES_REMINDERS
    + RULES_RETENTION_TO_VERBS
    + RULES_TIMELINE
    + RULES_WRITES
    + STORE
    + COALESCING
    + SERVICES
    + TASKS
)

"""
``python -m examples.reports``
"""

import logging
import sys

from examples.reports.table import main

# Callers are not verified here, since all is in one process; the library warns of that, once.
logging.getLogger("gcp_oncetask").setLevel(logging.ERROR)
sys.exit(main())

"""
``python -m examples.reports``
"""

import logging
import sys

from examples.reports.table import main

# Callers are not verified here, because everything is in one process. The library logs one warning about that.
logging.getLogger("gcp_oncetask").setLevel(logging.ERROR)
sys.exit(main())

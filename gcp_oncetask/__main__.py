"""
``python -m gcp_oncetask``: see ``cli``.
"""

import sys

from gcp_oncetask.cli import main

sys.exit(main())

"""``python -m finx_sync``: the command line."""

import sys

from finx_sync.cli.main import main

sys.exit(main())

"""`python -m harness`."""

import sys

from harness.entry.commands.main import main

sys.exit(main())

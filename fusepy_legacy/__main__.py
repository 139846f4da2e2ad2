"""python -m fusepy_legacy is fusepy-passthrough."""

import sys

from fusepy_legacy.commands.passthrough import main

sys.exit(main())

"""fusepy-passthrough as an ordinary user, who need not be able to read Python or the package."""

import os
import sys

from fusepy_legacy import passthrough
from fusepy_legacy.commands.passthrough import main

NOBODY = 65534

if __name__ == "__main__":
    assert passthrough.Passthrough  # imported while root
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    sys.exit(main())

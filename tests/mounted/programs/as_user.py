"""Run a program of the old style, or the mirror, as an ordinary user who need not be able to read either.

Usage: as_user.py UID GID PROGRAM.py ARGUMENTS…; the program's main function is called.
"""

import ctypes
import os
import runpy
import sys

from fusepy_legacy import passthrough
from fusepy_legacy.commands import run
from fusepy_legacy.kernel import entry

PR_SET_DUMPABLE = 4  # linux/prctl.h

if __name__ == "__main__":
    user, group = int(sys.argv[1]), int(sys.argv[2])
    sys.argv = sys.argv[3:]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    run.install()
    assert passthrough.Passthrough  # imported while root
    main = runpy.run_path(sys.argv[0])["main"]
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    # Without it, /proc/self belongs to root (proc(5)), as it does for no program that a user starts.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        sys.exit(main())
    except entry.FuseError as error:  # as fusepy-run has it
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")

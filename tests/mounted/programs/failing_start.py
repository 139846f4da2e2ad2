"""A mirror whose fsinit fails, in the way that -o failure= says."""

import errno
import sys

from fusepy_legacy import Passthrough


class FailingStart(Passthrough):
    failure = "OSError"

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="failure")

    def fsinit(self):
        if self.failure == "OSError":
            raise OSError(errno.ENOSPC, "no room for the index")
        if self.failure == "RuntimeError":
            raise RuntimeError("the index is broken")
        if self.failure == "SystemExit":
            sys.exit("the index is gone")
        return -errno.EACCES


if __name__ == "__main__":
    sys.exit(FailingStart().run())

"""A mirror of a user whose quota is used up: said by write, or only by flush for a file called "late"."""

import errno
import os
import sys

from fusepy_legacy import Passthrough, PassthroughFile


def refuse():
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


class QuotaFile(PassthroughFile):
    def __init__(self, path, flags, *mode):
        super().__init__(path, flags, *mode)
        self.late = path.endswith("/late")

    def write(self, data, offset):
        return super().write(data, offset) if self.late else refuse()

    def flush(self):
        super().flush()
        if self.late:
            refuse()


class Quota(Passthrough):
    file_class = QuotaFile


if __name__ == "__main__":
    sys.exit(Quota().run())

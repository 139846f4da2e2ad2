"""A mirror with kernel I/O, but for opens with O_SYNC: their objects are asked, and read in capitals."""

import os
import sys

from fusepy_legacy import Passthrough, PassthroughFile


class AskedFile(PassthroughFile):
    kernel_io = True

    def __init__(self, path, flags, *mode):
        super().__init__(path, flags, *mode)
        self.asked = bool(flags & os.O_SYNC)
        self.direct_io = self.asked and self.filesystem.how == "direct_io"

    def fileno(self):
        return None if self.asked and self.filesystem.how == "fileno" else self.fd

    def read(self, length, offset):
        return super().read(length, offset).upper()


class Asking(Passthrough):
    file_class = AskedFile

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="how")


if __name__ == "__main__":
    sys.exit(Asking().run())

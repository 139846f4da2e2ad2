"""A mirror that notes its end: fsdestroy makes the file that -o note= names."""

import os
import sys

from fusepy_legacy import Passthrough


class Farewell(Passthrough):
    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="note")

    def fsdestroy(self):
        os.mkdir(self.note)


if __name__ == "__main__":
    sys.exit(Farewell().run())

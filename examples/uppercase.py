#!/usr/bin/env python3
"""A mirror that shouts: reading gives the text of the files below in capital letters.

uppercase.py MOUNTPOINT -o root=DIR
"""

import sys

from fusepy_legacy import Passthrough, PassthroughFile


class UppercaseFile(PassthroughFile):
    def read(self, length, offset):
        return super().read(length, offset).upper()


class Uppercase(Passthrough):
    file_class = UppercaseFile


if __name__ == "__main__":
    sys.exit(Uppercase().run())

"""A mirror with defects: whatever is called "broken" makes a handler raise what it should not."""

import sys

from fusepy_legacy import Passthrough, PassthroughDirectory, PassthroughFile


class RaisingFile(PassthroughFile):
    def __init__(self, path, flags, *mode):
        if path.endswith("/broken-open"):
            raise LookupError("open is broken")
        super().__init__(path, flags, *mode)
        self.path = path

    def read(self, length, offset):
        if self.path.endswith("/broken-read"):
            raise LookupError("read is broken")
        return super().read(length, offset)

    def write(self, data, offset):
        if self.path.endswith("/broken-write"):
            raise LookupError("write is broken")
        return super().write(data, offset)


class RaisingDirectory(PassthroughDirectory):
    def __init__(self, path):
        super().__init__(path)
        self.path = path

    def readdir(self, offset):
        if self.path.endswith("/broken-readdir"):
            raise LookupError("readdir is broken")
        yield from super().readdir(offset)


class Raising(Passthrough):
    file_class = RaisingFile
    dir_class = RaisingDirectory

    def getattr(self, path):
        if path.endswith("/broken-getattr"):
            raise LookupError("getattr is broken")
        return super().getattr(path)

    def mkdir(self, path, mode):
        if path.endswith("/broken-mkdir"):
            raise LookupError("mkdir is broken")
        super().mkdir(path, mode)


if __name__ == "__main__":
    sys.exit(Raising().run())

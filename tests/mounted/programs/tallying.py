"""A mirror that tallies what it is asked: the root's user.getattr, user.write (the largest) and user.copy."""

import sys

from fusepy_legacy import Passthrough, PassthroughFile


class TallyingFile(PassthroughFile):
    def write(self, data, offset):
        self.filesystem.tally["user.write"] = max(self.filesystem.tally["user.write"], len(data))
        return super().write(data, offset)

    def copy_file_range(self, *arguments):
        copied = super().copy_file_range(*arguments)
        self.filesystem.tally["user.copy"] += copied
        return copied


class Tallying(Passthrough):
    file_class = TallyingFile

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.tally = {"user.getattr": 0, "user.write": 0, "user.copy": 0}

    def getattr(self, path):
        self.tally["user.getattr"] += 1
        return super().getattr(path)

    def getxattr(self, path, name, size):
        if name not in self.tally:
            return super().getxattr(path, name, size)
        value = str(self.tally[name])
        return value if size else len(value)


if __name__ == "__main__":
    sys.exit(Tallying().run())

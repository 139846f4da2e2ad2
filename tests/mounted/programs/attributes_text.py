"""A filesystem with text in extended attributes; asked with size 0, its handlers say the size."""

import errno

from memory import Memory, serve


class Attributes(Memory):
    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.attributes = {}

    def setxattr(self, path, name, value, flags):
        self.attributes[path, name] = value
        return 0

    def getxattr(self, path, name, size):
        value = self.attributes.get((path, name))
        if value is None:
            return -errno.ENODATA
        return value if size else len(value.encode("utf-8"))

    def listxattr(self, path, size):
        names = [name for owner, name in self.attributes if owner == path]
        return names if size else len("".join(names)) + len(names)

    def removexattr(self, path, name):
        if self.attributes.pop((path, name), None) is None:
            return -errno.ENODATA
        return 0


def main():
    serve(Attributes)


if __name__ == "__main__":
    main()

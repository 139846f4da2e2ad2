"""A filesystem in the API of 2005, fuse-python's compat 0.1: tuples, getdir, and no option parser."""

import errno
import os
import stat

import fuse

fuse.fuse_python_api = (0, 1)

TEXT = b"from the last century\n"


class First(fuse.Fuse):
    # fuse-python 1.0.9 looks for these without having set them; Python 2 took the failure for a "no".
    methproxy = staticmethod(lambda name: None)
    multithreaded = False
    # There is no -f; what it debugs stays in the foreground.
    debug = True

    def getattr(self, path):
        if path == "/":
            return (stat.S_IFDIR | 0o755, 0, 0, 2, 0, 0, 0, 7, 8, 9)
        if path == "/text":
            return (stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, len(TEXT), 7, 8, 9)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def getdir(self, path):
        return [(".", 0), ("..", 0), ("text", stat.S_IFREG)]

    def open(self, path, flags):
        return 0

    def read(self, path, size, offset):
        return TEXT[offset : offset + size]

    def statfs(self):
        return (1024, 100, 50, 50, 10, 5, 200)


def main():
    First().main()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The smallest stateful filesystem: one directory, one file, and an object for each open of it."""

import errno
import stat
import sys

import fuse

from fusepy_legacy import Filesystem

CONTENT = b"Hello, world!\n"


class HelloFile:
    def __init__(self, path, flags, *mode):
        self.path = path

    def read(self, length, offset):
        return CONTENT[offset : offset + length]


class Hello(Filesystem):
    file_class = HelloFile

    def getattr(self, path):
        if path == "/":
            return fuse.Stat(st_mode=stat.S_IFDIR | 0o755, st_nlink=2)
        if path == "/hello":
            return fuse.Stat(st_mode=stat.S_IFREG | 0o444, st_nlink=1, st_size=len(CONTENT))
        return -errno.ENOENT

    def readdir(self, path, offset):
        for name in ".", "..", "hello":
            yield fuse.Direntry(name)


if __name__ == "__main__":
    sys.exit(Hello().run())

"""A read-only mirror of -o where=DIR, with paths relative to it: fsinit makes it the working directory."""

import os

import fuse
from memory import serve


class Here(fuse.Fuse):
    def __init__(self, *args, **kw):
        fuse.Fuse.__init__(self, *args, **kw)
        self.parser.add_option(mountopt="where")

    def fsinit(self):
        os.chdir(self.where)

    def getattr(self, path):
        return os.lstat("." + path)

    def readdir(self, path, offset):
        for name in os.listdir("." + path):
            yield fuse.Direntry(name)

    def read(self, path, size, offset):
        with open("." + path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def main():
    serve(Here)


if __name__ == "__main__":
    main()

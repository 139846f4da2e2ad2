"""A filesystem with a file that cannot be read, and, with -o unfinished, a start that fails."""

import stat

from memory import Memory, Node, serve


class Broken(Memory):
    unfinished = False

    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.parser.add_option(mountopt="unfinished", action="store_true")
        self.nodes["/broken"] = Node(stat.S_IFREG | 0o644, b"?")

    def fsinit(self):
        if self.unfinished:
            raise OSError(28, "no room for the index")

    def read(self, path, size, offset):
        if path == "/broken":
            raise ValueError("this file is broken")
        return Memory.read(self, path, size, offset)


def main():
    serve(Broken)


if __name__ == "__main__":
    main()

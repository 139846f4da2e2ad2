"""A filesystem whose files count how often they were read; how they are cached, open says by FuseFileInfo."""

import stat

import fuse
from memory import Memory, Node, serve


class Counting(Memory):
    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.reads = {}
        for name in "plain", "kept", "direct":
            self.nodes["/" + name] = Node(stat.S_IFREG | 0o644, b"" if name == "direct" else b"?")

    def open(self, path, flags):
        return fuse.FuseFileInfo(keep_cache=path == "/kept", direct_io=path == "/direct")

    def read(self, path, size, offset):
        if offset:
            return b""
        self.reads[path] = self.reads.get(path, 0) + 1
        return b"%d" % self.reads[path]


def main():
    serve(Counting)


if __name__ == "__main__":
    main()

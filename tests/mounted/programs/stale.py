"""A filesystem whose file changes by itself, and stays cached until Invalidate is called.

Writing to "quietly" and "loudly" changes it; the latter calls Invalidate. Writing to "missing" calls it for
a path that nobody has looked up.
"""

import stat

import fuse
from memory import Memory, Node, serve


class Stale(Memory):
    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        for name in "file", "quietly", "loudly", "missing":
            self.nodes["/" + name] = Node(stat.S_IFREG | 0o644, b"0")

    def open(self, path, flags):
        return fuse.FuseFileInfo(keep_cache=True)

    def write(self, path, data, offset):
        if path == "/missing":
            return self.Invalidate("/no/such/file") or len(data)
        self.nodes["/file"].data = data
        if path == "/loudly":
            return self.Invalidate("/file") or len(data)
        return len(data)


def main():
    serve(Stale)


if __name__ == "__main__":
    main()

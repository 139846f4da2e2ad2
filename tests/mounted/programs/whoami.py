"""A filesystem whose file says who reads it: uid, gid and pid."""

import stat

import fuse
from memory import Memory, Node, serve


class WhoAmI(Memory):
    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.nodes["/whoami"] = Node(stat.S_IFREG | 0o644)

    def open(self, path, flags):
        return fuse.FuseFileInfo(direct_io=True)

    def read(self, path, size, offset):
        context = self.GetContext()
        answer = b"%d %d %d" % (context["uid"], context["gid"], context["pid"])
        return answer[offset : offset + size]


def main():
    serve(WhoAmI)


if __name__ == "__main__":
    main()

"""A filesystem in memory, by paths alone: opening keeps nothing, and errors are negative numbers."""

import errno
import stat
import time

import fuse

fuse.fuse_python_api = (0, 2)


class Node(fuse.Stat):
    def __init__(self, mode, data=b""):
        now = int(time.time())
        links = 2 if stat.S_ISDIR(mode) else 1
        times = {"st_atime": now, "st_mtime": now, "st_ctime": now}
        fuse.Stat.__init__(self, st_mode=mode, st_nlink=links, **times)
        self.set(data)

    def set(self, data):
        self.data = data
        self.st_size = len(data)


class Tree(fuse.Fuse):
    """Names and attributes; what reads and writes is a subclass's affair."""

    def __init__(self, *args, **kw):
        fuse.Fuse.__init__(self, *args, **kw)
        self.nodes = {"/": Node(stat.S_IFDIR | 0o755)}

    def below(self, path):
        prefix = path.rstrip("/") + "/"
        return sorted(other for other in self.nodes if other.startswith(prefix) and other != "/")

    def names(self, path):
        start = len(path.rstrip("/")) + 1
        return [
            ".",
            "..",
            *(other[start:] for other in self.below(path) if "/" not in other[start:]),
        ]

    def getattr(self, path):
        return self.nodes.get(path, -errno.ENOENT)

    def mknod(self, path, mode, dev):
        if path in self.nodes:
            return -errno.EEXIST
        self.nodes[path] = Node(mode)
        return 0

    def mkdir(self, path, mode):
        return self.mknod(path, stat.S_IFDIR | mode, 0)

    def symlink(self, target, path):
        self.nodes[path] = Node(stat.S_IFLNK | 0o777, target.encode())

    def readlink(self, path):
        return self.nodes[path].data.decode()

    def unlink(self, path):
        if path not in self.nodes:
            return -errno.ENOENT
        del self.nodes[path]
        return 0

    def rmdir(self, path):
        if self.below(path):
            return -errno.ENOTEMPTY
        del self.nodes[path]
        return 0

    def rename(self, old, new):
        for path in [old, *self.below(old)]:
            self.nodes[new + path[len(old) :]] = self.nodes.pop(path)
        return 0

    def chmod(self, path, mode):
        self.nodes[path].st_mode = mode
        return 0

    def truncate(self, path, size):
        node = self.nodes[path]
        node.set(node.data[:size] + bytes(max(0, size - len(node.data))))
        return 0

    def utime(self, path, times):
        self.nodes[path].st_atime, self.nodes[path].st_mtime = times
        return 0


class Memory(Tree):
    def readdir(self, path, offset):
        for name in self.names(path):
            yield fuse.Direntry(name)

    def open(self, path, flags):
        return 0 if path in self.nodes else -errno.ENOENT

    def read(self, path, size, offset):
        if path not in self.nodes:
            return -errno.ENOENT
        return self.nodes[path].data[offset : offset + size]

    def write(self, path, data, offset):
        if path not in self.nodes:
            return -errno.ENOENT
        node = self.nodes[path]
        before = node.data[:offset].ljust(offset, b"\0")
        node.set(before + data + node.data[offset + len(data) :])
        return len(data)


def serve(filesystem):
    usage = "A test of fuse-python's API.\n\n" + fuse.Fuse.fusage
    server = filesystem(version="%prog " + fuse.__version__, usage=usage, dash_s_do="setsingle")
    server.parse(values=server, errex=1)
    server.main()


def main():
    serve(Memory)


if __name__ == "__main__":
    main()

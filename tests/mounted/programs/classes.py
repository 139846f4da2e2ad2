"""A filesystem with a file class and a directory class; user.calls of the root says what was called."""

import errno
import fcntl

import fuse
from memory import Tree, serve


class Classes(Tree):
    def __init__(self, *args, **kw):
        Tree.__init__(self, *args, **kw)
        self.calls = []
        memory = self

        class File:
            def __init__(self, path, flags, *mode):
                if path not in memory.nodes:
                    if not mode:
                        raise OSError(errno.ENOENT, "no such file")
                    memory.mknod(path, 0o100000 | mode[0], 0)
                self.path = path
                self.node = memory.nodes[path]
                self.note("create" if mode else "open")

            def note(self, call):
                memory.calls.append(call + " " + self.path)

            def read(self, length, offset):
                self.note("read")
                return self.node.data[offset : offset + length]

            def write(self, data, offset):
                self.note("write")
                self.node.set(self.node.data[:offset] + data + self.node.data[offset + len(data) :])
                return len(data)

            def ftruncate(self, length):
                self.note("ftruncate")
                self.node.set(self.node.data[:length])

            def fgetattr(self):
                return self.node

            def flush(self):
                self.note("flush")

            def fsync(self, datasync):
                self.note("fdatasync" if datasync else "fsync")

            def release(self, flags):
                self.note("release")

            def lock(self, cmd, owner, **kw):
                kinds = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "no"}
                self.note(kinds[kw["l_type"]] + "-lock")
                if cmd == fcntl.F_GETLK:
                    return fuse.Flock(l_type=fcntl.F_WRLCK, l_start=7, l_len=3, l_pid=1)
                return 0

        class Directory:
            def __init__(self, path):
                self.path = path
                memory.calls.append("opendir " + path)

            def readdir(self, offset):
                names = memory.names(self.path)
                for number in range(offset, len(names)):
                    yield fuse.Direntry(names[number], offset=number + 1)

            def releasedir(self):
                memory.calls.append("releasedir " + self.path)

        self.file_class = File
        self.dir_class = Directory

    def getxattr(self, path, name, size):
        value = "\n".join(self.calls)
        return value if size else len(value)


def main():
    serve(Classes)


if __name__ == "__main__":
    main()

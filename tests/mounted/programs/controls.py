"""A filesystem whose files are resized by ioctl(2), and say their size by it."""

import errno
import struct

from memory import Memory, serve

# asm-generic/ioctl.h: direction, size, type, number.
GET_SIZE = 2 << 30 | 8 << 16 | ord("E") << 8
SET_SIZE = 1 << 30 | 8 << 16 | ord("E") << 8 | 1
PING = ord("E") << 8 | 2


class Controls(Memory):
    def ioctl(self, path, cmd, arg, flags):
        if cmd == GET_SIZE:
            return struct.pack("=Q", self.nodes[path].st_size)
        if cmd == SET_SIZE:
            return self.truncate(path, struct.unpack("=Q", arg)[0])
        if cmd == PING:
            return 0 if arg is None else -errno.EPROTO
        return -errno.ENOTTY


def main():
    serve(Controls)


if __name__ == "__main__":
    main()

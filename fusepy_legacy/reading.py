"""Reading files with certainty: all that was asked for, and no waiting for what is no file.

All raise OSError as the calls they make do.
"""

import errno
import os
import stat


def read_fully(descriptor: int, length: int, offset: int) -> bytes:
    """Return `length` bytes from `offset`, fewer only at the end of the file.

    One pread(2) may return less than there is.
    """
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def check_regular(status: os.stat_result, name: str) -> None:
    """Raise EINVAL for what is no regular file: even to open a device may do something."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)


def read_regular(path: str, most: int) -> bytes:
    """Return a file's content, `most` bytes of it; EINVAL for what is no regular file.

    A FIFO, whose open waits for a writer, is not waited for (fifo(7)).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        check_regular(os.fstat(descriptor), path)
        return file.read(most)

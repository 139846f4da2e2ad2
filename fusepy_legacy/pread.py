"""pread(2) until everything is read: one call may return less than there is."""

import os


def read_fully(descriptor: int, length: int, offset: int) -> bytes:
    """Return `length` bytes from `offset`, fewer only at the end of the file. Raises OSError."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data

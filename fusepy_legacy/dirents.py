"""A directory read in pieces from one descriptor, with offsets to come back to.

os.scandir has no offsets, and the kernel asks for a large directory in many requests, each of which says
where to go on. getdents64 gives the backing filesystem's own cookies, which stay right while entries come
and go.
"""

import ctypes
import os
import struct
import sys
from typing import Iterator, List, NamedTuple

from fusepy_legacy import syscalls

_BUFFER_SIZE = 32768  # what glibc's readdir uses
_TOGETHER = 256  # entries of a batch that are handed out at once; a reply with attributes has room for fewer
_HEADER = struct.Struct("=QqHB")  # struct linux_dirent64, getdents(2)


class Dirent(NamedTuple):
    """One entry. `type` is an S_IF constant, 0 when unknown; `offset` is where the next entry starts."""

    name: str
    ino: int
    type: int
    offset: int


class DirectoryStream:
    """The entries of an open directory, in the backing filesystem's order, "." and ".." included.

    It borrows the descriptor. One thread at a time may read it; the kernel sees to that for the requests
    of one open directory. The inode numbers are those of the filesystem, with `bits` flipped.
    """

    def __init__(self, descriptor: int, bits: int = 0) -> None:
        self.descriptor = descriptor
        self._bits = bits
        self._buffer = ctypes.create_string_buffer(_BUFFER_SIZE)
        self._batch: List[Dirent] = []
        self._start = 0  # the offset of the batch's first entry
        self._index = 0  # the entry of the batch last handed out

    def entries(self, offset: int) -> Iterator[Dirent]:
        """Yield the entries from `offset` on: 0, or the `offset` of an entry that was yielded before.

        Raises OSError as getdents(2) does.
        """
        index = self._find(offset)
        while True:
            batch = self._batch
            while index < len(batch):
                self._index = index
                yield batch[index]
                index += 1
            start = batch[-1].offset if batch else offset
            self._batch = self._read()
            self._start = start
            index = 0
            if not self._batch:
                return

    def batches(self, offset: int) -> Iterator[List[Dirent]]:
        """Yield the same entries, many at a time."""
        index = self._find(offset)
        while True:
            while index < len(self._batch):
                self._index = index
                batch = self._batch[index : index + _TOGETHER]
                yield batch
                offset = batch[-1].offset
                index += _TOGETHER
            self._start = offset
            self._batch = []  # if reading fails, what is here has been handed out
            self._batch = self._read()
            index = 0
            if not self._batch:
                return

    def _find(self, offset: int) -> int:
        """Return the place of an offset in the batch at hand; seek when it is not there.

        The reader usually goes on behind the last entry it was given, or with that entry again when it
        had no room for it, or somewhere among those that it was given together.
        """
        batch = self._batch
        if offset != 0 and batch:
            for index in range(self._index, min(self._index + _TOGETHER, len(batch)) + 1):
                if (batch[index - 1].offset if index else self._start) == offset:
                    return index
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        self._batch = []
        return 0

    def _read(self) -> List[Dirent]:
        length = syscalls.getdents64(self.descriptor, self._buffer)
        records = self._buffer.raw[:length]
        encoding, bits = sys.getfilesystemencoding(), self._bits
        unpack, new = _HEADER.unpack_from, tuple.__new__  # which a NamedTuple's own __new__ calls
        batch = []
        position = 0
        while position < length:
            ino, offset, record_length, kind = unpack(records, position)
            start = position + _HEADER.size
            name = records[start : records.index(b"\0", start)]
            # DT_ constants are the S_IF ones, shifted (readdir(3): IFTODT).
            text = name.decode(encoding, "surrogateescape")
            batch.append(new(Dirent, (text, ino ^ bits, kind << 12, offset)))
            position += record_length
        return batch

"""The content of one encrypted file: only the blocks that are asked for are read."""

import errno
import os
from typing import Callable, Iterator, List, Tuple

from fusepy_legacy.crypt.content import (
    BLOCK_SIZE,
    HEADER_SIZE,
    ContentCipher,
    parse_header,
)
from fusepy_legacy.crypt.errors import BlockError
from fusepy_legacy.reading import read_fully
from fusepy_legacy.vault.report import why_not

PIECE = 256  # blocks that are read and decrypted at once: 1 MiB

Bad = Callable[[int, str], None]


class EncryptedFile:
    """A context manager that owns a descriptor. `size` is the plaintext's, in bytes.

    Raises OSError, and `InvalidHeader` for a file that is not one; no block of it can be read then.
    """

    def __init__(self, cipher: ContentCipher, descriptor: int) -> None:
        self.descriptor = descriptor
        try:
            self._cipher = cipher
            self._encrypted_size = os.fstat(descriptor).st_size
            self.size = cipher.plaintext_size(self._encrypted_size)
            self._file_id = b""
            if self._encrypted_size:
                self._file_id = parse_header(read_fully(descriptor, HEADER_SIZE, 0))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> "EncryptedFile":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)

    def pieces(self, start: int, end: int, bad: Bad) -> Iterator[Tuple[int, bytes]]:
        """Yield the plaintext from `start` to `end` as (offset, data), in order, 1 MiB at most.

        What is not yielded is a hole, or in a block for which `bad` was called with its number and
        what is wrong with it.
        """
        end = min(end, self.size)
        for first, stop in self._runs(start // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
            for block in range(first, stop, PIECE):
                for offset, data in self._read(block, min(PIECE, stop - block), bad):
                    skip = max(start - offset, 0)
                    data = data[skip : max(end - offset, 0)]
                    if data:
                        yield offset + skip, data

    def _runs(self, first: int, stop: int) -> Iterator[Tuple[int, int]]:
        """Yield from where to where blocks are not wholly in a hole of the encrypted file.

        A short last block always is: it is never a hole (contentenc/file_holes.go).
        """
        block_size = self._cipher.encrypted_block_size
        while first < stop:
            data = self._seek(self._cipher.block_offset(first), os.SEEK_DATA)
            begin = max(first, (data - HEADER_SIZE) // block_size)
            if begin >= stop:
                return
            hole = self._seek(max(data, self._cipher.block_offset(begin)), os.SEEK_HOLE)
            first = min(stop, max(begin + 1, -(-(hole - HEADER_SIZE) // block_size)))
            yield begin, first

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return os.lseek(self.descriptor, offset, whence)
        except OSError as error:  # ENXIO: nothing but a hole up to the end (lseek(2))
            is_hole = error.errno == errno.ENXIO
            if whence == os.SEEK_DATA and (not is_hole or self._is_cut()):
                return offset  # where reading will tell
            return self._encrypted_size

    def _is_cut(self) -> bool:
        return os.fstat(self.descriptor).st_size < self._encrypted_size

    def _read(self, first: int, count: int, bad: Bad) -> Iterator[Tuple[int, bytes]]:
        block_size = self._cipher.encrypted_block_size
        offset = self._cipher.block_offset(first)
        length = min(count * block_size, self._encrypted_size - offset)
        try:
            data = read_fully(self.descriptor, length, offset)
        except OSError as error:
            if count == 1:
                bad(first, error.strerror or str(error))
            else:  # a bad sector: all around it may be readable
                yield from self._read(first, count // 2, bad)
                yield from self._read(first + count // 2, count - count // 2, bad)
            return
        if len(data) < length:
            whole = len(data) // block_size
            for block in range(first + whole, first + count):
                bad(block, "the file was cut while it was read")
            data = data[: whole * block_size]
        begin = 0
        for hole in [*self._holes(data), -(-len(data) // block_size)]:
            part = data[begin : hole * block_size]
            yield from self._decrypt(first + begin // block_size, part, bad)
            begin = (hole + 1) * block_size

    def _holes(self, data: bytes) -> List[int]:
        """Say which blocks are all zero, which is a hole for gocryptfs, too."""
        size = self._cipher.encrypted_block_size
        zeros = bytes(size)
        first_bytes = enumerate(data[::size])
        return [
            n for n, byte in first_bytes if not byte and data[n * size : (n + 1) * size] == zeros
        ]

    def _decrypt(self, first: int, data: bytes, bad: Bad) -> Iterator[Tuple[int, bytes]]:
        while data:
            try:
                yield first * BLOCK_SIZE, self._cipher.decrypt_blocks(data, first, self._file_id)
                return
            except BlockError as error:
                block = first if error.block is None else error.block
                before = (block - first) * self._cipher.encrypted_block_size
                yield from self._decrypt(first, data[:before], bad)
                bad(block, why_not(error))
                first, data = block + 1, data[before + self._cipher.encrypted_block_size :]

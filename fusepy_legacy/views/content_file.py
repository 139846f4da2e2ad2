"""The content of one open file of an encrypted tree, read and written at any offset.

The file on the disk is the only state: its size and its header are asked for at each call, which costs two
system calls and is right whoever else has changed the file since.

Those who change a file do so one after the other, by a lock for each inode, which all opens of it share.
Readers take no lock: whoever catches a block, or the header, while it is being changed, finds that it does
not authenticate, and reads once more under the lock. So a read sees each block before or after a write.

Whole blocks are never read to be written, but for a short last one that is to grow. A write that fails
half-way (a full disk) leaves no torn block behind: what follows the last whole block is as it was, or cut
off. Only a full filesystem that writes elsewhere what it replaces, as btrfs does, may refuse to finish, to
put back and to cut off.
"""

import errno
import os
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import Dict, Iterator, MutableMapping, NamedTuple, Optional, Tuple

from fusepy_legacy import syscalls
from fusepy_legacy.crypt.content import (
    BLOCK_SIZE,
    HEADER_SIZE,
    ContentCipher,
    new_file_id,
    pack_header,
    parse_header,
)
from fusepy_legacy.crypt.errors import BlockError, InvalidHeader, OutOfRange
from fusepy_legacy.reading import read_fully

FALLOC_KEEP_SIZE = 0x01  # linux/falloc.h
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10


class Inode:
    """What all opens of one file share: whoever holds `lock` may look and change."""

    __slots__ = ("lock", "__weakref__")

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Inodes:
    """The inodes that are open. Safe for threads; an inode is forgotten with its last open file."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: MutableMapping[Tuple[int, int], Inode] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._open)

    def of(self, descriptor: int) -> Inode:
        """Return the inode of an open file."""
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino
        with self._guard:
            inode = self._open.get(key)
            if inode is None:
                inode = self._open[key] = Inode()
            return inode


class _State(NamedTuple):
    """A file at the moment: plain and encrypted size, and its ID, a new one where it has none yet."""

    size: int
    encrypted_size: int
    file_id: bytes

    @property
    def has_header(self) -> bool:
        return self.encrypted_size > HEADER_SIZE


class ContentFile:
    """Reads and writes the plaintext through `descriptor`, which it borrows.

    All methods raise OSError, and CryptError for what does not decrypt: `InvalidHeader` or a `BlockError`,
    and `OutOfRange` past the largest file.
    """

    def __init__(self, cipher: ContentCipher, descriptor: int, inodes: Inodes) -> None:
        self.descriptor = descriptor
        self._cipher = cipher
        self._inodes = inodes
        self._inode: Optional[Inode] = None

    @property
    def _lock(self) -> threading.Lock:
        if self._inode is None:  # two threads may get here, and find the same
            self._inode = self._inodes.of(self.descriptor)
        return self._inode.lock

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer at the end of the file."""
        try:
            return self._read(length, offset)
        except (BlockError, InvalidHeader):
            with self._lock:
                return self._read(length, offset)

    def _read(self, length: int, offset: int) -> bytes:
        try:
            first, skip, start, size = self._cipher.locate(offset, length)
        except OutOfRange:
            return b""  # no file is as large
        if first == 0:
            encrypted = read_fully(self.descriptor, HEADER_SIZE + size, 0)
            header, encrypted = encrypted[:HEADER_SIZE], encrypted[HEADER_SIZE:]
        else:
            encrypted = read_fully(self.descriptor, size, start)
            header = read_fully(self.descriptor, HEADER_SIZE, 0) if encrypted else b""
        if not encrypted:
            return b""
        plaintext = self._cipher.decrypt_blocks(encrypted, first, parse_header(header))
        if skip or len(plaintext) > length:
            return plaintext[skip : skip + length]
        return plaintext

    def write(self, data: bytes, offset: int) -> int:
        """Write at `offset`; return how many bytes, which on a full disk may be fewer."""
        with self._lock:
            return self._write(self._state(), data, offset)

    def append(self, data: bytes) -> int:
        """Write at the end."""
        with self._lock:
            state = self._state()
            return self._write(state, data, state.size)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeros, to `size` bytes."""
        with self._lock:
            if size == 0:
                os.ftruncate(self.descriptor, 0)
                return
            state = self._state()
            if size < state.size:
                self._shrink(state, size)
            elif size > state.size:
                self._grow(state, size)
            else:
                os.ftruncate(self.descriptor, state.encrypted_size)  # which sets the times

    def allocate(self, offset: int, length: int, keep_size: bool) -> None:
        """Reserve room for a range, and extend the file to its end unless `keep_size`."""
        blocks = self._cipher.locate(offset, length)
        with self._lock:
            syscalls.fallocate(self.descriptor, FALLOC_KEEP_SIZE, blocks.offset, blocks.length)
            state = self._state()
            if not keep_size and offset + length > state.size:
                self._grow(state, offset + length)

    def zero(self, offset: int, length: int, mode: int) -> None:
        """Make a range zero: whole blocks as holes, by fallocate(2) with `mode` and KEEP_SIZE.

        Where that fails each block is as it was, or zero.
        """
        with self._lock:
            state = self._state()
            end = min(offset + length, state.size)
            if offset < end:
                first, stop = -(-offset // BLOCK_SIZE), end // BLOCK_SIZE
                if first < stop:
                    self._zero_blocks(state, first, stop, mode | FALLOC_KEEP_SIZE)
                    self._write_zeros(state, offset, first * BLOCK_SIZE)
                    self._write_zeros(state, stop * BLOCK_SIZE, end)
                else:
                    self._write_zeros(state, offset, end)
            if not mode & FALLOC_KEEP_SIZE and offset + length > state.size:
                self._grow(state, offset + length)

    def seek(self, offset: int, whence: int) -> int:
        """Return where from `offset` on the next data or hole is (lseek(2), SEEK_DATA and SEEK_HOLE).

        A block is a hole when it lies wholly in a hole of the encrypted file; a short one never does.
        ENXIO behind the end, and for data where only a hole follows.
        """
        with self._lock:
            state = self._state()
            if not 0 <= offset < state.size:
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            block = offset // BLOCK_SIZE
            while True:
                data = self._next_data(self._cipher.block_offset(block), state)
                first = max(block, self._block_at(data))
                if whence == os.SEEK_DATA:
                    found = max(offset, first * BLOCK_SIZE)
                    if found >= state.size:
                        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
                    return found
                if first > block or first * BLOCK_SIZE >= state.size:
                    return min(max(offset, block * BLOCK_SIZE), state.size)
                hole = os.lseek(self.descriptor, data, os.SEEK_HOLE) - HEADER_SIZE
                block = max(block + 1, -(-hole // self._cipher.encrypted_block_size))
                if block * BLOCK_SIZE >= state.size:
                    return state.size

    def _next_data(self, offset: int, state: _State) -> int:
        try:
            return os.lseek(self.descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return state.encrypted_size  # its last block is whole, and in the hole

    def _block_at(self, offset: int) -> int:
        return (offset - HEADER_SIZE) // self._cipher.encrypted_block_size

    # With the lock held.

    def _state(self) -> _State:
        encrypted_size = os.fstat(self.descriptor).st_size
        if encrypted_size <= HEADER_SIZE:
            return _State(0, encrypted_size, new_file_id())
        file_id = parse_header(read_fully(self.descriptor, HEADER_SIZE, 0))
        return _State(self._cipher.plaintext_size(encrypted_size), encrypted_size, file_id)

    def _write(self, state: _State, data: bytes, offset: int) -> int:
        if not data:
            return 0
        end = offset + len(data)
        self._cipher.encrypted_size(end)  # OutOfRange, before anything is changed
        first, skip = divmod(offset, BLOCK_SIZE)
        last, rest = divmod(end, BLOCK_SIZE)
        short, used = divmod(state.size, BLOCK_SIZE)
        if used and first > short:
            with self._last_block_filled(state) as state:
                return self._write(state, data, offset)
        old: Dict[int, bytes] = {}
        if used and end > state.size:
            self._keep(short, old)  # it grows, for which there may be no room
        head = tail = b""
        if skip:
            head = self._old(state, first, old)[:skip].ljust(skip, b"\0")
        if rest and end < state.size:
            tail = self._old(state, last, old)[rest:]
        if head or tail:
            data = b"".join((head, data, tail))
        stored = self._put(state, first, data, old)
        return min(stored, end - first * BLOCK_SIZE) - skip

    def _write_zeros(self, state: _State, start: int, end: int) -> None:
        """Write zeros, all of them or the error is raised that keeps the rest from being written."""
        while start < end:
            start += self._write(state, bytes(end - start), start)
            state = self._state()

    def _old(self, state: _State, block: int, old: Dict[int, bytes]) -> bytes:
        """Return a block's plaintext, and keep its encrypted form in `old`."""
        if block * BLOCK_SIZE >= state.size:
            return b""
        self._keep(block, old)
        return self._cipher.decrypt_blocks(old[block], block, state.file_id)

    def _keep(self, block: int, old: Dict[int, bytes]) -> None:
        if block not in old:
            size, offset = self._cipher.encrypted_block_size, self._cipher.block_offset(block)
            old[block] = read_fully(self.descriptor, size, offset)

    def _put(self, state: _State, first: int, plaintext: bytes, old: Dict[int, bytes]) -> int:
        """Encrypt and write blocks; return how much of the plaintext is on the disk.

        On a full disk that is whole blocks, or the error is raised for none.
        """
        data = memoryview(self._cipher.encrypt_blocks(plaintext, first, state.file_id))
        start = self._cipher.block_offset(first)
        if not state.has_header:
            header = pack_header(state.file_id)
            if first == 0:
                start, data = 0, memoryview(header + data)
            else:
                os.pwrite(self.descriptor, header, 0)
        done, error = _write_fully(self.descriptor, data, start)
        if error is None:
            return len(plaintext)
        # A filesystem fails a whole folio when there is no room for a part of it (mm/filemap.c,
        # generic_perform_write). The torn block may end in one, and have had all its room before.
        torn = max(self._block_at(start + done), first)
        block_end = self._cipher.block_offset(torn + 1) - start
        more, still = _write_fully(self.descriptor, data[done:block_end], start + done)
        if still is None:
            return min((torn + 1 - first) * BLOCK_SIZE, len(plaintext))
        self._mend(state, torn, start + done + more, torn > first, old)
        if torn == first:
            raise error
        return (torn - first) * BLOCK_SIZE

    def _mend(self, state: _State, torn: int, end: int, some: bool, old: Dict[int, bytes]) -> None:
        """Undo what a failed write, which got to `end`, has done to block `torn` and behind it.

        A block that is not in `old`, and cannot be written to its end, was a hole: that it is again.
        """
        start = self._cipher.block_offset(torn)
        with suppress(OSError):
            os.pwrite(self.descriptor, old.get(torn) or bytes(max(end - start, 0)), start)
        size = max(state.encrypted_size, start if some else 0)
        if os.fstat(self.descriptor).st_size > size:
            os.ftruncate(self.descriptor, size)

    def _zero_blocks(self, state: _State, first: int, stop: int, mode: int) -> None:
        """Make whole blocks holes.

        A full disk is noticed when the pages at both ends are zero already (fs/ext4/extents.c,
        ext4_zero_range), and perhaps some in between: what became zero in part then does so as a whole.
        """
        start, end = self._cipher.block_offset(first), self._cipher.block_offset(stop)
        try:
            syscalls.fallocate(self.descriptor, mode, start, end - start)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                self._zero_damaged(state, first, stop)
            raise

    def _zero_damaged(self, state: _State, first: int, stop: int) -> None:
        zeros = bytes(self._cipher.encrypted_block_size)
        block = first
        while True:
            data = self._next_data(self._cipher.block_offset(block), state)
            block = max(block, self._block_at(data))
            if block >= stop:
                return
            with suppress(OSError):
                try:
                    self._old(state, block, {})
                except BlockError:
                    os.pwrite(self.descriptor, zeros, self._cipher.block_offset(block))
            block += 1

    @contextmanager
    def _last_block_filled(self, state: _State) -> Iterator[_State]:
        """Fill a short last block up with zeros, so that something may follow it; give what is then.

        It becomes what it was when that which is to follow fails.
        """
        block, used = divmod(state.size, BLOCK_SIZE)
        if not used:
            yield state
            return
        old: Dict[int, bytes] = {}
        self._put(state, block, self._old(state, block, old).ljust(BLOCK_SIZE, b"\0"), old)
        size = (block + 1) * BLOCK_SIZE
        try:
            yield _State(size, self._cipher.encrypted_size(size), state.file_id)
        except OSError:
            self._mend(state, block, state.encrypted_size, False, old)
            raise

    def _grow(self, state: _State, size: int) -> None:
        encrypted_size = self._cipher.encrypted_size(size)
        start = max(state.size, size - size % BLOCK_SIZE)
        if start < size:
            self._write_zeros(state, start, size)  # a short block is never a hole
            return
        with self._last_block_filled(state):
            if not state.has_header:
                os.pwrite(self.descriptor, pack_header(state.file_id), 0)
            os.ftruncate(self.descriptor, encrypted_size)

    def _shrink(self, state: _State, size: int) -> None:
        """Cut. Who dies between the two steps leaves a last block that does not authenticate."""
        block, used = divmod(size, BLOCK_SIZE)
        old: Dict[int, bytes] = {}
        if used:
            self._put(state, block, self._old(state, block, old)[:used], old)
        try:
            os.ftruncate(self.descriptor, self._cipher.encrypted_size(size))
        except OSError:  # of a file that is append-only by now, for one
            if used:
                self._mend(state, block, 0, False, old)
            raise


def _write_fully(descriptor: int, data: memoryview, offset: int) -> Tuple[int, Optional[OSError]]:
    """Write as much as can be; return how much that was, and the error that kept the rest from it."""
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], offset + done)
    except OSError as error:
        return done, error
    return done, None

"""Unfinished files of a restore: where a file is until it is complete, so that it can be gone on with.

Its name is derived from what it is to become, so that the next run finds it.
"""

import hashlib
import itertools
import os
import re
import stat
from contextlib import suppress
from typing import Container, NamedTuple, Tuple

from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.vault.tree import Entry

DAMAGED_MODE = 0o700  # of an unfinished file that has lost a block: starting anew reports it again

_RESUMABLE_MODE = 0o600
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(BLOCK_SIZE)


class Place(NamedTuple):
    """Where an object goes: its directory's descriptor, its name, and its name until it is complete."""

    directory: int
    name: str
    part: str


def place_of(entry: Entry, directory: int, name: str) -> Place:
    """Return the place of an entry in a directory of the destination."""
    status = entry.status
    key = b"%s\0%d\0%d" % (entry.stored, status.st_size, status.st_mtime_ns)
    return Place(directory, name, f".fusepy-vault.{hashlib.sha256(key).hexdigest()[:16]}.part")


def is_part(name: str) -> bool:
    """Whether a file is called as an unfinished one."""
    return re.match(r"\.fusepy-vault\.[0-9a-f]{16}\.part\Z", name) is not None


def part_name() -> str:
    """Return a name that nothing has, as of an unfinished file, so that a later run removes it."""
    return f".fusepy-vault.{os.urandom(8).hex()}.part"


def open_new(name: str, directory: int) -> int:
    """Make a file that only its owner may read, and return its descriptor; EEXIST if there is one."""
    return os.open(name, _NEW, _RESUMABLE_MODE, dir_fd=directory)


def open_part(place: Place, size: int, checkpoint: int) -> Tuple[int, int]:
    """Open the unfinished file, new or as an earlier run left it; return from where to go on.

    All but the last `checkpoint` bytes of it were on the disk when the earlier run ended, however it did.
    """
    if size > checkpoint:
        with suppress(OSError):
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(place.part, flags, dir_fd=place.directory)
            status = os.fstat(descriptor)
            ours = status.st_uid == os.geteuid() and status.st_nlink == 1
            if ours and status.st_mode == stat.S_IFREG | _RESUMABLE_MODE:
                certain = min(status.st_size, size) - checkpoint
                return descriptor, max(certain, 0) // BLOCK_SIZE * BLOCK_SIZE
            os.close(descriptor)
    remove_part(place)
    return open_new(place.part, place.directory), 0


def remove_part(place: Place) -> None:
    """Remove what has the unfinished object's name, if anything has."""
    with suppress(FileNotFoundError):
        os.unlink(place.part, dir_fd=place.directory)


def remove_stale_parts(directory: int, spared: Container[str]) -> None:
    """Remove the unfinished files in a directory that earlier runs left, but for some names.

    `directory` is a descriptor that can be listed.
    """
    for name in os.listdir(directory):
        if is_part(name) and name not in spared:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if status.st_uid == os.geteuid() and not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=directory)


def kept_time(directory: int, time: int) -> int:
    """Return what a new file in a directory has of a time of change, in ns: less on some filesystems.

    ext4 with small inodes keeps seconds until 2038, FAT every other one (utimensat(2) tells nobody).
    """
    name = part_name()
    descriptor = open_new(name, directory)
    try:
        os.utime(descriptor, ns=(time, time))
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=directory)


def write_sparse(descriptor: int, data: bytes, offset: int) -> None:
    """Write at an offset, leaving blocks of zeros out."""

    def is_zero(start: int) -> bool:
        block = data[start : start + BLOCK_SIZE]
        return block == _ZEROS[: len(block)]

    view = memoryview(data)
    for zero, starts in itertools.groupby(range(0, len(data), BLOCK_SIZE), is_zero):
        run = list(starts)
        position, end = run[0], min(run[-1] + BLOCK_SIZE, len(data))
        while not zero and position < end:
            position += os.pwrite(descriptor, view[position:end], offset + position)

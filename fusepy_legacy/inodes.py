"""Inode numbers of several filesystems shown as one, without two files of the same number.

Programs take two files with one device and one inode number for one file: tar and rsync would make hard links
of them. On a mount there is one device, so the number alone must tell the files of all filesystems apart, and
be the same at every mount, or a backup finds everything changed.

The first filesystem keeps its numbers. All others' have bits 48 to 62 changed (exclusive or) by a value that
is made from their fsid (statvfs(3)). ext4, btrfs and others make that from their UUID, so it stays when
device numbers change. Numbers below 2**48 so never collide, and only some network filesystems have larger
ones. A filesystem without an fsid is known by its device number; each is on Python 3.6, which does not tell.
"""

import hashlib
import os
import threading
from typing import Dict

from fusepy_legacy.kernel.attributes import Restated

_SHIFT = 48
_VALUES = 1 << 15  # bit 63 stays clear: programs take inode numbers for signed


class InodeNumbers:
    """The bits of each filesystem that has been met, by its st_dev. Safe for threads."""

    def __init__(self) -> None:
        self.bits: Dict[int, int] = {}
        self._guard = threading.Lock()

    def keep(self, device: int) -> None:
        """Let a filesystem keep its numbers, if none has been shown yet."""
        self.bits.setdefault(device, 0)

    def learn(self, device: int, descriptor: int) -> int:
        """Return the bits of a filesystem; `descriptor` is of any file on it."""
        with self._guard:
            if device not in self.bits:
                identity = getattr(os.fstatvfs(descriptor), "f_fsid", 0) or device
                value = _value(identity)
                taken = {bits >> _SHIFT for bits in self.bits.values()}
                while value in taken:
                    value = value % (_VALUES - 2) + 1
                self.bits[device] = value << _SHIFT
            return self.bits[device]


def virtual_number(path: str) -> int:
    """Return the inode number of a directory that is on no filesystem; no filesystem's bits are its own."""
    digest = hashlib.sha256(os.fsencode(path)).digest()
    return (_VALUES - 1) << _SHIFT | int.from_bytes(digest[:6], "big")


def _value(identity: int) -> int:
    """Return 1 to 32766; the other two are the first filesystem's and the virtual directories'."""
    digest = hashlib.sha256(str(identity).encode("ascii")).digest()
    return int.from_bytes(digest[:4], "big") % (_VALUES - 2) + 1


def numbered(status: os.stat_result, number: int, device: int) -> os.stat_result:
    """Return the attributes, by name, with another inode number and another device."""
    # A real stat_result would have to be made from all fields of any Python's, which takes 1.6 µs.
    return Restated(  # type: ignore[return-value]
        status, number, device, status.st_size, status.st_blocks
    )

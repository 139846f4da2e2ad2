"""What identifies files at every mount alike: numbers for virtual ones, and keys for those with many names.

Plain files have the numbers that inodes.py gives them, a virtual file has one made of its path. Device
numbers go into none of them: they may be others after the next boot.
"""

import hashlib
import os
import stat
from typing import Dict, Union

from fusepy_legacy.crypt.reverse import hard_link_path
from fusepy_legacy.root import Root
from fusepy_legacy.roots import Roots

_MADE = 1 << 62  # no filesystem numbers that high, and signed 64-bit integers hold it


def made_inode(text: bytes) -> int:
    """Return an inode number from 2^62 to 2^63 - 1 that follows from a text."""
    return _MADE | int.from_bytes(hashlib.sha256(text + b"\0INODE").digest()[:8], "big") >> 2


class Identities:
    """What identifies the files below one root, in the view."""

    def __init__(self, beneath: Union[Root, Roots]) -> None:
        self._beneath = beneath
        self.device = beneath.stat("/").st_dev
        self._begins: Dict[int, bytes] = {self.device: b""}

    def key_path(self, path: str, plain: str, status: os.stat_result) -> bytes:
        """Return what IDs and nonces are derived from: the encrypted path, or the inode instead.

        With several names a file is the same whichever it is opened by (crypt/reverse.py).
        """
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            return hard_link_path(self.begin(path, plain, status), status.st_ino)
        return os.fsencode(path[1:])

    def begin(self, path: str, plain: str, status: os.stat_result) -> bytes:
        """Return the encrypted path of the directory where a file's device begins, b"" for the root.

        A device that is mounted at several places below the root is taken to begin where it was met
        first.
        """
        known = self._begins.get(status.st_dev)
        if known is not None:
            return known
        while True:
            above, plain_above = path.rpartition("/")[0], plain.rpartition("/")[0]
            if not above or self._beneath.stat(plain_above).st_dev != status.st_dev:
                break
            path, plain = above, plain_above
        known = self._begins[status.st_dev] = os.fsencode(path[1:])
        return known

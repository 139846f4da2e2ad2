"""Sizes of open files: while one is open, the view shows none of what is added to it.

The last block of an encrypted file belongs to its size: of a plain file that has grown, another one is made.
So whoever copies a file that grows must get the size and the blocks of one moment, however often they ask
for the size, and though the kernel has one size for all who have the file open.
"""

import os
import threading
from typing import Dict, List, Tuple

_Key = Tuple[int, int]


class OpenSizes:
    """How large each open file is shown, by device and inode number. Safe for threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: Dict[_Key, List[int]] = {}  # size, how often it is open

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, status: os.stat_result) -> int:
        """Note an open of a file; return its size, which is not above that of an earlier open."""
        key = status.st_dev, status.st_ino
        with self._guard:
            known = self._open.setdefault(key, [status.st_size, 0])
            known[0] = min(known[0], status.st_size)
            known[1] += 1
            return known[0]

    def released(self, status: os.stat_result) -> None:
        """Note that an open of a file has ended."""
        key = status.st_dev, status.st_ino
        with self._guard:
            known = self._open[key]
            known[1] -= 1
            if not known[1]:
                del self._open[key]

    def shown(self, status: os.stat_result) -> int:
        """Return a file's size, which while it is open is not above what it was then."""
        known = self._open.get((status.st_dev, status.st_ino))
        return status.st_size if known is None else min(known[0], status.st_size)

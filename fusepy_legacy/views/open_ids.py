"""IDs of open files: of one file, the kernel's cache holds blocks that were made with one ID at a time.

A file that gets a second name, or another one, is shown with another ID and other blocks from then on. Who
had it open goes on with the old ones, and must not meet those of who opens it now.
"""

import os
import threading
from typing import Dict, Tuple

_Key = Tuple[int, int]


class OpenIds:
    """Which ID each open file has in the kernel's cache, by device and inode number. Safe for threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: Dict[_Key, Tuple[bytes, int]] = {}  # ID, how often it is open

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, status: os.stat_result, file_id: bytes) -> bool:
        """Note an open of a file if it may use the cache; tell whether it may."""
        with self._guard:
            known = self._open.setdefault((status.st_dev, status.st_ino), (file_id, 0))
            if known[0] != file_id:
                return False
            self._open[status.st_dev, status.st_ino] = (file_id, known[1] + 1)
            return True

    def released(self, status: os.stat_result) -> None:
        """Note that an open that was noted has ended."""
        key = status.st_dev, status.st_ino
        with self._guard:
            file_id, count = self._open.pop(key)
            if count > 1:
                self._open[key] = (file_id, count - 1)

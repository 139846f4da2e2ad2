"""Kernel I/O: the kernel reads and writes a file object's descriptor itself (FUSE_PASSTHROUGH, Linux 6.9).

What the kernel asks of us (fs/fuse/iomode.c, fs/fuse/passthrough.c):

- an inode has one backing id at a time, which all its opens share;
- opens with a backing id and opens that use the page cache do not mix on one inode, so the first open
  decides until the last one is closed;
- the id is got and given back by ioctl(2) on the device, which takes CAP_SYS_ADMIN.

Where the kernel refuses, the file object's read and write do the work, and nobody notices but the clock.
"""

import errno
import logging
import threading
from typing import Callable, Dict, Optional

from fusepy_legacy.kernel.nodes import Node

logger = logging.getLogger(__name__)

# Refusals that will be the same for every file.
_FOR_GOOD = (errno.EPERM, errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)


class _Backing:
    """A backing id in use, by so many opens of its node."""

    __slots__ = ("id", "opens")

    def __init__(self, number: int) -> None:
        self.id = number
        self.opens = 1


class Backings:
    """The backing ids of one mount, by node. Safe for threads: a lock guards the table."""

    def __init__(self) -> None:
        # Set by the session when both sides agreed on kernel I/O.
        self.open: Optional[Callable[[int], int]] = None
        self.close: Callable[[int], None] = lambda number: None
        self._guard = threading.Lock()
        self._by_node: Dict[int, _Backing] = {}

    def opened(self, node: Node, descriptor: int) -> int:
        """Return the backing id for one more open of a node, 0 when it has to do without.

        Called before the open is counted in `node.opens`.
        """
        if self.open is None:
            return 0
        with self._guard:
            backing = self._by_node.get(node.id)
            if backing is not None:
                backing.opens += 1
                return backing.id
            if node.opens:
                return 0  # the page cache is in use
            try:
                number = self.open(descriptor)
            except OSError as error:
                logger.debug("no kernel I/O: %s", error)
                if error.errno in _FOR_GOOD:
                    self.open = None
                return 0
            self._by_node[node.id] = _Backing(number)
            return number

    def is_shared(self, node: Node) -> bool:
        """Tell whether a node has a backing id, which its further opens must share."""
        return node.id in self._by_node

    def released(self, node: Node) -> None:
        """Give the backing id back with the last open that shares it."""
        with self._guard:
            backing = self._by_node[node.id]
            backing.opens -= 1
            if backing.opens == 0:
                del self._by_node[node.id]
                self.close(backing.id)

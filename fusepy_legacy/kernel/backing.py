"""Kernel I/O: the kernel reads and writes a file object's descriptor itself (FUSE_PASSTHROUGH, Linux 6.9).

What the kernel asks of us (fs/fuse/iomode.c, fs/fuse/passthrough.c):

- an inode has one backing id at a time, which all its opens share;
- opens with a backing id and opens that use the page cache do not mix on one inode, so the first open
  decides until the last one is closed;
- the id is got and given back by ioctl(2) on the device, which takes CAP_SYS_ADMIN;
- a mapping is of the backing file, and what is written through it changes times and blocks without a word
  to the kernel's copy of them. So that copy is not to be kept while one may be made.

Where the kernel refuses, the file object's read and write do the work, and nobody notices but the clock.
"""

import errno
import logging
import os
import threading
from typing import Callable, Dict, Optional, Set

from fusepy_legacy.kernel.nodes import Node

logger = logging.getLogger(__name__)

# Refusals that will be the same for every file.
_FOR_GOOD = (errno.EPERM, errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)


class _Backing:
    """A backing id in use, by so many opens of its node; so many of them may write through a mapping."""

    __slots__ = ("id", "opens", "mappable")

    def __init__(self, number: int) -> None:
        self.id = number
        self.opens = 0
        self.mappable = 0


class Backings:
    """The backing ids of one mount, by node. Safe for threads: a lock guards the table."""

    def __init__(self) -> None:
        # Set by the session when both sides agreed on kernel I/O.
        self.open: Optional[Callable[[int], int]] = None
        self.close: Callable[[int], None] = lambda number: None
        self._guard = threading.Lock()
        self._by_node: Dict[int, _Backing] = {}
        self.mappable: Set[int] = set()  # ids of nodes that programs may write to through a mapping

    def opened(self, node: Node, descriptor: Optional[int], flags: int) -> int:
        """Return the backing id for one more open of a node, 0 when it has to do without.

        Without a descriptor it can only share. `flags` are open(2)'s. Called before the open is counted in
        `node.opens`.
        """
        with self._guard:
            backing = self._by_node.get(node.id)
            if backing is None:
                if self.open is None or descriptor is None:
                    return 0
                if node.opens:
                    return 0  # the page cache is in use
                try:
                    backing = _Backing(self.open(descriptor))
                except OSError as error:
                    logger.debug("no kernel I/O: %s", error)
                    if error.errno in _FOR_GOOD:
                        self.open = None
                    return 0
                self._by_node[node.id] = backing
            backing.opens += 1
            if is_mappable(flags):
                backing.mappable += 1
                self.mappable.add(node.id)
            return backing.id

    def is_shared(self, node: Node) -> bool:
        """Tell whether a node has a backing id, which its further opens must share."""
        return node.id in self._by_node

    def released(self, node: Node, flags: int) -> None:
        """Give the backing id back with the last open that shares it; `flags` are those of the open."""
        with self._guard:
            backing = self._by_node[node.id]
            backing.opens -= 1
            if is_mappable(flags):
                backing.mappable -= 1
                if backing.mappable == 0:
                    self.mappable.remove(node.id)
            if backing.opens == 0:
                del self._by_node[node.id]
                self.close(backing.id)


def is_mappable(flags: int) -> bool:
    """Tell whether an open with these flags allows to write through a shared mapping: mmap(2), EACCES."""
    return flags & os.O_ACCMODE == os.O_RDWR

"""Open files and directories: the kernel's numbers for them, and the objects behind the numbers."""

import contextlib
import errno
import functools
import itertools
import os
import threading
from typing import Any, Callable, Dict, Iterator, Optional, Set, Tuple

from fusepy_legacy.kernel.nodes import Node


class Handle:
    """One open file or directory.

    `object` is what the filesystem's open, create or opendir returned; `arguments` hands it on as the last
    argument of a handler, and is empty when the filesystem keeps nothing per open. `path` is the one it
    was opened by, for a file that has lost its name. `listing` is a directory's reading position. `backed`
    tells that the kernel does the input and output (backing.py); `settled` is the last change that a lock
    has made the kernel see (requests/locks.py). `users` are the kernel, until it releases the handle, and
    requests that borrow it; the last one calls `finish`.
    """

    __slots__ = (
        "number",
        "node",
        "object",
        "arguments",
        "path",
        "flags",
        "listing",
        "backed",
        "settled",
        "users",
        "finish",
    )

    def __init__(
        self, number: int, node: Node, value: Any, kept: bool, path: str, flags: int
    ) -> None:
        self.number = number
        self.node = node
        self.object = value
        self.arguments: Tuple[Any, ...] = (value,) if kept else ()
        self.path = path
        self.flags = flags
        self.listing: Any = None
        self.backed = False
        self.settled: Any = None
        self.users = 1
        self.finish: Optional[Callable[[], None]] = None


class Handles:
    """The table of open handles. Safe for threads: each method is one step on a dict, or holds a lock."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._numbers = itertools.count(1)
        self._by_number: Dict[int, Handle] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def add(self, node: Node, value: Any, kept: bool, path: str, flags: int) -> Handle:
        """Enter a new handle."""
        handle = Handle(next(self._numbers), node, value, kept, path, flags)
        self._by_number[handle.number] = handle
        return handle

    def get(self, number: int) -> Handle:
        """Return a handle; EBADF when the number is not in use."""
        try:
            return self._by_number[number]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def find(self, number: int) -> Optional[Handle]:
        """Return a handle, None when the number is not in use (any more)."""
        return self._by_number.get(number)

    def open_beside(self, node: Node) -> Set[Node]:
        """Return the other files of a node's directory that are open."""
        directory = node.parent
        known = directory.children if directory is not None else None
        if not known:
            return set()
        if len(known) < len(self._by_number):
            beside = {other for other in list(known.values()) if other.opens}
        else:
            handles = list(self._by_number.values())
            beside = {handle.node for handle in handles if handle.node.parent is directory}
        return beside - {node}

    def release(self, handle: Handle, finish: Callable[..., None], *arguments: Any) -> None:
        """Take a handle out of the table; call `finish` now, or when its last borrower is done."""
        self._by_number.pop(handle.number, None)
        with self._guard:
            handle.users -= 1
            if handle.users:
                handle.finish = functools.partial(finish, *arguments)
                return
        finish(*arguments)

    @contextlib.contextmanager
    def borrowed(self, node: Node) -> Iterator[Handle]:
        """Lend some open file of a node, which stays open meanwhile; ESTALE when there is none."""
        handle = self._borrow(node)
        try:
            yield handle
        finally:
            self._drop(handle)

    def _borrow(self, node: Node) -> Handle:
        with self._guard:
            for number in reversed(list(node.opens or ())):
                handle = self._by_number.get(number)
                if handle is not None and handle.users and _has_attributes(handle):
                    handle.users += 1
                    return handle
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _drop(self, handle: Handle) -> None:
        with self._guard:
            handle.users -= 1
            last = handle.users == 0
        if last and handle.finish is not None:
            finish, handle.finish = handle.finish, None  # it may refer to the handle: no cycle
            finish()


def _has_attributes(handle: Handle) -> bool:
    """Tell whether an open file can be asked for attributes; most filesystems' open directories cannot."""
    return handle.listing is None or hasattr(handle.object, "fgetattr")

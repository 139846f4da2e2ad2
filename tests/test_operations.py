"""fusepy_legacy.kernel.operations: what is called for a filesystem's handlers, and how."""

import errno
from typing import Any, List, Tuple

from fusepy_legacy.binding import fuse
from fusepy_legacy.kernel.operations import Callback, Operations, call
from tests.errnos import raises_errno


class File:
    """An open file, as filesystems declare it."""

    def __init__(self) -> None:
        self.asked: List[Tuple[int, int]] = []

    def read(self, length: int, offset: int) -> bytes:
        """Take note of what was asked for."""
        self.asked.append((length, offset))
        return b"data"


def operations_of(**handlers: Callback) -> Operations:
    """Return the operations of handlers, wrapped as fuse-python hands them to its C module."""
    return Operations({name: fuse.ErrnoWrapper(handler) for name, handler in handlers.items()})


def proxy(name: str) -> Any:
    """Return what fuse-python makes of a method of file_class."""
    return fuse.Fuse.Methproxy().proxyclass(name)


def test_the_methods_of_open_files_are_known() -> None:
    """They are called with the path and the object all the same."""
    operations = operations_of(read=proxy("read"), getattr=lambda path: None)
    assert operations.methods == {"read"}
    opened = File()
    assert operations.read is not None
    assert call(operations.read, "/file", 4, 9, opened) == b"data"
    assert opened.asked == [(4, 9)]


def test_what_is_not_quite_a_method_is_none() -> None:
    """Another method in its place, or a proxy that does more, is called as it is."""
    more = type("Counting", (type(proxy("read")),), {})("read")
    changed = proxy("read")
    changed.count = 0
    operations = operations_of(read=proxy("pread"), write=more, flush=changed)
    assert operations.methods == set()


def test_what_a_handler_raises_comes_through() -> None:
    """fuse-python's wrapper would make a negative number of it."""

    def refuse(path: str) -> None:
        raise OSError(errno.EPERM, "refused")

    operations = operations_of(unlink=refuse)
    assert operations.unlink is not None
    with raises_errno(errno.EPERM):
        call(operations.unlink, "/file")


def test_a_negative_number_is_an_error() -> None:
    """As filesystems return it: -errno.ENOENT."""
    with raises_errno(errno.ENOENT):
        call(lambda path: -errno.ENOENT, "/file")


def test_what_a_filesystem_lacks_is_none() -> None:
    """And takes no arguments."""
    operations = operations_of()
    assert operations.read is None
    assert not operations.takes("read", 2)

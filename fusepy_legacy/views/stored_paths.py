"""Plain paths to descriptors in an encrypted tree.

What a name is called depends on the IV of its directory, and that is in the directory, in `gocryptfs.diriv`.
So a path is walked from the root; what a directory is called, and its IV, is then remembered.

Another program may change the tree meanwhile. A remembered IV is used only while `gocryptfs.diriv` is the
same file as when it was read; one that has just been made is read each time, for the next may have its number
and its time. A remembered path needs no such care: names are random under each IV, so
where it still leads anywhere, it leads to the right place.
"""

import errno
import logging
import os
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

from fusepy_legacy.beneath import Beneath, Held, Parent
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.crypt.internal import IV_NAME
from fusepy_legacy.crypt.names import DETERMINISTIC_IV, check_directory_iv
from fusepy_legacy.reading import check_regular
from fusepy_legacy.views.stored_names import StoredNames

logger = logging.getLogger(__name__)

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SMALL_FILE_MAX = 4096
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
_REMEMBERED = 4096  # directories
# Seconds within which a file may go, and another get its inode number and its ctime: clocks of filesystems
# tick 100 times a second at least (before Linux 6.13), or once in one or two (ext3, FAT).
_SETTLED = 0.1
_SETTLED_COARSELY = 2.0

_Version = Tuple[int, int]


class _Known(NamedTuple):
    """A directory: its path on the disk from the root, its IV, and which `gocryptfs.diriv` that was.

    No version is known of one that cannot be told from the next.
    """

    stored: str
    iv: bytes
    version: Optional[_Version]


class StoredParent(Parent):
    """A `Parent` that gives the stored name; `whole` is the companion's content if it is a hash."""

    __slots__ = ("whole",)

    def __init__(
        self, descriptor: int, name: str, owner: Optional[Beneath], whole: Optional[bytes]
    ) -> None:
        super().__init__(descriptor, name, owner)
        self.whole = whole


class StoredBeneath(Beneath):
    """Opens what plain paths mean in an encrypted tree, without a root's rules. Safe for threads.

    Raises OSError besides what `Beneath` raises: ENAMETOOLONG, EIO for a directory without an IV, and EACCES
    for one that cannot be searched for it.
    """

    names: StoredNames
    directory_ivs: bool  # without, equal names are called the same everywhere
    known: Dict[str, _Known]

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a file as open(2) does, never following a symlink; return its descriptor."""
        if isinstance(path, Held):
            return super().open(path, flags, mode)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        with self._parent(path) as (directory, name):
            if flags & (os.O_PATH | os.O_NONBLOCK):
                return os.open(name, flags, mode, dir_fd=directory)
            try:
                return os.open(name, flags | os.O_NONBLOCK, mode, dir_fd=directory)
            except BlockingIOError:  # as in Beneath
                return os.open(name, flags, mode, dir_fd=directory)

    def stat(self, path: str) -> os.stat_result:
        """Return the attributes of what is on the disk (lstat(2)): its size is not the plaintext's."""
        if isinstance(path, Held):
            return os.fstat(path.descriptor)
        with self._parent(path) as (directory, name):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            self._compare_directory(path, name, directory)
            return status

    def parent(self, path: str) -> StoredParent:
        """Return a context manager that gives the descriptor of the directory, and the stored name."""
        return self._parent(path)

    def _parent(self, path: str) -> StoredParent:
        if isinstance(path, Held):
            return StoredParent(path.descriptor, path.name(), self, None)
        head, _, name = path.rpartition("/")
        if not name:
            return StoredParent(self.descriptor, ".", self, None)
        descriptor, known = self._enter(head)
        try:
            stored, whole = self.names.stored(name, known.iv)
        except BaseException:
            if descriptor != self.descriptor:
                os.close(descriptor)
            raise
        owner = self if descriptor == self.descriptor else None
        return StoredParent(descriptor, stored, owner, whole)

    def iv(self, path: str, descriptor: int) -> bytes:
        """Return the IV of an open directory, which has this path."""
        path = path.rstrip("/")
        known = self.known.get(path)
        return self._refreshed(path, known.stored if known else "", known, descriptor).iv

    def _enter(self, path: str) -> Tuple[int, _Known]:
        """Open a directory from the deepest one above it that is known and still there."""
        ahead: List[str] = []
        while True:
            known = self.known.get(path)
            if not path:
                descriptor, stored = self.descriptor, ""
                break
            if known is not None:
                try:
                    descriptor, stored = self._open_stored(known.stored), known.stored
                    break
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
                    self.known.pop(path, None)
            path, _, name = path.rpartition("/")
            ahead.append(name)
        try:
            known = self._refreshed(path, stored, known, descriptor)
            while ahead:
                name = ahead.pop()
                path = f"{path}/{name}"
                below = self.names.stored(name, known.iv).name
                stored = f"{stored}/{below}" if stored else below
                following = os.open(below, _DIRECTORY, dir_fd=descriptor)
                if descriptor != self.descriptor:
                    os.close(descriptor)
                descriptor = following
                known = self._refreshed(path, stored, None, descriptor)
        except BaseException:
            if descriptor != self.descriptor:
                os.close(descriptor)
            raise
        return descriptor, known

    def _open_stored(self, stored: str) -> int:
        return self._open_long(self.descriptor, stored, _DIRECTORY, 0)

    def _refreshed(
        self, path: str, stored: str, known: Optional[_Known], descriptor: int
    ) -> _Known:
        """Return what is known of an open directory, with the IV that it has now."""
        if not self.directory_ivs:
            return known or self._remember(path, _Known(stored, DETERMINISTIC_IV, None))
        try:
            status = os.stat(IV_NAME, dir_fd=descriptor, follow_symlinks=False)
            version = status.st_ino, status.st_ctime_ns
            if known is not None and known.version == version:
                return known
            iv = check_directory_iv(read_small_file(IV_NAME, descriptor, status))
        except PermissionError:  # a directory that its owner may list but not search, for instance
            raise
        except (OSError, CryptError) as error:
            logger.error("%s: %s: %s", stored or ".", IV_NAME, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        limit = _SETTLED if status.st_ctime_ns % 10**9 else _SETTLED_COARSELY
        settled = time.time() - status.st_ctime > limit
        return self._remember(path, _Known(stored, iv, version if settled else None))

    def _remember(self, path: str, known: _Known) -> _Known:
        if len(self.known) >= _REMEMBERED:
            self.known.clear()
        self.known[path] = known
        return known


def read_small_file(name: str, directory: int, status: Optional[os.stat_result] = None) -> bytes:
    """Return what is in a directory's IV file or a companion, 4096 bytes at most; EINVAL for what is no file.

    `status` is its own, if that is known already.
    """
    check_regular(status or os.stat(name, dir_fd=directory, follow_symlinks=False), name)
    descriptor = os.open(name, _SMALL_FILE, dir_fd=directory)
    try:
        return os.read(descriptor, _SMALL_FILE_MAX)
    finally:
        os.close(descriptor)

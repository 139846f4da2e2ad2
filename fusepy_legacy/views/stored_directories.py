"""Directories of an encrypted tree: made with an IV, listed without what is internal, removed.

The IV of a directory's names is in it, in `gocryptfs.diriv`, so an empty one is not empty on the disk. To
be removed, its IV is moved out of the way first, and back if the directory turns out to have entries.
"""

import errno
import logging
import os
import stat
from contextlib import contextmanager, suppress
from typing import Iterator, List, Optional, Sequence

from fusepy_legacy import syscalls
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.crypt.internal import IV_NAME, REMOVED_IV, is_internal
from fusepy_legacy.crypt.names import LONG_NAME_PREFIX, new_directory_iv
from fusepy_legacy.identity import ActingAs, Caller
from fusepy_legacy.views.long_names import SUFFIX, remove_orphan, write_small_file
from fusepy_legacy.views.stored_names import StoredNames
from fusepy_legacy.views.stored_paths import read_small_file

logger = logging.getLogger(__name__)

_LONG = os.fsdecode(LONG_NAME_PREFIX)
_REFERENCE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What is missing or no regular file holds no name; ELOOP for a symlink that has just come: open(2).
_NO_COMPANION = (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


class PlainNames:
    """The names in an open directory whose names are plain; `top` is a tree's top, with the config."""

    def __init__(self, top: bool = False) -> None:
        self._top = top

    def plain(self, stored: str) -> Optional[str]:
        """Return the plain name of an entry, None for what is not to be seen."""
        return None if is_internal(stored, self._top, plaintext_names=True) else stored

    def learn(self, stored: Sequence[str]) -> None:
        """Take note of entries that `plain` will be asked for."""

    def stored(self, name: str) -> str:
        """Return what an entry is called on the disk."""
        return name

    def sync(self) -> None:
        """Bring to the disk what the names need to be read."""


class EncryptedNames(PlainNames):
    """The names in an open directory under an IV. What does not decrypt is logged, and not seen.

    An error that says nothing about the name is raised: `rsync --delete` takes what is not listed for gone.
    """

    def __init__(self, names: StoredNames, iv: bytes, descriptor: int, top: bool = False) -> None:
        super().__init__(top)
        self._names = names
        self._iv = iv
        self._descriptor = descriptor

    def plain(self, stored: str) -> Optional[str]:
        """Return the plain name of an entry, None for what is not to be seen; OSError if it cannot be had."""
        if stored in (".", ".."):
            return stored
        if is_internal(stored, self._top, plaintext_names=False):
            return None
        try:
            if stored.startswith(_LONG):
                companion = read_small_file(stored + SUFFIX, self._descriptor)
                return self._names.plain_of_long(stored, self._iv, companion)
            return self._names.plain(stored, self._iv)
        except (CryptError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_COMPANION:
                raise
            logger.warning("%s has lost its name: %s", stored, error)
            return None

    def learn(self, stored: Sequence[str]) -> None:
        """Decrypt the names of entries that `plain` will be asked for."""
        self._names.learn([name for name in stored if "." not in name], self._iv)

    def stored(self, name: str) -> str:
        """Return what an entry is called on the disk."""
        return self._names.stored(name, self._iv).name

    def sync(self) -> None:
        """Bring the IV to the disk; a companion is there already."""
        try:
            descriptor = os.open(IV_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
        except FileNotFoundError:
            return  # deterministic names
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def make(directory: int, name: str, mode: int, caller: Caller) -> None:
    """Make a directory with an IV that belongs to the caller: mkdir(2)."""
    with ActingAs(caller):
        os.mkdir(name, mode, dir_fd=directory)
    try:
        with _opened(directory, name) as descriptor:
            try:
                with ActingAs(caller._replace(umask=0)):
                    write_small_file(IV_NAME, descriptor, new_directory_iv(), sync=False)
            except BaseException:
                with suppress(OSError):
                    os.unlink(IV_NAME, dir_fd=descriptor)
                raise
    except BaseException:
        with suppress(OSError):
            os.rmdir(name, dir_fd=directory)
        raise


def remove(directory: int, name: str) -> None:
    """Remove a directory in which nothing is but its IV, and what others left behind: rmdir(2)."""
    with _opened(directory, name) as descriptor:
        check_empty(descriptor)
        moved = f"{REMOVED_IV}{os.urandom(8).hex()}"
        try:
            os.rename(IV_NAME, moved, src_dir_fd=descriptor, dst_dir_fd=directory)
        except FileNotFoundError:
            moved = ""  # deterministic names, or someone died here before
        try:
            os.rmdir(name, dir_fd=directory)
        except BaseException:
            if moved:
                _put_back(directory, moved, descriptor)
            raise
        if moved:
            os.unlink(moved, dir_fd=directory)


def _put_back(directory: int, moved: str, descriptor: int) -> None:
    """Give a directory that could not be removed its IV back."""
    try:
        os.rename(moved, IV_NAME, src_dir_fd=directory, dst_dir_fd=descriptor)
    except PermissionError:  # an append-only directory, which lets no name go
        os.link(moved, IV_NAME, src_dir_fd=directory, dst_dir_fd=descriptor)


def replace(old_directory: int, old: str, new_directory: int, new: str) -> None:
    """Rename a directory over one in which nothing is but its IV: rename(2)."""
    with _opened(new_directory, new) as descriptor:
        check_empty(descriptor)
    places = old_directory, old, new_directory, new
    try:
        syscalls.renameat2(*places, syscalls.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        remove(new_directory, new)
        os.rename(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory)
        return
    try:
        remove(old_directory, old)
    except BaseException:
        syscalls.renameat2(*places, syscalls.RENAME_EXCHANGE)
        raise


def check_empty(descriptor: int) -> None:
    """Raise ENOTEMPTY if there is anything in an open directory but its IV.

    Companions without a file, and IVs of directories that are gone, are what someone left who died; they
    are removed.
    """
    left: List[str] = []
    for name in os.listdir(descriptor):
        if name == IV_NAME:
            continue
        if not is_internal(name, top=False, plaintext_names=False):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        left.append(name)
    for name in left:
        if name.startswith(REMOVED_IV):
            os.unlink(name, dir_fd=descriptor)
        else:
            remove_orphan(name, descriptor)


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    """Open a directory that is to get its IV, or to be removed. Its own mode does not matter, and stays."""
    reference = os.open(name, _REFERENCE, dir_fd=directory)
    try:
        mode = stat.S_IMODE(os.fstat(reference).st_mode)
        # Whoever is not root needs all rights to look for entries, and to put the IV in or take it out.
        barred = os.geteuid() != 0 and bool(~mode & stat.S_IRWXU)
        path = f"/proc/self/fd/{reference}"
        if barred:
            try:
                os.chmod(path, mode | stat.S_IRWXU)
            except PermissionError:
                barred = False  # another user's
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        finally:
            if barred:
                os.chmod(path, mode)
    finally:
        os.close(reference)

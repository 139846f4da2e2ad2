"""A plain directory with which an encrypted tree is compared."""

import errno
import os
import stat
from typing import Dict, Iterator, List

from fusepy_legacy.beneath import Beneath
from fusepy_legacy.errors import EXIT_ROOT
from fusepy_legacy.vault.report import VaultError, printable
from fusepy_legacy.vault.tree import Entry

_CAPABILITY = b"security.capability"
# What XFS calls ACLs on the disk, and lists for root beside their own names (linux/fs/xfs/xfs_xattr.c).
_XFS_ACLS = frozenset((b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"))


class Plain:
    """A context manager: paths are those from the directory, and no symlink beneath it is followed.

    `metadata`: whether that is to be equal, too. The methods raise OSError; VaultError (6) for a
    directory that cannot be opened.
    """

    def __init__(self, directory: str, metadata: bool = False) -> None:
        self.metadata = metadata
        try:
            self._beneath = Beneath(directory)
        except OSError as error:
            raise VaultError(f"{directory}: {error.strerror}", EXIT_ROOT)

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *exception: object) -> None:
        self._beneath.close()

    def status(self, path: bytes) -> os.stat_result:
        """Return the status; of a symlink, its own."""
        return self._beneath.stat(_rooted(path))

    def open(self, path: bytes) -> int:
        """Return a descriptor for reading a file."""
        return self._beneath.open(_rooted(path), os.O_RDONLY | os.O_NONBLOCK)

    def target(self, path: bytes) -> bytes:
        """Return where a symlink points to."""
        with self._beneath.parent(_rooted(path)) as (directory, name):
            return os.fsencode(os.readlink(name, dir_fd=directory))

    def names(self, path: bytes) -> List[bytes]:
        """Return what is in a directory."""
        descriptor = self._beneath.open(_rooted(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [os.fsencode(name) for name in sorted(os.listdir(descriptor))]
        finally:
            os.close(descriptor)

    def attributes(self, path: bytes) -> Dict[bytes, bytes]:
        """Return the extended attributes that are copied with a file.

        Those of security modules are not: a label is the system's where the file is, not the file's.
        """
        with self._beneath.reference(_rooted(path)) as reference:
            try:
                names = [os.fsencode(name) for name in os.listxattr(reference)]
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                names = []
            return {
                name: os.getxattr(reference, name)
                for name in names
                if name == _CAPABILITY or not name.startswith(b"security.")
            }

    def metadata_differences(
        self, entry: Entry, plain: os.stat_result, attributes: Dict[bytes, bytes]
    ) -> Iterator[str]:
        """Say in what an entry with these attributes differs from the plain file; its type is the same.

        Times of change are compared to the nanosecond, but not the root's: making or changing a
        config changes that.
        """
        status = entry.status
        mode, expected = stat.S_IMODE(status.st_mode), stat.S_IMODE(plain.st_mode)
        if mode != expected and entry.kind != stat.S_IFLNK:  # symlink(7): they have none
            yield f"mode {mode:04o}, not {expected:04o}"
        for word, id_, expected_id in (
            ("owner", status.st_uid, plain.st_uid),
            ("group", status.st_gid, plain.st_gid),
        ):
            if id_ != expected_id:
                yield f"{word} {id_}, not {expected_id}"
        if entry.path and status.st_mtime_ns != plain.st_mtime_ns:
            yield f"changed at {_seconds(status)}, not at {_seconds(plain)}"
        expected_attributes = self.attributes(entry.path)
        for name in sorted({*attributes, *expected_attributes} - _XFS_ACLS):
            if name not in attributes:
                yield f"no attribute {printable(name)}"
            elif name not in expected_attributes:
                yield f"an attribute {printable(name)}, which the plain file has not"
            elif attributes[name] != expected_attributes[name]:
                yield f"another value of the attribute {printable(name)}"


def _rooted(path: bytes) -> str:
    return "/" + os.fsdecode(path)


def _seconds(status: os.stat_result) -> str:
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    return f"{seconds}.{nanoseconds:09}"

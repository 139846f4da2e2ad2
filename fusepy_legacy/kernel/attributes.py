"""What getattr returned, as the wire's attributes.

fuse-python's handlers return os.stat_result, `fuse.Stat`, or anything with such attributes. Times are taken
from the `_ns` attributes where they are, else from the others, which may be int or float.
"""

import errno
import logging
import os
import stat
from typing import Any, Dict, Optional, Tuple, Union

# The order of abi.ATTR: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode,
# nlink, uid, gid, rdev, blksize, flags.
Attributes = Tuple[int, ...]

logger = logging.getLogger(__name__)

_SECOND = 1000000000
_TYPE = 0o170000  # S_IFMT, inode(7)
_MASK_32 = 0xFFFFFFFF
_MASK_64 = 0xFFFFFFFFFFFFFFFF
_SIZE_MAX = (1 << 63) - 1  # linux/fs.h: OFFSET_MAX
_TYPES = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
    )
)


class Restated:
    """A file's status under another inode number and device, or with another size."""

    __slots__ = ("status", "st_ino", "st_dev", "st_size", "st_blocks")

    def __init__(
        self, status: os.stat_result, st_ino: int, st_dev: int, st_size: int, st_blocks: int
    ) -> None:
        self.status = status
        self.st_ino = st_ino
        self.st_dev = st_dev
        self.st_size = st_size
        self.st_blocks = st_blocks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.status, name)

    def __reduce__(self) -> Tuple[type, Tuple[Any, ...]]:
        # Copied as what it stands for: with all fields of this Python's stat_result.
        reduced: Any = self.status.__reduce__()
        fields, others = reduced[1]
        fields = (fields[0], self.st_ino, self.st_dev, *fields[3:6], self.st_size, *fields[7:])
        return os.stat_result, (fields, dict(others, st_blocks=self.st_blocks))


def with_size(status: os.stat_result, size: int, blocks: int) -> os.stat_result:
    """Return a file's attributes, by name, with another size and other blocks of 512 bytes."""
    plain = status.status if isinstance(status, Restated) else status
    return Restated(  # type: ignore[return-value]
        plain, status.st_ino, status.st_dev, size, blocks
    )


class Attributer:
    """Turns a status into the wire's attributes, with what the mount options change of them."""

    def __init__(self, options: Dict[str, Union[str, bool]]) -> None:
        self.use_ino = "use_ino" in options
        self.permissions: Optional[int] = None
        if "umask" in options:
            self.permissions = 0o777 & ~int(str(options["umask"]), 8)
        self.uid: Optional[int] = int(options["uid"]) if "uid" in options else None
        self.gid: Optional[int] = int(options["gid"]) if "gid" in options else None
        self.changes = (self.permissions, self.uid, self.gid) != (None, None, None)

    def __call__(self, status: Any, node_id: int) -> Attributes:
        """Return the attributes; without use_ino the inode number is the node's id."""
        shown = status
        if type(status) is Restated:
            status = status.status
        # Made from ten values, as filesystems do, it has None for what comes after them.
        if type(status) is os.stat_result and status.st_rdev is not None:
            number = shown.st_ino if self.use_ino else node_id
            attributes = _from_stat_result(status, number, shown.st_size, shown.st_blocks)
        else:
            attributes = _from_any(shown)
            if not self.use_ino:
                attributes = (node_id,) + attributes[1:]
        return self._changed(attributes) if self.changes else attributes

    def _changed(self, attributes: Attributes) -> Attributes:
        values = list(attributes)
        if self.permissions is not None:
            values[9] = stat.S_IFMT(values[9]) | self.permissions
        values[11] = values[11] if self.uid is None else self.uid
        values[12] = values[12] if self.gid is None else self.gid
        return tuple(values)


def _from_stat_result(status: os.stat_result, number: int, size: int, blocks: int) -> Attributes:
    atime, atime_nsec = divmod(status.st_atime_ns, _SECOND)
    mtime, mtime_nsec = divmod(status.st_mtime_ns, _SECOND)
    ctime, ctime_nsec = divmod(status.st_ctime_ns, _SECOND)
    return (
        number,
        size,
        blocks,
        atime,
        mtime,
        ctime,
        atime_nsec,
        mtime_nsec,
        ctime_nsec,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_rdev & _MASK_32,
        status.st_blksize,
        0,
    )


def _from_any(status: Any) -> Attributes:
    atime, atime_nsec = time_of(status, "st_atime")
    mtime, mtime_nsec = time_of(status, "st_mtime")
    ctime, ctime_nsec = time_of(status, "st_ctime")
    mode, size = int(status.st_mode), int(status.st_size)
    if mode & _TYPE not in _TYPES or not 0 <= size <= _SIZE_MAX:
        # The kernel would fail the request too, but count no lookup and no open, and not say so:
        # fs/fuse/dir.c, fuse_invalid_attr.
        logger.error("a status that is no file's: st_mode is 0o%o, st_size is %d", mode, size)
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    blocks = getattr(status, "st_blocks", None)
    block_size = getattr(status, "st_blksize", None)
    return (
        int(status.st_ino or 0) & _MASK_64,
        size,
        (size + 511) // 512 if blocks is None else int(blocks),
        atime,
        mtime,
        ctime,
        atime_nsec,
        mtime_nsec,
        ctime_nsec,
        mode,
        int(status.st_nlink),
        int(status.st_uid) & _MASK_32,
        int(status.st_gid) & _MASK_32,
        int(getattr(status, "st_rdev", None) or 0) & _MASK_32,
        4096 if block_size is None else int(block_size),
        0,
    )


def time_of(status: Any, name: str) -> Tuple[int, int]:
    """Return a time attribute as seconds and nanoseconds; the latter are 0 to 999,999,999 always."""
    nanoseconds = getattr(status, name + "_ns", None)
    if nanoseconds is not None:
        return divmod(int(nanoseconds), _SECOND)
    value = getattr(status, name, None) or 0
    seconds = int(value // 1)
    # A float just below a second may come out as the whole of it.
    return seconds, min(int((value - seconds) * _SECOND), _SECOND - 1)


def links_of(attributes: Attributes) -> int:
    """Return st_nlink, or 0 for a directory, whose links are not names."""
    return 0 if attributes[9] & _TYPE == stat.S_IFDIR else attributes[10]

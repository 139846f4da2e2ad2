"""Requests about attributes: GETATTR, SETATTR, STATX, ACCESS."""

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Optional, Tuple

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.abi import SetattrIn
from fusepy_legacy.kernel.attributes import time_of
from fusepy_legacy.kernel.context import current, process_groups
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

_UTIME_NOW = (1 << 30) - 1  # linux/stat.h
_UTIME_OMIT = (1 << 30) - 2
_STATX_BASIC_STATS = 0x7FF
_STATX_BTIME = 0x800

# Seconds and nanoseconds; the nanoseconds may be one of the UTIME_ constants.
_Time = Tuple[int, int]


class Timestamp:
    """A time for the handlers: `tv_sec` and `tv_nsec`, as fuse-python's Timespec."""

    __slots__ = ("tv_sec", "tv_nsec")

    def __init__(self, tv_sec: int, tv_nsec: int) -> None:
        self.tv_sec = tv_sec
        self.tv_nsec = tv_nsec


def getattr_(engine: "Engine", node: Node, getattr_flags: int, fh: int) -> bytes:
    """Return the attributes, of the open file when the kernel names one."""
    handle = engine.handles.get(fh) if getattr_flags & abi.GETATTR_FH else None
    return engine.pack_attributes(node, engine.status(node, handle))


def statx(
    engine: "Engine", node: Node, getattr_flags: int, fh: int, sx_flags: int, sx_mask: int
) -> bytes:
    """Return the attributes and the time of birth: the status's `st_birthtime` or `_ns`, or the handler's."""
    handle = engine.handles.get(fh) if getattr_flags & abi.GETATTR_FH else None
    status = engine.status(node, handle)
    (
        ino,
        size,
        blocks,
        atime,
        mtime,
        ctime,
        atime_nsec,
        mtime_nsec,
        ctime_nsec,
        mode,
        nlink,
        uid,
        gid,
        rdev,
        blksize,
        _flags,
    ) = engine.attributer(status, node.id)
    born = _birthtime(engine, node, status) if sx_mask & _STATX_BTIME else None
    btime, btime_nsec = born or (0, 0)
    return abi.STATX_OUT.pack(
        *engine.attr_valid(node),
        0,
        _STATX_BASIC_STATS | (_STATX_BTIME if born is not None else 0),
        blksize,
        0,
        nlink,
        uid,
        gid,
        mode,
        ino,
        size,
        blocks,
        0,
        atime,
        atime_nsec,
        btime,
        btime_nsec,
        ctime,
        ctime_nsec,
        mtime,
        mtime_nsec,
        rdev >> 8 & 0xFFF,
        rdev & 0xFF | rdev >> 12 & ~0xFF,
        0,
        0,
    )


def _birthtime(engine: "Engine", node: Node, status: Any) -> Optional[_Time]:
    if hasattr(status, "st_birthtime") or hasattr(status, "st_birthtime_ns"):
        return time_of(status, "st_birthtime")
    if engine.operations.birthtime is None:
        return None
    born = engine.call_by_path("birthtime", node)
    return None if born is None else (born.tv_sec, born.tv_nsec)


def access(engine: "Engine", node: Node, mask: int) -> bytes:
    """Check rights; the kernel only asks without default_permissions."""
    call(engine.required("access"), engine.path(node), mask)
    return b""


def setattr_(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Change what `valid` names, in libfuse's order, and return the attributes.

    A file whose path is gone is changed through one of its open files.
    """
    request = SetattrIn(*fields)
    handle = engine.handles.get(request.fh) if request.valid & abi.FATTR_FH else None
    path = engine.path_if_any(node)
    try:
        if path is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        _change(engine, node, _Target(engine, path, handle), request)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE) or not node.opens:
            raise
        if handle is not None:  # the size can only be changed through one that is open for writing
            _change(engine, node, _Target(engine, None, handle), request)
        else:
            with engine.handles.borrowed(node) as borrowed:
                _change(engine, node, _Target(engine, None, borrowed), request)
    return engine.pack_attributes(node, engine.status(node, handle))


def _change(engine: "Engine", node: Node, target: "_Target", request: SetattrIn) -> None:
    if request.valid & abi.FATTR_MODE:
        target.chmod(request.mode)
    if request.valid & (abi.FATTR_UID | abi.FATTR_GID):
        uid = request.uid if request.valid & abi.FATTR_UID else -1
        gid = request.gid if request.valid & abi.FATTR_GID else -1
        target.chown(uid, gid)
    if request.valid & abi.FATTR_SIZE:
        target.truncate(request.size)
    if request.valid & (abi.FATTR_ATIME | abi.FATTR_MTIME):
        atime = _time(
            request, abi.FATTR_ATIME, abi.FATTR_ATIME_NOW, request.atime, request.atimensec
        )
        mtime = _time(
            request, abi.FATTR_MTIME, abi.FATTR_MTIME_NOW, request.mtime, request.mtimensec
        )
        target.utimens(atime, mtime)
    if request.valid & abi.FATTR_KILL_SUIDGID:
        kill_privileges(engine, node, target.handle)


def kill_privileges(engine: "Engine", node: Node, handle: Optional[Handle]) -> None:
    """Clear set-user-id and set-group-id, as write(2) does.

    With HANDLE_KILLPRIV_V2 the kernel leaves that to us, and for it asks for no security.capability before
    each write (fs/fuse/inode.c, SB_NOSEC).
    """
    status = engine.status(node, handle)
    mode = int(status.st_mode)
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_ISGID and _loses_setgid(mode, int(status.st_gid)):
        kept &= ~stat.S_ISGID
    if kept != mode and stat.S_ISREG(mode):
        _Target(engine, engine.path_if_any(node), handle).chmod(kept)
        engine.forget_attributes(node)  # after a write the kernel takes the mode for what it was


def _loses_setgid(mode: int, gid: int) -> bool:
    """Tell whether a change by the caller takes set-group-id away (fs/attr.c, setattr_should_drop_sgid).

    Without the right to execute it is left to the members of the group and to root, whose chown(2) it may be.
    """
    if mode & stat.S_IXGRP:
        return True
    return current.uid != 0 and gid != current.gid and gid not in process_groups(current.pid)


def _time(request: SetattrIn, valid: int, now: int, seconds: int, nanoseconds: int) -> _Time:
    if not request.valid & valid:
        return 0, _UTIME_OMIT
    if request.valid & now:
        return 0, _UTIME_NOW
    return seconds, nanoseconds


class _Target:
    """What SETATTR changes: a path, or the open file of one that has no path any more."""

    def __init__(self, engine: "Engine", path: Optional[str], handle: Optional[Handle]) -> None:
        self.engine = engine
        self.path = path
        self.handle = handle

    def _by_handle(self, name: str, *arguments: Any) -> None:
        """Call the open file's own handler: named like the syscall, and optional for most."""
        handle = self.handle
        assert handle is not None
        call(self.engine.required(name), handle.path, *arguments, *handle.arguments)

    def chmod(self, mode: int) -> None:
        if self.path is None:
            self._by_handle("fchmod", mode)
        else:
            call(self.engine.required("chmod"), self.path, mode)

    def chown(self, uid: int, gid: int) -> None:
        if self.path is None:
            self._by_handle("fchown", uid, gid)
        else:
            call(self.engine.required("chown"), self.path, uid, gid)

    def truncate(self, length: int) -> None:
        opened = self.handle is not None and self.handle.arguments
        if self.path is None or (opened and self.engine.operations.ftruncate is not None):
            self._by_handle("ftruncate", length)
        else:
            call(self.engine.required("truncate"), self.path, length)

    def utimens(self, atime: _Time, mtime: _Time) -> None:
        """Set times through the newest handler there is: utimensat, utimens, utime.

        Only utimensat and futimens know UTIME_NOW and UTIME_OMIT; for the others they are worked out.
        """
        operations = self.engine.operations
        if self.path is None:
            self._by_handle("futimens", Timestamp(*atime), Timestamp(*mtime))
        elif operations.utimensat is not None:
            call(operations.utimensat, self.path, Timestamp(*atime), Timestamp(*mtime))
        else:
            access_time = self._definite(atime, "st_atime")
            modification_time = self._definite(mtime, "st_mtime")
            if operations.utimens is not None:
                call(operations.utimens, self.path, *access_time, *modification_time)
            else:
                seconds = access_time[0], modification_time[0]
                call(self.engine.required("utime"), self.path, seconds)

    def _definite(self, moment: _Time, name: str) -> _Time:
        if moment[1] == _UTIME_NOW:
            return divmod(_now_ns(), 1000000000)
        if moment[1] == _UTIME_OMIT:
            return time_of(call(self.engine.required("getattr"), self.path), name)
        return moment


def _now_ns() -> int:
    """Return the time in nanoseconds; time.time_ns came with Python 3.7."""
    return int(time.time() * 1000000) * 1000

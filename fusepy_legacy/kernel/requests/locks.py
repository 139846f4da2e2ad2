"""Requests about locks: GETLK, SETLK, SETLKW, for record locks and flock locks."""

import errno
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Optional, Tuple

from fusepy_legacy.kernel import abi, notifications
from fusepy_legacy.kernel.abi import LockIn
from fusepy_legacy.kernel.attributes import time_of
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Node

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

_TICK = 0.02  # seconds; CONFIG_HZ is 100 at least, which makes 0.01
_OFFSET_MAX = (1 << 63) - 1  # linux/fs.h: a range to the end of the file
_FLOCK_OPERATIONS = {
    fcntl.F_RDLCK: fcntl.LOCK_SH,
    fcntl.F_WRLCK: fcntl.LOCK_EX,
    fcntl.F_UNLCK: fcntl.LOCK_UN,
}


def getlk(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Return a lock that is in the way, or the one asked about with the type F_UNLCK."""
    request = LockIn(*fields)
    found = _lock(engine, fcntl.F_GETLK, request)
    if found is None or isinstance(found, int):
        return abi.LK_OUT.pack(request.start, request.end, fcntl.F_UNLCK, 0)
    kind = request.type if found.l_type is None else found.l_type
    start = request.start if found.l_start is None else found.l_start
    end = request.end
    if found.l_len is not None:
        end = start + found.l_len - 1 if found.l_len else _OFFSET_MAX
    return abi.LK_OUT.pack(start, end, kind, (found.l_pid or 0) & 0xFFFFFFFF)


def setlk(engine: "Engine", node: Node, *fields: int) -> Optional[bytes]:
    """Take or drop a lock, or fail at once."""
    request = LockIn(*fields)
    if request.lk_flags & abi.LK_FLOCK:
        _flock(engine, request, wait=False)
    else:
        _lock(engine, fcntl.F_SETLK, request)
    return _refresh(engine, node, request)


def setlkw(engine: "Engine", node: Node, *fields: int) -> Optional[bytes]:
    """Take a lock, waiting for it until the kernel interrupts the request."""
    if not engine.concurrent:
        return _setlk_or_wait(engine, node, *fields)
    request = LockIn(*fields)
    unique = current.unique
    current.interrupted = engine.waits.begin(unique)
    try:
        if request.lk_flags & abi.LK_FLOCK:
            _flock(engine, request, wait=True)
        else:
            _lock(engine, fcntl.F_SETLKW, request)
    except OSError as error:
        # Of EINTR the kernel makes ERESTARTSYS (fs/fuse/file.c, fuse_setlk), which is for it to restart the
        # call after a signal. Without one the program would be told that number, 512.
        if error.errno != errno.EINTR or not engine.waits.over:
            raise
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN)) from error
    finally:
        current.interrupted = None
        engine.waits.end(unique)
    return _refresh(engine, node, request)


def _setlk_or_wait(engine: "Engine", node: Node, *fields: int) -> Optional[bytes]:
    """Take a lock, or answer nothing yet: the only thread is needed by whoever holds the lock.

    The request is then served again, until it is not among the waiting ones any more.
    """
    unique = current.unique
    interrupted = engine.waits.begin(unique)
    waits = False
    try:
        return setlk(engine, node, *fields)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        if interrupted.is_set():
            raise OSError(errno.EINTR, os.strerror(errno.EINTR)) from error
        waits = True
        return None
    finally:
        if not waits:
            engine.waits.end(unique)


def _refresh(engine: "Engine", node: Node, request: LockIn) -> Optional[bytes]:
    """Let the kernel forget what it has cached of a file that has been locked, and return the reply.

    Who holds a lock relies on seeing what the last holder wrote, who may have done it past the mount. Without
    attributes the kernel asks for size and times at the next read, and drops data when they have changed
    (INIT_AUTO_INVAL_DATA), but only after it has taken them for known: who reads in between gets what was
    there before (fs/fuse/inode.c, fuse_change_attributes_i). So it is to drop the data before the reply. For
    that it waits for reads that are under way, and for the end of inodes that are being dropped, and these
    for a thread of ours. When there is but one, another says it to the kernel, and replies.
    """
    if request.type == fcntl.F_UNLCK:
        return b""
    handle = engine.handles.get(request.fh)
    change = _settled_change(engine, handle)
    data = not handle.backed and (change is None or change != handle.settled)
    messages = [notifications.inval_inode(node.id, data)]
    # A lock of one file may stand for others: sqlite's of -shm does for the size of -wal.
    for other in engine.handles.open_beside(node):
        messages.append(notifications.inval_inode(other.id, data=False))

    def send() -> None:
        for message in messages:
            engine.notify(message)
        handle.settled = change

    if not engine.concurrent:
        messages.append(abi.OUT_HEADER.pack(abi.OUT_HEADER.size, 0, current.unique))
        threading.Thread(target=send, daemon=True).start()
        return None
    with engine.waits.waiting():
        send()
    return b""


def _settled_change(engine: "Engine", handle: Handle) -> Any:
    """Return size and times of a file's last change, None when they might not tell of one that follows.

    Before Linux 6.13 they do not within one tick of the clock. What was read later than a tick after the
    last change is told; so what was cached before has to be dropped once.
    """
    if engine.operations.fgetattr is None or not handle.arguments:
        return None
    try:
        status = engine.call_open("fgetattr", handle)
    except OSError:
        return None
    times = time_of(status, "st_mtime"), time_of(status, "st_ctime")
    if any(seconds + _TICK >= time.time() for seconds in map(_seconds, times)):
        return None
    return times, int(status.st_size)


def _seconds(moment: Tuple[int, int]) -> float:
    return moment[0] + moment[1] / 1e9


def unlock_all(engine: "Engine", handle: Handle, owner: int) -> None:
    """Drop all record locks that an owner has on a file: closing any descriptor of it does (fcntl(2))."""
    engine.call_closing(
        "lock", handle, fcntl.F_SETLK, owner, l_type=fcntl.F_UNLCK, l_start=0, l_len=0, l_pid=0
    )


def unlock_flock(engine: "Engine", handle: Handle) -> None:
    """Drop the flock lock of an open file that is being closed."""
    if engine.operations.flock is not None and handle.arguments:
        engine.call_open("flock", handle, fcntl.LOCK_UN)


def _lock(engine: "Engine", command: int, request: LockIn) -> Any:
    handle = engine.handles.get(request.fh)
    if command != fcntl.F_GETLK:
        handle.node.locked = True
    length = 0 if request.end >= _OFFSET_MAX else request.end - request.start + 1
    return engine.call_open(
        "lock",
        handle,
        command,
        request.owner,
        l_type=request.type,
        l_start=request.start,
        l_len=length,
        l_pid=request.pid,
    )


def _flock(engine: "Engine", request: LockIn, wait: bool) -> None:
    handle = engine.handles.get(request.fh)
    operation = _FLOCK_OPERATIONS.get(request.type)
    if operation is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if not wait:
        operation |= fcntl.LOCK_NB
    engine.call_open("flock", handle, operation)

"""Requests about locks: GETLK, SETLK, SETLKW, for record locks and flock locks."""

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Any

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.abi import LockIn
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

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


def setlk(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Take or drop a lock, or fail at once."""
    request = LockIn(*fields)
    if request.lk_flags & abi.LK_FLOCK:
        _flock(engine, request, wait=False)
    else:
        _lock(engine, fcntl.F_SETLK, request)
    return b""


def setlkw(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Take a lock, waiting for it until the kernel interrupts the request."""
    request = LockIn(*fields)
    unique = current.unique
    current.interrupted = engine.running.begin(unique)
    try:
        if request.lk_flags & abi.LK_FLOCK:
            _flock(engine, request, wait=True)
        else:
            _lock(engine, fcntl.F_SETLKW, request)
    finally:
        current.interrupted = None
        engine.running.end(unique)
    return b""


def unlock_all(engine: "Engine", handle: Handle, owner: int) -> None:
    """Drop all record locks that an owner has on a file: closing any descriptor of it does (fcntl(2))."""
    request = LockIn(handle.number, owner, 0, _OFFSET_MAX, fcntl.F_UNLCK, 0, 0)
    _lock(engine, fcntl.F_SETLK, request)


def unlock_flock(engine: "Engine", handle: Handle) -> None:
    """Drop the flock lock of an open file that is being closed."""
    flock = engine.operations.flock
    if flock is not None and handle.arguments:
        call(flock, engine.handle_path(handle), fcntl.LOCK_UN, *handle.arguments)


def _lock(engine: "Engine", command: int, request: LockIn) -> Any:
    handle = engine.handles.get(request.fh)
    length = 0 if request.end >= _OFFSET_MAX else request.end - request.start + 1
    result = engine.required("lock")(
        engine.handle_path(handle),
        command,
        request.owner,
        *handle.arguments,
        l_type=request.type,
        l_start=request.start,
        l_len=length,
        l_pid=request.pid,
    )
    if isinstance(result, int) and result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _flock(engine: "Engine", request: LockIn, wait: bool) -> None:
    handle = engine.handles.get(request.fh)
    operation = _FLOCK_OPERATIONS.get(request.type)
    if operation is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if not wait:
        operation |= fcntl.LOCK_NB
    call(engine.required("flock"), engine.handle_path(handle), operation, *handle.arguments)

"""Requests about open files: OPEN, CREATE, READ, WRITE, RELEASE and the rest."""

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING, Any, Optional, Tuple

from fusepy_legacy.kernel import abi, notifications
from fusepy_legacy.kernel.abi import CopyFileRangeIn, IoctlIn
from fusepy_legacy.kernel.backing import is_mappable
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import ELSEWHERE, Callback, call
from fusepy_legacy.kernel.requests import locks, metadata, names

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

_MOST_IN_32_BITS = 0xFFFFF000  # what COPY_FILE_RANGE can report: read(2), the largest transfer


def open_(engine: "Engine", node: Node, flags: int, open_flags: int) -> bytes:
    """Open a file; one that has no name any more is opened once more through an open file of it."""
    path = engine.path_if_any(node)
    if path is not None:
        return _open_path(engine, node, path, node.id in engine.held, flags, open_flags)
    with engine.reaching(node) as reached:
        return _open_path(engine, node, reached, True, flags, open_flags)


def _open_path(
    engine: "Engine", node: Node, path: str, certain: bool, flags: int, open_flags: int
) -> bytes:
    """Open a file by its path; without a handler there is nothing to do, as in libfuse.

    Unless it is `certain`, the path may lead to another file by now. Then ESTALE makes the kernel look the
    name up again.
    """
    handler = engine.operations.open
    try:
        if handler is None:
            value, kept = None, False
        else:
            value, kept = _result(_call_opener(engine, handler, path, flags))
    except OSError as error:
        if not certain and not _is_there(engine, node, path):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from error
        raise
    status = None
    try:
        if kept and node.file_id is not None and engine.operations.fgetattr is not None:
            status = _status_of(engine, path, value, True)
            if not _is_of_node(engine, node, status):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if open_flags & abi.OPEN_KILL_SUIDGID:
            metadata.kill_privileges(engine, node, None)
            status = None
    except BaseException:
        _take_back(engine, path, flags, value, kept)
        raise
    return _opened(engine, engine.handles.add(node, value, kept, str(path), flags), status)


def _call_opener(engine: "Engine", handler: Callback, path: str, flags: int, *mode: int) -> Any:
    """Call the handler of open or create; with the writeback cache, what is opened is readable if it may be.

    Before the cache takes a part of a page it reads the rest, through any open (fs/fuse/file.c,
    fuse_write_begin), and EBADF would be the program's.
    """
    writeback = engine.agreement.flags & abi.INIT_WRITEBACK_CACHE
    if writeback and flags & os.O_ACCMODE == os.O_WRONLY:
        try:
            return call(handler, path, flags ^ os.O_WRONLY | os.O_RDWR, *mode)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
    return call(handler, path, flags, *mode)


def _is_there(engine: "Engine", node: Node, path: str) -> bool:
    """Tell whether a path still leads to the node's file."""
    try:
        status = call(engine.required("getattr"), path)
    except OSError:
        return False
    return node.file_id is None or engine.file_id(status) == node.file_id


def _is_of_node(engine: "Engine", node: Node, status: Any) -> bool:
    """Tell whether an opened file of this status is the node's.

    The kernel asks for regular files only; a fifo may have been given the number of one that is gone.
    """
    return engine.file_id(status) == node.file_id and stat.S_ISREG(int(status.st_mode))


def create(
    engine: "Engine", parent: Node, flags: int, mode: int, umask: int, open_flags: int, name: str
) -> bytes:
    """Create a file and open it. Without a handler the kernel makes a node and opens that."""
    path = engine.child_path(parent, name)
    handler = engine.required("create")
    mode = names.new_mode(engine, mode, umask)
    value, kept = _result(_call_opener(engine, handler, path, flags, mode))
    try:
        status = _status_of(engine, path, value, kept)
        node, entry = engine.found(parent, name, status)
    except BaseException:
        _take_back(engine, path, flags, value, kept)
        raise
    handle = engine.handles.add(node, value, kept, str(path), flags)
    return entry + _opened_new(engine, handle, status)


def tmpfile(
    engine: "Engine", parent: Node, flags: int, mode: int, umask: int, open_flags: int, name: str
) -> bytes:
    """Create a file without a name in a directory: open(2), O_TMPFILE."""
    path = engine.path(parent)
    handler = engine.required("tmpfile")
    mode = names.new_mode(engine, mode, umask)
    value, kept = _result(_call_opener(engine, handler, path, flags, mode))
    try:
        status = _status_of(engine, path, value, kept)
        attributes = engine.attributer(status, 0)
        abi.ATTR.pack(*attributes)
    except BaseException:
        _take_back(engine, path, flags, value, kept)
        raise
    node = engine.nodes.anonymous(engine.file_id(status))
    handle = engine.handles.add(node, value, kept, str(path), flags)
    return engine.pack_entry(node, attributes) + _opened_new(engine, handle, status)


def _take_back(engine: "Engine", path: str, flags: int, value: Any, kept: bool) -> None:
    """Release a file that was opened when what followed failed: the kernel will not ask for it."""
    if engine.operations.release is not None:
        call(engine.operations.release, path, flags, *((value,) if kept else ()))


def _status_of(engine: "Engine", path: str, value: Any, kept: bool) -> Any:
    fgetattr = engine.operations.fgetattr
    if not kept or fgetattr is None:
        return call(engine.required("getattr"), path)
    if "fgetattr" in engine.operations.methods:
        return call(value.fgetattr)
    return call(fgetattr, path, value)


def _result(result: Any) -> Tuple[Any, bool]:
    """Return what open returned, and whether it is handed to the later handlers.

    fuse-python's lowwrap makes (value, kept) of an object; 0 and None are an open without one.
    """
    if isinstance(result, tuple) and len(result) == 2:
        return result[0], bool(result[1])
    return None, False


def _opened(engine: "Engine", handle: Handle, status: Any) -> bytes:
    """Count an open, decide who does its input and output, and return OPEN_OUT.

    `status` is the open file's, None where nobody has asked for it yet. When the file object cannot say what
    it is asked, it is closed again.
    """
    try:
        flags = _open_flags(engine, handle)
        descriptor = None if flags & abi.FOPEN_DIRECT_IO else _backing_file(engine, handle)
        backing_id = _backing_id(engine, handle, descriptor, status)
    except BaseException:
        abandon(engine, handle.number)
        raise
    if backing_id:
        handle.backed = True
        flags = abi.FOPEN_PASSTHROUGH
        if descriptor is None:
            flags |= abi.FOPEN_DIRECT_IO  # which comes first: fs/fuse/file.c, fuse_file_read_iter
    engine.nodes.opened(handle.node, handle.number)
    return abi.OPEN_OUT.pack(handle.number, flags, backing_id)


def _opened_new(engine: "Engine", handle: Handle, status: Any) -> bytes:
    """Do the same for a file that has just been made, and with it take back its lookup."""
    try:
        return _opened(engine, handle, status)
    except BaseException:
        engine.nodes.forget(handle.node.id, 1)
        raise


def _backing_file(engine: "Engine", handle: Handle) -> Optional[int]:
    """Return the descriptor of the file for kernel I/O, None when the file object is to be asked."""
    backing = engine.operations.backing
    if (
        engine.backings.open is None
        or backing is None
        or not handle.arguments
        or handle.node.file_id is None
    ):
        return None
    descriptor: Optional[int] = call(backing, *handle.arguments)
    return descriptor


def _backing_id(engine: "Engine", handle: Handle, descriptor: Optional[int], status: Any) -> int:
    """Return the backing id for kernel I/O, 0 for an open without.

    Where the node has one, all its opens must have it, also those whose objects are asked.

    A file with set-user-id or set-group-id is not for kernel I/O: with HANDLE_KILLPRIV_V2 the kernel leaves
    clearing them to us (fs/fuse/dir.c), and tells whether to. One that has got them since an open that goes
    on has to stay with it; then a write clears them whoever writes (identity.py, Registering).
    """
    backings = engine.backings
    if not backings.is_shared(handle.node):
        if descriptor is None:
            return 0
        mode = os.fstat(descriptor).st_mode if status is None else int(status.st_mode)
        if mode & (stat.S_ISUID | stat.S_ISGID):
            return 0
    backing_id = backings.opened(handle.node, descriptor, handle.flags)
    if backing_id and is_mappable(handle.flags) and not handle.flags & os.O_CREAT:
        engine.forget_attributes(handle.node)  # from now on they are not to be kept
    return backing_id


def _open_flags(engine: "Engine", handle: Handle) -> int:
    """Return FOPEN_ flags: what the file object says of itself, and the mount's options."""
    flags = engine.open_flags
    value = handle.object
    if getattr(value, "direct_io", False):
        flags |= abi.FOPEN_DIRECT_IO
    if getattr(value, "keep_cache", False):
        flags |= abi.FOPEN_KEEP_CACHE
    return flags


def read(
    engine: "Engine",
    node: Node,
    fh: int,
    offset: int,
    size: int,
    read_flags: int,
    lock_owner: int,
    flags: int,
) -> Optional[bytes]:
    """Return up to `size` bytes, or nothing when another process does."""
    handle = engine.handles.get(fh)
    data = engine.call_open("read", handle, size, offset)
    if data is ELSEWHERE:
        return None
    if isinstance(data, int):
        return b""
    if not isinstance(data, bytes):
        data = bytes(data or b"")
    if len(data) > size:
        raise OSError(errno.EIO, "read returned more than was asked for")
    return data


def write(
    engine: "Engine",
    node: Node,
    fh: int,
    offset: int,
    size: int,
    write_flags: int,
    lock_owner: int,
    flags: int,
    data: memoryview,
) -> bytes:
    """Write, and return how much was written."""
    handle = engine.handles.get(fh)
    if len(data) < size:
        raise OSError(errno.EINVAL, "malformed WRITE: the data is short")
    if write_flags & abi.WRITE_KILL_SUIDGID:
        metadata.kill_privileges(engine, node, handle)
    # What the program has open may append no more, or not yet: fcntl(2), F_SETFL.
    current.at_offset = bool(write_flags & abi.WRITE_CACHE) or not flags & os.O_APPEND
    try:
        # bytes: what fuse-python's handlers have always been given.
        count = engine.call_open("write", handle, bytes(data[:size]), offset)
    finally:
        current.at_offset = False  # what another handler writes by itself is no part of this
    return abi.WRITE_OUT.pack(count or 0)


def flush(engine: "Engine", node: Node, fh: int, lock_owner: int) -> bytes:
    """Serve a close(2) of one of the file's descriptors; it drops the owner's record locks."""
    handle = engine.handles.get(fh)
    operations = engine.operations
    if operations.flush is None and operations.lock is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # the kernel does not ask again
    try:
        if operations.flush is not None:
            engine.call_closing("flush", handle)
    finally:
        if handle.node.locked:
            locks.unlock_all(engine, handle, lock_owner)
    return b""


def release(
    engine: "Engine", node: Node, fh: int, flags: int, release_flags: int, lock_owner: int
) -> bytes:
    """Close a file after its last descriptor is closed."""
    handle = engine.handles.get(fh)
    try:
        if release_flags & abi.RELEASE_FLOCK_UNLOCK:
            locks.unlock_flock(engine, handle)
    finally:
        engine.handles.release(handle, _close, engine, handle, flags)
    return b""


def abandon(engine: "Engine", fh: int) -> None:
    """Close a file whose opening the kernel never learned of."""
    handle = engine.handles.get(fh)
    engine.handles.release(handle, _close, engine, handle, handle.flags)


def _close(engine: "Engine", handle: Handle, flags: int) -> None:
    try:
        if handle.backed:
            engine.backings.released(handle.node, handle.flags)
        if engine.operations.release is not None:
            engine.call_closing("release", handle, flags)
    finally:
        engine.nodes.released(handle.node, handle.number)
        if engine.hidden and not handle.node.opens:
            names.remove_hidden(engine, handle.node)


def fsync(engine: "Engine", node: Node, fh: int, fsync_flags: int) -> bytes:
    """Bring a file to the disk."""
    handle = engine.handles.get(fh)
    datasync = fsync_flags & abi.FSYNC_FDATASYNC
    engine.call_open("fsync", handle, datasync)
    return b""


def fallocate(engine: "Engine", node: Node, fh: int, offset: int, length: int, mode: int) -> bytes:
    """Reserve, punch or zero a range: fallocate(2)."""
    handle = engine.handles.get(fh)
    engine.call_open("fallocate", handle, mode, offset, length)
    _changed_by_caller(engine, handle)
    return b""


def lseek(engine: "Engine", node: Node, fh: int, offset: int, whence: int) -> bytes:
    """Find data or a hole: lseek(2), SEEK_DATA and SEEK_HOLE.

    With the writeback cache the kernel asks without having sent what it has collected (fs/fuse/file.c,
    fuse_lseek); ENOSYS makes it take all files for one piece of data.
    """
    if engine.agreement.flags & abi.INIT_WRITEBACK_CACHE:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    handle = engine.handles.get(fh)
    return abi.LSEEK_OUT.pack(engine.call_open("lseek", handle, offset, whence))


def copy_file_range(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Copy between two open files, at most what the old reply can report."""
    return abi.WRITE_OUT.pack(_copy_file_range(engine, CopyFileRangeIn(*fields), _MOST_IN_32_BITS))


def copy_file_range_64(engine: "Engine", node: Node, *fields: int) -> bytes:
    """Copy between two open files."""
    return abi.COPY_FILE_RANGE_OUT.pack(_copy_file_range(engine, CopyFileRangeIn(*fields), 1 << 62))


def _copy_file_range(engine: "Engine", request: CopyFileRangeIn, most: int) -> int:
    source = engine.handles.get(request.fh_in)
    target = engine.handles.get(request.fh_out)
    engine.required("copy_file_range")  # ENOSYS first: the kernel then asks no more
    if not (source.arguments and target.arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    copied = engine.call_open(
        "copy_file_range",
        source,
        request.off_in,
        target.object,
        request.off_out,
        min(request.len, most),
        request.flags,
    )
    _changed_by_caller(engine, target)
    return int(copied)


def _changed_by_caller(engine: "Engine", handle: Handle) -> None:
    """Clear set-id bits after a change of data for which the kernel does not say so (file_modified)."""
    if current.uid != 0 and engine.agreement.has(abi.INIT_HANDLE_KILLPRIV_V2):
        metadata.kill_privileges(engine, handle.node, handle)


def bmap(engine: "Engine", node: Node, block: int, blocksize: int) -> bytes:
    """Return where a block of the file lies on the device."""
    found = call(engine.required("bmap"), engine.path(node), blocksize, block)
    return abi.BMAP_OUT.pack(int(found or 0))


def ioctl(engine: "Engine", node: Node, *arguments: Any) -> bytes:
    """Serve a device control of restricted form: its number says how much data goes in and out.

    fuse-python's handlers get the data, or None when the number says that none goes in, and return what
    goes out.
    """
    request, data = IoctlIn(*arguments[:-1]), arguments[-1]
    if request.flags & abi.IOCTL_UNRESTRICTED or len(data) < request.in_size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    # As libfuse without FUSE_CAP_IOCTL_DIR.
    if request.flags & abi.IOCTL_DIR and "ioctl_dir" not in engine.wanted:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    handle = engine.handles.get(request.fh)
    given: Optional[bytes] = bytes(data[: request.in_size]) if request.in_size else None
    result = engine.call_open("ioctl", handle, request.cmd, given, request.flags)
    if given is not None or not request.out_size:  # it may have changed something: chattr(1) does
        engine.forget_attributes(node)
    out = b"" if result is None or isinstance(result, int) else bytes(result)
    value = result if isinstance(result, int) else 0
    return abi.IOCTL_OUT.pack(value, 0, 0, 0) + out[: request.out_size]


class PollHandle:
    """What a poll handler gets when the kernel wants to be told of changes: pass it to NotifyPoll."""

    def __init__(self, engine: "Engine", number: int) -> None:
        self._engine = engine
        self._number = number
        self._guard = threading.Lock()

    def notify(self) -> int:
        """Tell the kernel to ask again, once; return 0."""
        with self._guard:
            self._engine.notify(notifications.poll_wakeup(self._number))
        return 0


def poll(engine: "Engine", node: Node, fh: int, kh: int, flags: int, events: int) -> bytes:
    """Return which of poll(2)'s events have happened."""
    handle = engine.handles.get(fh)
    wanted = PollHandle(engine, kh) if flags & abi.POLL_SCHEDULE_NOTIFY else None
    happened = engine.call_open("poll", handle, wanted)
    return abi.POLL_OUT.pack(happened or 0)

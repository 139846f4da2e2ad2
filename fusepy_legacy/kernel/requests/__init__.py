"""One row for each request: its opcode, the layout of its arguments, and the function that serves it.

The functions live in the rooms named after their subject. Their parameters after the engine and the node
are the fields of the layout, in abi.py's order, and then the names, or the rest of the data.
"""

from struct import Struct
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Sequence

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.abi import Opcode
from fusepy_legacy.kernel.requests import (
    directories,
    files,
    locks,
    metadata,
    names,
    session,
    xattrs,
)

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine


class Row(NamedTuple):
    """One kind of request.

    `names` is how many names follow the fixed fields; `data` that the rest follows as a memoryview instead.
    `replies` is false for what is never answered, `needs_node` for what is about no node, and `by_handle`
    true for what allow_root lets pass because an open was let pass before.
    """

    opcode: Opcode
    layout: Optional[Struct]
    serve: Callable[..., Optional[bytes]]
    names: int = 0
    data: bool = False
    replies: bool = True
    needs_node: bool = True
    by_handle: bool = False


ROWS: Sequence[Row] = (
    # The session
    Row(Opcode.INIT, None, session.init, data=True, needs_node=False, by_handle=True),
    Row(Opcode.DESTROY, None, session.destroy, needs_node=False, by_handle=True),
    Row(Opcode.INTERRUPT, abi.INTERRUPT_IN, session.interrupt, needs_node=False, by_handle=True),
    Row(Opcode.STATFS, None, session.statfs),
    Row(Opcode.SYNCFS, abi.SYNCFS_IN, session.syncfs),
    # Names
    Row(Opcode.LOOKUP, None, names.lookup, names=1),
    Row(Opcode.FORGET, abi.FORGET_IN, names.forget, replies=False, by_handle=True),
    Row(
        Opcode.BATCH_FORGET,
        abi.BATCH_FORGET_IN,
        names.batch_forget,
        data=True,
        replies=False,
        needs_node=False,
        by_handle=True,
    ),
    Row(Opcode.MKNOD, abi.MKNOD_IN, names.mknod, names=1),
    Row(Opcode.MKDIR, abi.MKDIR_IN, names.mkdir, names=1),
    Row(Opcode.SYMLINK, None, names.symlink, names=2),
    Row(Opcode.READLINK, None, names.readlink),
    Row(Opcode.LINK, abi.LINK_IN, names.link, names=1),
    Row(Opcode.UNLINK, None, names.unlink, names=1),
    Row(Opcode.RMDIR, None, names.rmdir, names=1),
    Row(Opcode.RENAME, abi.RENAME_IN, names.rename, names=2),
    Row(Opcode.RENAME2, abi.RENAME2_IN, names.rename2, names=2),
    # Attributes
    Row(Opcode.GETATTR, abi.GETATTR_IN, metadata.getattr_),
    Row(Opcode.SETATTR, abi.SETATTR_IN, metadata.setattr_),
    Row(Opcode.STATX, abi.STATX_IN, metadata.statx),
    Row(Opcode.ACCESS, abi.ACCESS_IN, metadata.access),
    Row(Opcode.GETXATTR, abi.GETXATTR_IN, xattrs.getxattr, names=1),
    Row(Opcode.SETXATTR, None, xattrs.setxattr, data=True),
    Row(Opcode.LISTXATTR, abi.GETXATTR_IN, xattrs.listxattr),
    Row(Opcode.REMOVEXATTR, None, xattrs.removexattr, names=1),
    # Open files
    Row(Opcode.OPEN, abi.OPEN_IN, files.open_),
    Row(Opcode.CREATE, abi.CREATE_IN, files.create, names=1),
    Row(Opcode.TMPFILE, abi.CREATE_IN, files.tmpfile, names=1),
    Row(Opcode.READ, abi.READ_IN, files.read, by_handle=True),
    Row(Opcode.WRITE, abi.WRITE_IN, files.write, data=True, by_handle=True),
    Row(Opcode.FLUSH, abi.FLUSH_IN, files.flush),
    Row(Opcode.RELEASE, abi.RELEASE_IN, files.release, by_handle=True),
    Row(Opcode.FSYNC, abi.FSYNC_IN, files.fsync, by_handle=True),
    Row(Opcode.FALLOCATE, abi.FALLOCATE_IN, files.fallocate),
    Row(Opcode.LSEEK, abi.LSEEK_IN, files.lseek),
    Row(Opcode.COPY_FILE_RANGE, abi.COPY_FILE_RANGE_IN, files.copy_file_range),
    Row(Opcode.COPY_FILE_RANGE_64, abi.COPY_FILE_RANGE_IN, files.copy_file_range_64),
    Row(Opcode.BMAP, abi.BMAP_IN, files.bmap),
    Row(Opcode.IOCTL, abi.IOCTL_IN, files.ioctl, data=True),
    Row(Opcode.POLL, abi.POLL_IN, files.poll),
    # Open directories
    Row(Opcode.OPENDIR, abi.OPEN_IN, directories.opendir),
    Row(Opcode.READDIR, abi.READ_IN, directories.readdir, by_handle=True),
    Row(Opcode.READDIRPLUS, abi.READ_IN, directories.readdirplus, by_handle=True),
    Row(Opcode.RELEASEDIR, abi.RELEASE_IN, directories.releasedir, by_handle=True),
    Row(Opcode.FSYNCDIR, abi.FSYNC_IN, directories.fsyncdir, by_handle=True),
    # Locks
    Row(Opcode.GETLK, abi.LK_IN, locks.getlk),
    Row(Opcode.SETLK, abi.LK_IN, locks.setlk),
    Row(Opcode.SETLKW, abi.LK_IN, locks.setlkw),
)

_NAMING = frozenset(
    (
        Opcode.LOOKUP,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.SYMLINK,
        Opcode.LINK,
        Opcode.CREATE,
        Opcode.TMPFILE,
    )
)


def undo(engine: "Engine", opcode: int, body: bytes) -> None:
    """Take back the lookups and opens of a reply that the kernel did not take."""
    if opcode in _NAMING:
        node_id = abi.ENTRY_OUT.unpack_from(body)[0]
        try:
            if opcode in (Opcode.CREATE, Opcode.TMPFILE):
                files.abandon(engine, abi.OPEN_OUT.unpack_from(body, abi.ENTRY_OUT.size)[0])
        finally:
            engine.nodes.forget(node_id, 1)
    elif opcode == Opcode.OPEN:
        files.abandon(engine, abi.OPEN_OUT.unpack_from(body)[0])
    elif opcode == Opcode.OPENDIR:
        directories.abandon(engine, abi.OPEN_OUT.unpack_from(body)[0])
    elif opcode == Opcode.READDIRPLUS:
        for node_id in directories.node_ids(body):
            engine.nodes.forget(node_id, 1)

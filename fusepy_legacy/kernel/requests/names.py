"""Requests about names: LOOKUP and FORGET, and what makes, moves and removes names."""

import errno
import os
import stat
from typing import TYPE_CHECKING, Optional

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Moved, Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

_RENAME_EXCHANGE = 2  # linux/fs.h
_TRIES = 4  # to look a name up between renames
_PATH_MAX = 4096  # linux/limits.h, with the NUL


def lookup(engine: "Engine", parent: Node, name: str) -> bytes:
    """Find a name in a directory. A missing one may be remembered, for negative_timeout."""
    if name in (".", ".."):
        return _lookup_by_handle(engine, parent, name)
    for _ in range(_TRIES):
        try:
            return _lookup(engine, parent, name, parent.renames)
        except Moved:
            engine.nodes.settle()
    return _lookup(engine, parent, name, None)


def _lookup(engine: "Engine", parent: Node, name: str, since: Optional[int]) -> bytes:
    try:
        status = call(engine.required("getattr"), engine.child_path(parent, name))
    except OSError as error:
        if error.errno == errno.ENOENT:
            if not engine.nodes.under_way:
                engine.nodes.lost(parent, name)
            if engine.negative_entry is not None:
                return engine.negative_entry
        raise
    return engine.found(parent, name, status, since)[1]


def _lookup_by_handle(engine: "Engine", node: Node, name: str) -> bytes:
    """Find a node itself, or its parent: for NFS and open_by_handle_at (INIT_EXPORT_SUPPORT)."""
    target = node if name == "." or node is engine.nodes.root else node.parent
    if target is None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    attributes = engine.attributer(engine.status(target), target.id)
    entry = engine.pack_entry(target, attributes)
    if not engine.nodes.looked_up_again(target):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return entry


def forget(engine: "Engine", node: Node, lookups: int) -> None:
    """Take lookups back."""
    _forget(engine, node.id, lookups)


def batch_forget(engine: "Engine", root: Node, count: int, data: memoryview) -> None:
    """Take the lookups of several nodes back."""
    whole = min(count, len(data) // abi.FORGET_ONE.size) * abi.FORGET_ONE.size
    for node_id, lookups in abi.FORGET_ONE.iter_unpack(data[:whole]):
        _forget(engine, node_id, lookups)


def _forget(engine: "Engine", node_id: int, lookups: int) -> None:
    engine.nodes.forget(node_id, lookups)
    if node_id in engine.held and node_id not in engine.nodes.by_id:
        engine.held.pop(node_id).close()


def new_mode(engine: "Engine", mode: int, umask: int) -> int:
    """Return the mode to create with, and leave the umask to a filesystem that asked to apply it.

    With INIT_DONT_MASK the mode comes as the caller gave it: a directory's default ACL counts instead of
    the umask (acl(5)), and only the backing filesystem knows.
    """
    if engine.agreement.has(abi.INIT_DONT_MASK):
        current.umask = umask
    return mode


def mknod(engine: "Engine", parent: Node, mode: int, rdev: int, umask: int, name: str) -> bytes:
    """Make a file, fifo, socket or device node."""
    path = engine.child_path(parent, name)
    mode = new_mode(engine, mode, umask)
    if not (stat.S_ISREG(mode) and _create_by_opening(engine, path, mode)):
        call(engine.required("mknod"), path, mode, rdev)
    return _made(engine, parent, name)


def _create_by_opening(engine: "Engine", path: str, mode: int) -> bool:
    """Make a regular file as libfuse does (lib/fuse.c, fuse_lib_mknod); tell whether there is a way to.

    A handler of mknod that was written for libfuse has never been asked for regular files, where the
    filesystem has create too.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        opened = call(engine.required("create"), path, flags, mode)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return False
        raise
    if engine.operations.release is not None:
        kept = (opened[0],) if isinstance(opened, tuple) and opened[1] else ()
        call(engine.operations.release, path, flags, *kept)
    return True


def mkdir(engine: "Engine", parent: Node, mode: int, umask: int, name: str) -> bytes:
    """Make a directory."""
    path = engine.child_path(parent, name)
    call(engine.required("mkdir"), path, new_mode(engine, mode, umask))
    return _made(engine, parent, name)


def symlink(engine: "Engine", parent: Node, name: str, target: str) -> bytes:
    """Make a symlink."""
    path = engine.child_path(parent, name)
    call(engine.required("symlink"), target, path)
    return _made(engine, parent, name)


def _made(engine: "Engine", parent: Node, name: str) -> bytes:
    return engine.entry(parent, name, engine.child_status(parent, name))


def readlink(engine: "Engine", node: Node) -> bytes:
    """Return a symlink's target."""
    target = call(engine.required("readlink"), engine.path(node))
    encoded = target if isinstance(target, bytes) else os.fsencode(target)
    if len(encoded) >= _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return encoded


def link(engine: "Engine", parent: Node, old_id: int, name: str) -> bytes:
    """Give a file a second name; with real inode numbers it stays one node."""
    old = engine.nodes.by_id.get(old_id)
    if old is None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    path = engine.child_path(parent, name)
    # An unlinked open file, or one of O_TMPFILE: linkat(2), AT_EMPTY_PATH.
    if engine.nodes.path(old) is None:
        with engine.handles.borrowed(old) as handle:
            call(engine.required("linkat"), handle.path, path, *handle.arguments)
    else:
        call(engine.required("link"), engine.path(old), path)
    status = engine.child_status(parent, name)
    if engine.real_inodes and old.file_id is None and old.place is None:
        engine.nodes.identify(old, engine.file_id(status))
    return engine.entry(parent, name, status)


def unlink(engine: "Engine", parent: Node, name: str) -> bytes:
    """Take a file's name away."""
    if not _hide(engine, parent, name):
        node = engine.nodes.child(parent, name)
        path = engine.child_path(parent, name, node)
        if node is not None and node.special:
            _take_name(engine, node, "unlink", path)
        else:  # holding a regular file would keep its room from being free at once
            call(engine.required("unlink"), path)
        engine.nodes.removed(parent, name)
    return b""


def rmdir(engine: "Engine", parent: Node, name: str) -> bytes:
    """Remove an empty directory, which programs may still work in."""
    node = engine.nodes.child(parent, name)
    _take_name(engine, node, "rmdir", engine.child_path(parent, name, node))
    engine.nodes.removed(parent, name)
    return b""


def rename(engine: "Engine", parent: Node, new_parent_id: int, old: str, new: str) -> bytes:
    """Rename, replacing what has the new name."""
    return rename2(engine, parent, new_parent_id, 0, old, new)


def rename2(
    engine: "Engine", parent: Node, new_parent_id: int, flags: int, old: str, new: str
) -> bytes:
    """Rename with RENAME_ flags, which a handler with a third parameter gets."""
    new_parent = engine.nodes.by_id.get(new_parent_id)
    if new_parent is None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    handler = engine.required("rename")
    with engine.nodes.moving((parent, old), (new_parent, new)):
        if not flags and engine.nodes.child(new_parent, new) is not None:
            _hide(engine, new_parent, new)
        paths = [
            engine.child_path(directory, name, engine.nodes.child(directory, name))
            for directory, name in ((parent, old), (new_parent, new))
        ]
        if flags:
            if not engine.operations.takes("rename", 3):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            call(handler, *paths, flags)
        else:
            replaced = engine.nodes.child(new_parent, new)
            if replaced is None or replaced.opens:
                call(handler, *paths)
            else:
                _take_name(engine, replaced, "rename", *paths)
        engine.nodes.renamed(parent, old, new_parent, new, bool(flags & _RENAME_EXCHANGE))
    return b""


# A file without an open file object lives by its path: when it is unlinked while it is open, it gets a
# hidden name until it is closed, as in libfuse (lib/fuse.c, hide_node).


def _hide(engine: "Engine", parent: Node, name: str) -> bool:
    """Rename an open file out of the way instead of removing it; tell whether that was needed."""
    node = engine.nodes.child(parent, name)
    if node is None or not node.opens or "hard_remove" in engine.options:
        return False
    handles = [engine.handles.find(number) for number in list(node.opens)]
    if all(handle is None or _outlives_its_name(engine, handle) for handle in handles):
        return False
    if node.more:
        return False  # another name keeps it alive
    hidden = f".fuse_hidden{node.id:08x}{engine.generation & 0xFFFFFFFF:08x}"
    call(
        engine.required("rename"),
        engine.child_path(parent, name),
        engine.child_path(parent, hidden),
    )
    engine.nodes.renamed(parent, name, parent, hidden, exchange=False)
    engine.hidden[node.id] = hidden
    return True


def _outlives_its_name(engine: "Engine", handle: Handle) -> bool:
    """Tell whether an open file can be used without a path; a directory cannot be hidden anyway."""
    if handle.listing is not None:
        return True
    return bool(handle.arguments) and engine.operations.fgetattr is not None


def _take_name(engine: "Engine", node: Optional[Node], taker: str, *paths: str) -> None:
    """Call the handler that takes a node's only name, and hold on to the node until the kernel forgets it.

    Someone may have looked it up and be about to open it, may work in it, or have it open without our
    knowing. The filesystem's `hold` returns a path that leads to this very file until it is closed.
    """
    held = _hold(engine, node)
    try:
        call(engine.required(taker), *paths)
    except BaseException:
        if held is not None:
            engine.held.pop(held.id).close()
        raise


def _hold(engine: "Engine", node: Optional[Node]) -> Optional[Node]:
    """Hold on to a node whose only name is about to go; return it if that is new."""
    hold = engine.operations.hold
    if hold is None or node is None or node.children or node.more or node.id in engine.held:
        return None
    try:
        engine.held[node.id] = call(hold, engine.path(node))
    except OSError:
        return None  # then the kernel has to look it up again
    return node


def remove_hidden(engine: "Engine", node: Node) -> None:
    """Remove the hidden name of a file that has been closed."""
    hidden: Optional[str] = engine.hidden.pop(node.id, None)
    if hidden is None or node.place is None:
        return
    parent, name = node.place
    call(engine.required("unlink"), engine.child_path(parent, name))
    engine.nodes.removed(parent, name)

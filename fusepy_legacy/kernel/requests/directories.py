"""Requests about open directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR."""

import contextlib
import errno
import itertools
import os
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Generator,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.handles import Handle
from fusepy_legacy.kernel.nodes import Moved, Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

_UNKNOWN_INO = 0xFFFFFFFF  # libfuse's number for an entry without one: lib/fuse.c
_ZEROS = bytes(8)
_NO_ENTRY = bytes(abi.ENTRY_OUT.size)  # an ENTRY_OUT that says: look it up when you need it


class Listing:
    """Where the reading of an open directory stands.

    A handler gives its entries offsets to come back to, and is asked with each request from there on; or it
    gives none (0), and is then asked for all entries at once, which are kept here as `whole`. `error` is what
    it raised behind the entry with this `offset`: it is for the next request.
    """

    __slots__ = ("whole", "error", "offset")

    def __init__(self) -> None:
        self.whole: Optional[List[Any]] = None
        self.error: Optional[OSError] = None
        self.offset = 0


def opendir(engine: "Engine", node: Node, flags: int, open_flags: int) -> bytes:
    """Open a directory; without a handler there is nothing to do, as in libfuse.

    The path may lead to another directory by now. Then ESTALE makes the kernel look the name up again.
    An object with `keep_cache` lets the kernel keep the listing until it is told of a change.
    """
    path = engine.path(node)
    handler = engine.operations.opendir
    value = call(handler, path) if handler is not None else None
    handle = engine.handles.add(node, value, value is not None, str(path), flags)
    handle.listing = Listing()
    engine.nodes.opened(node, handle.number)
    try:
        if not _is_of_node(engine, node, handle):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        keeps = getattr(value, "keep_cache", False)
    except BaseException:
        abandon(engine, handle.number)
        raise
    kept = abi.FOPEN_KEEP_CACHE | abi.FOPEN_CACHE_DIR if keeps else 0
    return abi.OPEN_OUT.pack(handle.number, kept, 0)


def _is_of_node(engine: "Engine", node: Node, handle: Handle) -> bool:
    """Tell whether an opened directory is the node's, as far as it can be asked."""
    if node.file_id is None or not hasattr(handle.object, "fgetattr"):
        return True
    return engine.file_id(engine.status_of_open(handle)) == node.file_id


def releasedir(
    engine: "Engine", node: Node, fh: int, flags: int, release_flags: int, lock_owner: int
) -> bytes:
    """Close a directory."""
    abandon(engine, fh)
    return b""


def abandon(engine: "Engine", fh: int) -> None:
    """Close a directory, maybe one whose opening the kernel never learned of."""
    handle = engine.handles.get(fh)
    engine.handles.release(handle, _close, engine, handle)


def _close(engine: "Engine", handle: Handle) -> None:
    try:
        if engine.operations.releasedir is not None:
            engine.call_closing("releasedir", handle)
    finally:
        engine.nodes.released(handle.node, handle.number)


def fsyncdir(engine: "Engine", node: Node, fh: int, fsync_flags: int) -> bytes:
    """Bring a directory to the disk."""
    handle = engine.handles.get(fh)
    datasync = fsync_flags & abi.FSYNC_FDATASYNC
    engine.call_open("fsyncdir", handle, datasync)
    return b""


def readdir(
    engine: "Engine",
    node: Node,
    fh: int,
    offset: int,
    size: int,
    read_flags: int,
    lock_owner: int,
    flags: int,
) -> bytes:
    """Return as many entries from `offset` on as fit into `size` bytes."""
    return _read(engine, engine.handles.get(fh), offset, size, plus=False)


def readdirplus(
    engine: "Engine",
    node: Node,
    fh: int,
    offset: int,
    size: int,
    read_flags: int,
    lock_owner: int,
    flags: int,
) -> bytes:
    """Return entries with their attributes; each but . and .. counts one lookup."""
    return _read(engine, engine.handles.get(fh), offset, size, plus=True)


def node_ids(body: bytes) -> Iterator[int]:
    """Yield the node of each entry of a READDIRPLUS reply that counted a lookup."""
    position = 0
    while position < len(body):
        fields = abi.DIRENTPLUS.unpack_from(body, position)
        if fields[0]:
            yield fields[0]
        position += abi.record_align(abi.DIRENTPLUS.size + fields[-2])


def _read(engine: "Engine", handle: Handle, offset: int, size: int, plus: bool) -> bytes:
    has_ino = engine.use_ino or "readdir_ino" in engine.options
    head = abi.DIRENTPLUS.size if plus else abi.DIRENT.size
    fitting = _fitting(engine, handle, offset, size, head)
    look_up = _lookup_of(engine, handle) if plus else None
    pack = abi.DIRENT.pack
    parts: List[bytes] = []
    try:
        for entry, name, encoded in fitting:
            length = len(encoded)
            ino = int(entry.ino) if has_ino and entry.ino else _UNKNOWN_INO
            dirent = pack(ino, entry.offset, length, entry.type >> 12 & 0o17)
            if look_up is not None:
                parts.append(look_up(name))
            parts += dirent, encoded, _ZEROS[: -(head + length) % 8]
    except BaseException:
        for node_id in node_ids(b"".join(parts)) if plus else ():
            engine.nodes.forget(node_id, 1)
        raise
    return b"".join(parts)


def _fitting(
    engine: "Engine", handle: Handle, offset: int, size: int, head: int
) -> List[Tuple[Any, str, bytes]]:
    """Return the entries from `offset` on that fit into `size` bytes, with their names in both forms.

    All of them before anybody is asked for attributes, and with a call of the handler for each request, as
    libfuse has it: a generator that has not ended may hold a lock that getattr takes too, or be bound to its
    thread, as sqlite's cursors are.
    """
    listing = handle.listing
    fitting: List[Tuple[Any, str, bytes]] = []
    with contextlib.closing(_entries(engine, handle, listing, offset)) as entries:
        try:
            for entry in entries:
                name = entry.name
                encoded = os.fsencode(name)
                if name is encoded:  # bytes, of a program that was written for Python 2
                    name = os.fsdecode(name)
                unpadded = head + len(encoded)
                size -= unpadded + -unpadded % 8
                if size < 0:
                    break
                fitting.append((entry, name, encoded))
        except OSError as error:
            if not fitting:
                raise
            listing.error = error
            listing.offset = fitting[-1][0].offset
    return fitting


def _entries(
    engine: "Engine", handle: Handle, listing: Listing, offset: int
) -> Generator[Any, None, None]:
    """Yield the entries from `offset` on, each with the offset behind it."""
    error, listing.error = listing.error, None
    if error is not None and offset == listing.offset:
        raise error
    if offset and listing.whole is not None:
        yield from listing.whole[offset:]
        return
    listing.whole = None
    asked = engine.call_open("readdir", handle, offset)
    if asked is None or isinstance(asked, int):
        return  # what fuse-python takes for no entries
    stream = iter(asked)
    try:
        for entry in stream:
            if not entry.offset:
                numbered = enumerate(itertools.chain((entry,), stream), 1)
                listing.whole = [
                    _Numbered(each.name, each.ino, each.type, number) for number, each in numbered
                ]
                yield from listing.whole[offset:]
                return
            yield entry
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _lookup_of(engine: "Engine", handle: Handle) -> Callable[[str], bytes]:
    """Return what gives ENTRY_OUT for an entry: one without a node when it cannot be had, or need not be."""
    parent = handle.node
    status_of = _status_of_entry(engine, handle)

    def look_up(name: str) -> bytes:
        if name == "." or name == "..":
            return _NO_ENTRY
        since = parent.renames
        try:
            return engine.found(parent, name, status_of(name), since)[1]
        except (OSError, Moved):
            return _NO_ENTRY

    return look_up


def _status_of_entry(engine: "Engine", handle: Handle) -> Callable[[str], Any]:
    """Return what gives the status of an entry, from the open directory where that is possible."""
    operations, parent = engine.operations, handle.node
    fstatat = operations.fstatat
    if fstatat is None or not handle.arguments:
        return lambda name: call(engine.required("getattr"), engine.child_path(parent, name))
    if "fstatat" in operations.methods:
        method: Callable[[str], Any] = handle.object.fstatat
        return method
    return lambda name: call(fstatat, handle.path, name, *handle.arguments)


class _Numbered(NamedTuple):
    """An entry of a handler without offsets, and its place in the list."""

    name: str
    ino: int
    type: int
    offset: int

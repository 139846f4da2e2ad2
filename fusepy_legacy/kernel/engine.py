"""The engine: a request's bytes in, a reply's bytes out.

It owns no descriptor. One row of `requests.ROWS` for each opcode says how the arguments are laid out and
which function serves them; the function's parameters are the wire's fields in their order, and it returns
the reply's body. OSError becomes an error reply; any other exception is logged with its traceback and
becomes EIO.

Threads may call `handle` at the same time. What they share is the node table, which has a guard, and dicts
whose single operations the GIL makes atomic.

A handler gets a path that was right when it was built. Another thread may rename something above it before
the handler uses it; then the handler fails with ENOENT, and the request is served again with the new path.
Where another file is at the path by then, the filesystem can tell: meant.py.
"""

import contextlib
import errno
import functools
import logging
import os
import stat
import struct
import sys
import time
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from fusepy_legacy.kernel import abi, notifications, requests
from fusepy_legacy.kernel.attributes import Attributer, Attributes, links_of
from fusepy_legacy.kernel.backing import Backings
from fusepy_legacy.kernel.context import current, process_groups
from fusepy_legacy.kernel.extensions import supplementary_groups
from fusepy_legacy.kernel.handles import Handle, Handles
from fusepy_legacy.kernel.meant import FileId, meant
from fusepy_legacy.kernel.negotiation import Agreement
from fusepy_legacy.kernel.nodes import Node, NodeTable
from fusepy_legacy.kernel.operations import Callback, Operations, call
from fusepy_legacy.kernel.waits import Waits

logger = logging.getLogger(__name__)

# Head and body of a reply apart, for writev(2): joining them would copy a large body once more.
Reply = Union[bytes, Tuple[bytes, bytes]]
_LARGE = 16384

_unpack_header = abi.IN_HEADER.unpack_from
_pack_header = abi.OUT_HEADER.pack
_HEADER_SIZE = abi.IN_HEADER.size
_REPLY_HEADER_SIZE = abi.OUT_HEADER.size
# What os.fsdecode does, in half the time.
_ENCODING = sys.getfilesystemencoding()
_ERRORS = "surrogateescape"
_ERRNO_END = 512  # from here on the kernel's own: linux/errno.h, ERESTARTSYS
_TYPE = 0o170000  # S_IFMT, inode(7)
_ELSEWHERE = (errno.ENOENT, errno.ESTALE)  # a path that leads to its file no more
_SPECIAL = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
_FOREVER = float(1 << 63)  # seconds, the longest timeout; the fields have 64 bits
_TRIES = 8  # how often a request is served again because of renames; then ENOENT is the truth

_OptionDict = Dict[str, Union[str, bool]]


class Engine:
    """Serves the requests of one mount with a filesystem's handlers.

    `callbacks` are fuse-python's, by name, and any of the optional ones (docs/handlers.md). `options` are
    those of the table in options.py. `wanted` holds names of negotiation.WANTED.
    """

    def __init__(
        self,
        callbacks: Dict[str, Callback],
        options: Optional[_OptionDict] = None,
        wanted: AbstractSet[str] = frozenset(),
    ) -> None:
        self.options: _OptionDict = options or {}
        self.wanted = wanted
        self.operations = Operations(callbacks)
        self.attributer = Attributer(self.options)
        self.use_ino = self.attributer.use_ino
        self.real_inodes = "real_inodes" in wanted
        self.handles = Handles()
        self.nodes = NodeTable(keep=_keeps_nodes(self.options))
        self.agreement = Agreement(0, 0, 0)
        self.failure: Optional[BaseException] = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_failure: Callable[[], None] = lambda: None
        self.notify: Callable[[bytes], None] = lambda message: None
        self.concurrent = True  # other threads serve requests while one waits in its handler
        self.waits = Waits()
        self.backings = Backings()
        self.hidden: Dict[int, str] = {}
        self.held: Dict[int, Any] = {}
        # Node ids start again with each mount; the generation tells NFS and open_by_handle_at apart.
        self.generation = int(time.time())
        self.owner = os.getuid()
        self._rows = {row.opcode.value: row for row in requests.ROWS}
        self._debug = "debug" in self.options
        self._allow_root = "allow_root" in self.options
        self._longest = _FOREVER
        self._take_options()

    def _take_options(self) -> None:
        entry = _seconds(self.options.get("entry_timeout", "1"), self._longest)
        attr = _seconds(self.options.get("attr_timeout", "1"), self._longest)
        self._entry_head = (self.generation, entry[0], attr[0], entry[1], attr[1])
        self._entry_head_mappable = (self.generation, entry[0], 0, entry[1], 0)
        self._attr_valid = attr
        negative = _seconds(self.options.get("negative_timeout", "0"), self._longest)
        packed = abi.ENTRY_OUT.pack(0, 0, negative[0], 0, negative[1], 0, *(0,) * 16)
        self.negative_entry: Optional[bytes] = packed if negative != (0, 0) else None
        self.open_flags = _open_flags(self.options)

    def limit_timeouts(self, seconds: float) -> None:
        """Answer with timeouts of so many seconds at most from now on, whatever the options say."""
        self._longest = seconds
        self._take_options()

    # Requests

    def handle(self, request: memoryview) -> Optional[Reply]:
        """Serve one request, all of it and nothing more; return the reply, None when there is none.

        Never raises: what cannot be a request is logged and dropped.
        """
        size = len(request)
        if size < _HEADER_SIZE:
            logger.error("dropped a request of %d bytes", size)
            return None
        header = _unpack_header(request)
        row = self._rows.get(header[1])
        if row is None or header[0] != size:
            if row is not None and not row.replies:
                return None
            return _pack_header(16, -errno.ENOSYS if row is None else -errno.EIO, header[2])
        current.engine = self
        current.header = header
        current.extensions = b""
        current.umask = 0
        tries = 0
        try:
            while True:
                moves = self.nodes.moves
                try:
                    body = self._serve(row, request, header)
                    break
                except OSError as error:
                    tries += 1
                    if error.errno not in _ELSEWHERE or not self._is_to_try(header, moves, tries):
                        return self._failed(row, header, error)
                except Exception:
                    logger.exception("%s failed", row.opcode.name)
                    return self._failed(row, header, None)
        finally:
            current.engine = None
        if self._debug:
            logger.debug("%s %d: %d bytes", row.opcode.name, header[3], len(body or b""))
        if body is None:
            return None
        size = len(body)
        head = _pack_header(_REPLY_HEADER_SIZE + size, 0, header[2])
        return (head, body) if size > _LARGE else head + body

    def _failed(
        self, row: "requests.Row", header: Tuple[int, ...], error: Optional[OSError]
    ) -> Optional[Reply]:
        """Return the reply to a request that has failed; without an error it is EIO."""
        if error is not None and self._debug:
            logger.debug("%s %d: %s", row.opcode.name, header[3], error)
        number = errno.EIO if error is None else _errno(error)
        return _pack_header(_REPLY_HEADER_SIZE, -number, header[2]) if row.replies else None

    def _is_to_try(self, header: Tuple[int, ...], moves: int, tries: int) -> bool:
        """Tell whether what was not found may have another path by now, `tries` times looked for."""
        if tries == _TRIES:
            return False
        return self._has_moved(moves) or self._has_another_name(header[3])

    def _has_moved(self, moves: int) -> bool:
        """Tell whether what was not found may have been renamed, since `moves` were counted."""
        return self.nodes.settle() or self.nodes.moves != moves

    def _has_another_name(self, number: int) -> bool:
        """Take from a node a name that leads to it no more; tell whether it has another."""
        node = self.nodes.by_id.get(number)
        place = node.place if node is not None and node.more else None
        return place is not None and self.nodes.lost(*place)

    def _serve(
        self, row: "requests.Row", request: memoryview, header: Tuple[int, ...]
    ) -> Optional[bytes]:
        """Take the request apart as its row says, and call what serves it."""
        _, layout, serve, names, data, _, needs_node, by_handle = row
        if self._allow_root and not by_handle and header[4] not in (self.owner, 0):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if needs_node:
            node = self.nodes.by_id.get(header[3])
            if node is None:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        else:
            node = self.nodes.root
        end = header[0]
        if header[7]:
            end -= header[7] * 8
            current.extensions = bytes(request[end:])
        fields: Tuple[Any, ...] = ()
        start = _HEADER_SIZE
        try:
            if layout is not None:
                fields = layout.unpack_from(request, start)
                start += layout.size
            if names:
                fields += _names(bytes(request[start:end]), names)
            elif data:
                fields += (request[start:end],)
        except (struct.error, ValueError) as error:
            raise OSError(errno.EINVAL, f"malformed request: {error}") from error
        return serve(self, node, *fields)

    def refused(self, request: memoryview, reply: Reply) -> None:
        """Undo what a reply promised, when the kernel would not take it: the request was interrupted.

        The kernel has counted no lookup then, and will not release what was opened.
        """
        opcode = _unpack_header(request)[1]
        head = reply if isinstance(reply, bytes) else reply[0] + reply[1]
        if abi.OUT_HEADER.unpack_from(head)[1] == 0:
            try:
                requests.undo(self, opcode, head[_REPLY_HEADER_SIZE:])
            except Exception:
                logger.exception("closing what was opened for an interrupted request failed")

    def close(self) -> None:
        """Let go of what is held, after the last request."""
        while self.held:
            self.held.popitem()[1].close()

    # What the functions that serve requests share.

    def groups(self) -> Sequence[int]:
        """Return the caller's supplementary groups that count for a new file."""
        if not self.agreement.has(abi.INIT_CREATE_SUPP_GROUP):  # Linux 6.3
            return process_groups(current.pid)
        extensions = current.extensions
        return supplementary_groups(extensions) if extensions else ()

    def path(self, node: Node) -> str:
        """Return a node's path; ESTALE when none leads there any more: the kernel looks the name up again."""
        path = self.path_if_any(node)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return path

    def path_if_any(self, node: Node) -> Optional[str]:
        """Return a node's path, or what holds it when it has no name any more, or None."""
        path = self.nodes.path(node)
        if path is None:
            return self.held.get(node.id)
        return path if node.file_id is None else meant(path, node.file_id)

    def child_path(self, parent: Node, name: str, node: Optional[Node] = None) -> str:
        """Return the path of a name in a directory; ENOENT when the directory has no name any more.

        `node` is what the kernel takes it for, where that matters.
        """
        prefix = self.nodes.prefix(parent)
        if prefix is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not self.real_inodes:
            return prefix + name
        return meant(prefix + name, None if node is None else node.file_id, parent.file_id)

    def child_status(self, parent: Node, name: str) -> Any:
        """Return the status of what has just been made in a directory, wherever that has been moved since.

        To serve the whole request again would be to make it again: EEXIST.
        """
        tries = 0
        while True:
            moves = self.nodes.moves
            try:
                return call(self.required("getattr"), self.child_path(parent, name))
            except OSError as error:
                tries += 1
                if error.errno not in _ELSEWHERE or tries == _TRIES or not self._has_moved(moves):
                    raise

    @contextlib.contextmanager
    def reaching(self, node: Node) -> Iterator[str]:
        """Lend a path that leads to an open file which has no name any more.

        ESTALE when it is not open, or the filesystem's open files have no `fhold`.
        """
        if self.operations.fhold is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        with self.handles.borrowed(node) as handle:
            path = self.call_open("fhold", handle, handle.path)
        try:
            yield path
        finally:
            path.close()

    def call_by_path(self, name: str, node: Node, *arguments: Any) -> Any:
        """Call a handler with a node's path; when that is gone, with one that leads to an open file of it.

        Raises what the handler does, and ESTALE when no path leads there.
        """
        handler = self.required(name)
        path = self.path_if_any(node)
        if path is not None:
            try:
                return call(handler, path, *arguments)
            except OSError as error:
                if error.errno not in _ELSEWHERE or not node.opens or not self.operations.fhold:
                    raise
        with self.reaching(node) as reached:
            return call(handler, reached, *arguments)

    def handle_path(self, handle: Handle) -> str:
        """Return an open file's path.

        Of one that has none any more, the one it was opened by, which is but its name for a handler that gets
        its object. Without an object that path would lead to another file, so it is ENOENT, as in libfuse.
        """
        path = self.nodes.path(handle.node)
        if path is None:
            if not handle.arguments:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            return handle.path
        return path

    def call_closing(self, name: str, handle: Handle, *arguments: Any, **named: Any) -> None:
        """Call the handler `name` when an open file is closed, with libfuse's "-" for a path that is gone."""
        if handle.arguments or self.nodes.path(handle.node) is not None:
            self.call_open(name, handle, *arguments, **named)
        else:
            call(functools.partial(self.required(name), "-", *arguments, **named))

    def status(self, node: Node, handle: Optional[Handle] = None) -> Any:
        """Return a node's status: of its open file if one is given, else of its path.

        When the path is gone, or leads to another file by now, an open file still knows; without one it is
        ESTALE, where files are known by more than their paths.
        """
        if handle is not None:
            return self.status_of_open(handle)
        path = self.path_if_any(node)
        if path is not None:
            try:
                status = call(self.required("getattr"), path)
            except OSError as error:
                if error.errno != errno.ENOENT or not (node.opens or node.file_id):
                    raise
            else:
                if node.file_id is None or self.file_id(status) == node.file_id:
                    return status
        with self.handles.borrowed(node) as borrowed:
            return self.status_of_open(borrowed)

    def status_of_open(self, handle: Handle) -> Any:
        """Return an open file's status."""
        if handle.arguments and self.operations.fgetattr is not None:
            return self.call_open("fgetattr", handle)
        return call(self.required("getattr"), self.handle_path(handle))

    def call_open(self, name: str, handle: Handle, *arguments: Any, **named: Any) -> Any:
        """Call the handler `name` for an open file: with its path first, and its object last.

        The object's own method is called at once where fuse-python would drop the path and do that.
        """
        if handle.arguments and name in self.operations.methods:
            result = getattr(handle.object, name)(*arguments, **named)
        else:
            handler, path = self.required(name), self.handle_path(handle)
            result = handler(path, *arguments, *handle.arguments, **named)
        if result.__class__ is int and result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def required(self, name: str) -> Callback:
        """Return a handler; ENOSYS when the filesystem has none, which the kernel remembers for most."""
        callback: Optional[Callback] = getattr(self.operations, name)
        if callback is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return callback

    def file_id(self, status: Any) -> Optional[FileId]:
        """Return what identifies a file, None where only its path does."""
        return (status.st_dev, status.st_ino) if self.real_inodes else None

    def entry(self, parent: Node, name: str, status: Any) -> bytes:
        """Return ENTRY_OUT for a name that has just been found or made; counts one lookup."""
        return self.found(parent, name, status)[1]

    def found(
        self, parent: Node, name: str, status: Any, since: Optional[int] = None
    ) -> Tuple[Node, bytes]:
        """Return the node of a name that has just been found or made, and ENTRY_OUT; counts one lookup.

        `since` is for what was found: see NodeTable.looked_up.
        """
        attributes = self.attributer(status, 0)
        file_id = (status.st_dev, status.st_ino) if self.real_inodes else None
        node = self.nodes.looked_up(parent, name, file_id, links_of(attributes), since)
        if attributes[9] & _TYPE in _SPECIAL:
            node.special = True
        try:
            return node, self.pack_entry(node, attributes)
        except struct.error:
            self.nodes.forget(node.id, 1)
            raise

    def pack_entry(self, node: Node, attributes: Attributes) -> bytes:
        """Return ENTRY_OUT for a node whose lookup has been counted."""
        if not self.use_ino:
            attributes = (node.id,) + attributes[1:]
        mappable = node.id in self.backings.mappable
        head = self._entry_head_mappable if mappable else self._entry_head
        return abi.ENTRY_OUT.pack(node.id, *head, *attributes)

    def pack_attributes(self, node: Node, status: Any) -> bytes:
        """Return ATTR_OUT."""
        return abi.ATTR_OUT.pack(*self.attr_valid(node), *self.attributer(status, node.id))

    def attr_valid(self, node: Node) -> Tuple[int, int]:
        """Return for how long a node's attributes may be kept, as on the wire: seconds and nanoseconds."""
        return (0, 0) if node.id in self.backings.mappable else self._attr_valid

    def forget_attributes(self, node: Node) -> None:
        """Let the kernel ask again for attributes that have changed otherwise than it asked for."""
        self.notify(notifications.inval_inode(node.id, data=False))


def _errno(error: OSError) -> int:
    """Return an error's number; EIO for what is none, which the kernel would not take."""
    number = error.errno
    return number if isinstance(number, int) and 0 < number < _ERRNO_END else errno.EIO


def _names(data: bytes, count: int) -> Tuple[str, ...]:
    """Return the NUL-terminated names at the start of `data`; ValueError when there are fewer."""
    if count == 1:
        return (data[: data.index(b"\0")].decode(_ENCODING, _ERRORS),)
    parts: List[bytes] = data.split(b"\0", count)
    if len(parts) <= count:
        raise ValueError("a name has no end")
    return tuple([part.decode(_ENCODING, _ERRORS) for part in parts[:count]])


def _seconds(text: Union[str, bool], longest: float) -> Tuple[int, int]:
    """Return a timeout option as seconds and nanoseconds: not negative, and no more than the longest."""
    seconds = min(max(0.0, float(text)), longest)
    return int(seconds), int(seconds % 1 * 1000000000)


def _open_flags(options: _OptionDict) -> int:
    """Return the FOPEN_ flags that all opens have."""
    flags = abi.FOPEN_DIRECT_IO if "direct_io" in options else 0
    # With auto_cache, INIT_AUTO_INVAL_DATA drops what is cached when size or mtime change.
    auto_cache = "auto_cache" in options and "noauto_cache" not in options
    return flags | abi.FOPEN_KEEP_CACHE if auto_cache or "kernel_cache" in options else flags


def _keeps_nodes(options: _OptionDict) -> bool:
    return "noforget" in options or float(options.get("remember", 0)) != 0

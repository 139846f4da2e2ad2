"""Requests about extended attributes.

Values are text for fuse-python, and any bytes for the kernel. A handler gets str with surrogateescape, which
loses nothing, and may return str or bytes.
"""

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.nodes import Node

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine


def getxattr(engine: "Engine", node: Node, size: int, name: str) -> bytes:
    """Return a value, or its length when `size` is 0."""
    value = _call(engine, "getxattr", node, name, size)
    return _answer(value if isinstance(value, int) else _bytes(value), size)


def listxattr(engine: "Engine", node: Node, size: int) -> bytes:
    """Return the names, each with a NUL, or their length when `size` is 0."""
    names = _call(engine, "listxattr", node, size)
    if isinstance(names, int):
        return _answer(names, size)
    return _answer(b"".join(_bytes(name) + b"\0" for name in names or ()), size)


def setxattr(engine: "Engine", node: Node, data: memoryview) -> bytes:
    """Set a value. An ACL that takes the group's rights from the caller clears set-group-id too."""
    extended = engine.agreement.has(abi.INIT_SETXATTR_EXT)
    layout = abi.SETXATTR_IN if extended else abi.SETXATTR_IN_COMPAT
    try:
        size, flags, *more = layout.unpack_from(data)
        rest = bytes(data[layout.size :])
        end = rest.index(b"\0")
    except (struct.error, ValueError) as error:
        raise OSError(errno.EINVAL, f"malformed SETXATTR: {error}") from error
    value = rest[end + 1 : end + 1 + size]
    if len(value) != size:
        raise OSError(errno.EINVAL, "malformed SETXATTR: the value is short")
    text = value.decode("utf-8", "surrogateescape")
    _call(engine, "setxattr", node, os.fsdecode(rest[:end]), text, flags)
    if more and more[0] & abi.SETXATTR_ACL_KILL_SGID:
        mode = int(engine.status(node).st_mode)
        _call(engine, "chmod", node, mode & ~stat.S_ISGID)
    return b""


def removexattr(engine: "Engine", node: Node, name: str) -> bytes:
    """Remove an attribute."""
    _call(engine, "removexattr", node, name)
    return b""


def _call(engine: "Engine", name: str, node: Node, *arguments: Any) -> Any:
    """Call a handler with the node's path; an open file's that is out of reach is EOPNOTSUPP, not ESTALE."""
    try:
        return engine.call_by_path(name, node, *arguments)
    except OSError as error:
        if error.errno != errno.ESTALE or engine.path_if_any(node) is not None:
            raise
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)) from None


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)


def _answer(value: Any, size: int) -> bytes:
    """Return the value, or its length when that is what was asked for; ERANGE when it does not fit."""
    length = value if isinstance(value, int) else len(value)
    if size == 0:
        return abi.GETXATTR_OUT.pack(length)
    if isinstance(value, int):
        # A length where the value was wanted: what fuse-python's xmp does for "nothing there".
        return b""
    if length > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    return bytes(value)

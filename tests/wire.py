"""Requests and replies of the FUSE protocol as bytes, laid out here apart from abi.py.

Source: linux/fuse.h. A test writes each field on a line of its own, with its name there as the comment.
"""

import struct
from typing import Any

UNIQUE = 0x1122334455667788
UID, GID, PID = 1000, 100, 4321  # the caller's


def u16(value: int) -> bytes:
    """Return a field of 16 bits, in the machine's byte order as all of the protocol."""
    return struct.pack("=H", value)


def u32(value: int) -> bytes:
    """Return a field of 32 bits."""
    return struct.pack("=I", value)


def i32(value: int) -> bytes:
    """Return a signed field of 32 bits."""
    return struct.pack("=i", value)


def u64(value: int) -> bytes:
    """Return a field of 64 bits."""
    return struct.pack("=Q", value)


def i64(value: int) -> bytes:
    """Return a signed field of 64 bits."""
    return struct.pack("=q", value)


def request(
    opcode: int,
    *fields: bytes,
    node: int = 1,
    unique: int = UNIQUE,
    uid: int = UID,
    gid: int = GID,
    extensions: bytes = b"",
) -> memoryview:
    """Return a request: struct fuse_in_header, the fields, and the extensions."""
    arguments = b"".join(fields)
    header = (
        u32(40 + len(arguments) + len(extensions))  # len
        + u32(opcode)  # opcode
        + u64(unique)  # unique
        + u64(node)  # nodeid
        + u32(uid)  # uid
        + u32(gid)  # gid
        + u32(PID)  # pid
        + u16(len(extensions) // 8)  # total_extlen
        + u16(0)  # padding
    )
    return memoryview(header + arguments + extensions)


def reply(*fields: bytes, error: int = 0, unique: int = UNIQUE) -> bytes:
    """Return a reply: struct fuse_out_header and the fields. `error` is 0 or a negative errno."""
    body = b"".join(fields)
    header = (
        u32(16 + len(body))  # len
        + i32(error)  # error
        + u64(unique)  # unique
    )
    return header + body


def entry_out(node: int, generation: int, attr: bytes) -> bytes:
    """Return struct fuse_entry_out with the default timeouts of one second."""
    return (
        u64(node)  # nodeid
        + u64(generation)  # generation
        + u64(1)  # entry_valid
        + u64(1)  # attr_valid
        + u32(0)  # entry_valid_nsec
        + u32(0)  # attr_valid_nsec
        + attr
    )


def attr_out(attr: bytes) -> bytes:
    """Return struct fuse_attr_out with the default timeout of one second."""
    return (
        u64(1)  # attr_valid
        + u32(0)  # attr_valid_nsec
        + u32(0)  # dummy
        + attr
    )


def open_out(fh: int, open_flags: int = 0) -> bytes:
    """Return struct fuse_open_out."""
    return (
        u64(fh)  # fh
        + u32(open_flags)  # open_flags
        + i32(0)  # backing_id
    )


def read_in(fh: int, offset: int, size: int) -> bytes:
    """Return struct fuse_read_in."""
    return (
        u64(fh)  # fh
        + u64(offset)  # offset
        + u32(size)  # size
        + u32(0)  # read_flags
        + u64(0)  # lock_owner
        + u32(0)  # flags
        + u32(0)  # padding
    )


def release_in(fh: int, release_flags: int = 0) -> bytes:
    """Return struct fuse_release_in."""
    return (
        u64(fh)  # fh
        + u32(2)  # flags: O_RDWR
        + u32(release_flags)  # release_flags
        + u64(7)  # lock_owner
    )


def dirent(ino: int, offset: int, name: bytes, kind: int) -> bytes:
    """Return struct fuse_dirent with its name, filled up to a multiple of 8 bytes."""
    entry = (
        u64(ino)  # ino
        + u64(offset)  # off
        + u32(len(name))  # namelen
        + u32(kind)  # type
        + name
    )
    return entry + bytes(-len(entry) % 8)


def joined(answer: Any) -> bytes:
    """Return a reply of the engine in one piece; writev(2) takes a large one in two."""
    return answer if isinstance(answer, bytes) else b"".join(answer)

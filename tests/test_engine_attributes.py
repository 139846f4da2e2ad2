"""fusepy_legacy.kernel.engine, byte by byte: requests about attributes, plain and extended."""

import errno
import os
import types
from typing import Any, List, Optional, Tuple

import pytest

from fusepy_legacy.kernel.requests.metadata import Timestamp
from tests.kernel_side import DIRECTORY, FILE, IDENTIFIED, Kernel, OpenFile, attr, error_of, status
from tests.wire import attr_out, i32, i64, reply, u16, u32, u64

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # linux/stat.h


def test_getattr_of_a_path() -> None:
    """All of struct fuse_attr_out."""
    kernel = Kernel(getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        3,  # FUSE_GETATTR
        u32(0),  # getattr_flags
        u32(0),  # dummy
        u64(0),  # fh
        node=node,
    )
    assert answer == reply(
        u64(1),  # attr_valid
        u32(0),  # attr_valid_nsec
        u32(0),  # dummy
        attr(FILE, ino=node),
    )
    assert kernel.calls() == [("getattr", "/file")]


def test_getattr_of_the_root() -> None:
    """It was never looked up."""
    kernel = Kernel(getattr=DIRECTORY)
    assert kernel.sends(3, u32(0) + u32(0) + u64(0)) == reply(attr_out(attr(DIRECTORY, ino=1)))
    assert kernel.calls() == [("getattr", "/")]


def test_getattr_of_an_open_file() -> None:
    """The kernel names the handle: fgetattr, with the object."""
    opened = OpenFile()
    kernel = Kernel(getattr=FILE, fgetattr=FILE, open=(opened, True))
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    answer = kernel.sends(
        3,  # FUSE_GETATTR
        u32(1),  # getattr_flags: FUSE_GETATTR_FH
        u32(0),  # dummy
        u64(fh),  # fh
        node=node,
    )
    assert answer == reply(attr_out(attr(FILE, ino=node)))
    assert kernel.calls() == [("fgetattr", "/file", opened)]


def test_getattr_of_an_unlinked_open_file() -> None:
    """The kernel names no handle, and there is no path: any open file object of the node knows."""
    opened = OpenFile()
    kernel = Kernel(*IDENTIFIED, getattr=FILE, fgetattr=FILE, open=(opened, True), unlink=None)
    node = kernel.looks_up("file")
    kernel.opens(node)
    kernel.sends(10, b"file\0")
    kernel.calls()
    assert kernel.sends(3, u32(0) + u32(0) + u64(0), node=node) == reply(
        attr_out(attr(FILE, ino=501))
    )
    assert kernel.calls() == [("fgetattr", "/file", opened)]


class Times:
    """The times of a SETATTR, and what handlers that take them as objects are given."""

    atime = (-86400, 7)
    mtime = (7258118400, 8)  # 2200


def pairs(first: Any, second: Any) -> List[Tuple[int, int]]:
    """Return fuse-python's two Timespec objects as pairs."""
    return [(moment.tv_sec, moment.tv_nsec) for moment in (first, second)]


def setattr_in(
    valid: int, fh: int = 0, atime: Tuple[int, int] = (0, 0), mtime: Tuple[int, int] = (0, 0)
) -> bytes:
    """Return struct fuse_setattr_in: size 4321, mode 0600, owner 1002, group 102."""
    return (
        u32(valid)  # valid
        + u32(0)  # padding
        + u64(fh)  # fh
        + u64(4321)  # size
        + u64(0)  # lock_owner
        + i64(atime[0])  # atime
        + i64(mtime[0])  # mtime
        + u64(0)  # ctime
        + u32(atime[1])  # atimensec
        + u32(mtime[1])  # mtimensec
        + u32(0)  # ctimensec
        + u32(0o100600)  # mode
        + u32(0)  # unused4
        + u32(1002)  # uid
        + u32(102)  # gid
        + u32(0)  # unused5
    )


@pytest.mark.parametrize(
    ("valid", "call"),
    [
        (1 << 0, ("chmod", "/file", 0o100600)),  # FATTR_MODE
        (1 << 1, ("chown", "/file", 1002, -1)),  # FATTR_UID
        (1 << 2, ("chown", "/file", -1, 102)),  # FATTR_GID
        (1 << 1 | 1 << 2, ("chown", "/file", 1002, 102)),
        (1 << 3, ("truncate", "/file", 4321)),  # FATTR_SIZE
    ],
)
def test_setattr_changes_what_is_valid(valid: int, call: Tuple[Any, ...]) -> None:
    """And nothing else; the reply has the new attributes."""
    kernel = Kernel(chmod=None, chown=None, truncate=None, getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(4, setattr_in(valid), node=node)
    assert answer == reply(attr_out(attr(FILE, ino=node)))
    assert kernel.calls() == [call, ("getattr", "/file")]


def test_setattr_of_several_at_once() -> None:
    """In libfuse's order."""
    kernel = Kernel(chmod=None, chown=None, truncate=None, utimens=None, getattr=FILE)
    valid = 0x3F  # FATTR_MODE, UID, GID, SIZE, ATIME, MTIME
    node = kernel.looks_up("file")
    kernel.sends(4, setattr_in(valid, atime=Times.atime, mtime=Times.mtime), node=node)
    assert kernel.calls() == [
        ("chmod", "/file", 0o100600),
        ("chown", "/file", 1002, 102),
        ("truncate", "/file", 4321),
        ("utimens", "/file", *Times.atime, *Times.mtime),
        ("getattr", "/file"),
    ]


def test_setattr_truncates_through_the_open_file() -> None:
    """FATTR_FH names it: ftruncate."""
    opened = OpenFile()
    kernel = Kernel(open=(opened, True), ftruncate=None, fgetattr=FILE, getattr=FILE)
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    valid = 1 << 3 | 1 << 6  # FATTR_SIZE, FATTR_FH
    assert kernel.sends(4, setattr_in(valid, fh), node=node) == reply(
        attr_out(attr(FILE, ino=node))
    )
    assert kernel.calls() == [("ftruncate", "/file", 4321, opened), ("fgetattr", "/file", opened)]


def test_setattr_of_an_unlinked_open_file() -> None:
    """fchmod of one carries no handle; the open file objects have their own handlers."""
    opened = OpenFile()
    kernel = Kernel(
        open=(opened, True),
        fgetattr=FILE,
        getattr=FILE,
        unlink=None,
        fchmod=None,
        fchown=None,
        ftruncate=None,
        futimens=None,
    )
    node = kernel.looks_up("file")
    kernel.opens(node)
    kernel.sends(10, b"file\0")
    kernel.calls()
    fields = setattr_in(0x3F, atime=Times.atime, mtime=Times.mtime)
    assert kernel.sends(4, fields, node=node) == reply(attr_out(attr(FILE, ino=node)))
    chmod, chown, truncate, utimens, getattr_ = kernel.calls()
    assert chmod == ("fchmod", "/file", 0o100600, opened)
    assert chown == ("fchown", "/file", 1002, 102, opened)
    assert truncate == ("ftruncate", "/file", 4321, opened)
    assert utimens[:2] == ("futimens", "/file")
    assert pairs(*utimens[2:4]) == [Times.atime, Times.mtime]
    assert utimens[4] is opened
    assert getattr_ == ("fgetattr", "/file", opened)


@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        (1 << 4 | 1 << 5, [Times.atime, Times.mtime]),  # FATTR_ATIME, FATTR_MTIME
        (1 << 4, [Times.atime, (0, UTIME_OMIT)]),
        (1 << 5, [(0, UTIME_OMIT), Times.mtime]),
        (1 << 4 | 1 << 7, [(0, UTIME_NOW), (0, UTIME_OMIT)]),  # FATTR_ATIME_NOW
        (1 << 5 | 1 << 8, [(0, UTIME_OMIT), (0, UTIME_NOW)]),  # FATTR_MTIME_NOW
    ],
)
def test_setattr_of_times_with_utimensat(valid: int, expected: List[Tuple[int, int]]) -> None:
    """The handler knows UTIME_NOW and UTIME_OMIT, as utimensat(2)."""
    kernel = Kernel(utimensat=None, utimens=None, getattr=FILE)
    node = kernel.looks_up("file")
    kernel.sends(4, setattr_in(valid, atime=Times.atime, mtime=Times.mtime), node=node)
    call, _ = kernel.calls()
    assert call[:2] == ("utimensat", "/file")
    assert pairs(*call[2:]) == expected


def test_setattr_of_one_time_with_utimens() -> None:
    """It knows no UTIME_OMIT: the other time stays as it is, to the nanosecond."""
    kernel = Kernel(utimens=None, getattr=FILE)
    node = kernel.looks_up("file")
    kernel.sends(4, setattr_in(1 << 4, atime=Times.atime), node=node)
    assert ("utimens", "/file", *Times.atime, 1600000002, 22) in kernel.calls()
    kernel.sends(4, setattr_in(1 << 5, mtime=Times.mtime), node=node)
    assert ("utimens", "/file", 1600000001, 11, *Times.mtime) in kernel.calls()


def test_setattr_of_times_with_utime() -> None:
    """fuse-python's oldest handler takes a pair of seconds."""
    kernel = Kernel(utime=None, getattr=FILE)
    node = kernel.looks_up("file")
    kernel.sends(4, setattr_in(0x30, atime=Times.atime, mtime=Times.mtime), node=node)
    assert kernel.calls()[0] == ("utime", "/file", (Times.atime[0], Times.mtime[0]))


def test_setattr_without_a_handler() -> None:
    """ENOSYS."""
    kernel = Kernel(getattr=FILE)
    node = kernel.looks_up("file")
    assert kernel.sends(4, setattr_in(1), node=node) == reply(error=-errno.ENOSYS)


@pytest.mark.parametrize(
    ("before", "gid", "after"),
    [
        (0o104755, 101, 0o100755),
        (0o102755, 101, 0o100755),
        (0o106644, 101, 0o102644),
        (0o102644, 101, None),
        (0o102644, 102, 0o100644),
        (0o100755, 102, None),
    ],
)
def test_setattr_clears_privileges_when_it_truncates(before: int, gid: int, after: Any) -> None:
    """FATTR_KILL_SUIDGID: set-user-id, and set-group-id of what the group may execute.

    The members of the group, 101, leave it where it may not.
    """
    kernel = Kernel(truncate=None, chmod=None, getattr=status(before, ino=5))
    node = kernel.looks_up("file")
    kernel.sends(4, setattr_in(1 << 3 | 1 << 11), node=node, gid=gid)
    modes = [call[2] for call in kernel.calls() if call[0] == "chmod"]
    assert modes == ([] if after is None else [after])


def test_setattr_clears_privileges_of_an_unlinked_open_file() -> None:
    """Also when the kernel names no handle: truncate(2) of /proc/self/fd/N."""
    opened = OpenFile()
    shown = status(0o104755, ino=5)
    kernel = Kernel(
        open=(opened, True), fgetattr=shown, getattr=shown, unlink=None, ftruncate=None, fchmod=None
    )
    node = kernel.looks_up("file")
    kernel.opens(node)
    kernel.sends(10, b"file\0")
    kernel.calls()
    answer = kernel.sends(4, setattr_in(1 << 3 | 1 << 11), node=node)
    assert error_of(answer) == 0
    assert ("fchmod", "/file", 0o100755, opened) in kernel.calls()


def test_statx_returns_the_time_of_birth() -> None:
    """All of struct fuse_statx_out; the kernel wants the type in `mode` as well."""
    shown = types.SimpleNamespace(
        st_mode=0o060640,
        st_ino=501,
        st_nlink=1,
        st_uid=1001,
        st_gid=101,
        st_size=5000,
        st_blocks=16,
        st_blksize=4096,
        st_rdev=0x12345678,
        st_atime_ns=-1,
        st_mtime_ns=1600000002000000022,
        st_ctime_ns=1600000003000000033,
        st_birthtime_ns=1500000004000000044,
    )
    kernel = Kernel(*IDENTIFIED, getattr=shown)
    shown.st_dev = 2049
    node = kernel.looks_up("device")
    answer = kernel.sends(
        52,  # FUSE_STATX
        u32(0),  # getattr_flags
        u32(0),  # reserved
        u64(0),  # fh
        u32(0),  # sx_flags
        u32(0xFFF),  # sx_mask
        node=node,
    )
    assert answer == reply(
        u64(1),  # attr_valid
        u32(0),  # attr_valid_nsec
        u32(0),  # flags
        bytes(16),  # spare
        u32(0xFFF),  # stat.mask: STATX_BASIC_STATS, STATX_BTIME
        u32(4096),  # stat.blksize
        u64(0),  # stat.attributes
        u32(1),  # stat.nlink
        u32(1001),  # stat.uid
        u32(101),  # stat.gid
        u16(0o060640),  # stat.mode
        u16(0),  # stat.__spare0
        u64(501),  # stat.ino
        u64(5000),  # stat.size
        u64(16),  # stat.blocks
        u64(0),  # stat.attributes_mask
        i64(-1) + u32(999999999) + i32(0),  # stat.atime
        i64(1500000004) + u32(44) + i32(0),  # stat.btime
        i64(1600000003) + u32(33) + i32(0),  # stat.ctime
        i64(1600000002) + u32(22) + i32(0),  # stat.mtime
        u32(0x456),  # stat.rdev_major
        u32(0x12378),  # stat.rdev_minor
        u32(0),  # stat.dev_major
        u32(0),  # stat.dev_minor
        bytes(112),  # stat.__spare2
    )
    assert kernel.calls() == [("getattr", "/device")]


def test_statx_of_an_open_file_without_a_time_of_birth() -> None:
    """The mask says that there is none."""
    opened = OpenFile()
    kernel = Kernel(getattr=FILE, fgetattr=FILE, open=(opened, True))
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    fields = u32(1) + u32(0) + u64(fh) + u32(0) + u32(0xFFF)
    answer = kernel.sends(52, fields, node=node)
    assert answer is not None
    assert answer[48:52] == u32(0x7FF)  # stat.mask: STATX_BASIC_STATS
    assert kernel.calls() == [("fgetattr", "/file", opened)]


@pytest.mark.parametrize(
    ("born", "mask", "shown"),
    [
        (Timestamp(1500000004, 44), 0x7FF | 0x800, i64(1500000004) + u32(44)),
        (Timestamp(-1, 999999999), 0x7FF | 0x800, i64(-1) + u32(999999999)),
        (Timestamp(0, 0), 0x7FF | 0x800, i64(0) + u32(0)),
        (None, 0x7FF, i64(0) + u32(0)),
    ],
)
def test_statx_asks_for_a_time_of_birth(born: Optional[Timestamp], mask: int, shown: bytes) -> None:
    """The handler of that name, where the status has none; it may not know it either."""
    kernel = Kernel(getattr=FILE, birthtime=born)
    node = kernel.looks_up("file")
    answer = kernel.sends(52, bytes(16) + u32(0) + u32(0xFFF), node=node)
    assert answer is not None
    assert answer[48:52] == u32(mask)  # stat.mask
    assert answer[128:140] == shown  # stat.btime
    assert kernel.calls() == [("getattr", "/file"), ("birthtime", "/file")]


def test_statx_asks_for_no_more_than_the_kernel_does() -> None:
    """Without STATX_BTIME there is no second call."""
    kernel = Kernel(getattr=FILE, birthtime=Timestamp(1, 0))
    node = kernel.looks_up("file")
    kernel.sends(52, bytes(16) + u32(0) + u32(0x7FF), node=node)
    assert kernel.calls() == [("getattr", "/file")]


def test_access_asks_the_handler() -> None:
    """With access(2)'s mode."""
    kernel = Kernel(access=OSError(errno.EACCES, "no"), getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        34,  # FUSE_ACCESS
        u32(os.R_OK | os.X_OK),  # mask
        u32(0),  # padding
        node=node,
    )
    assert answer == reply(error=-errno.EACCES)
    assert kernel.calls() == [("access", "/file", os.R_OK | os.X_OK)]


# Extended attributes

BINARY = b"\x00\x01\xff\xfe"


def test_getxattr_returns_a_value() -> None:
    """Binary ones lossless, whether the handler returns bytes or text."""
    for value in (BINARY, BINARY.decode("utf-8", "surrogateescape")):
        kernel = Kernel(getxattr=value, getattr=FILE)
        node = kernel.looks_up("file")
        answer = kernel.sends(
            22,  # FUSE_GETXATTR
            u32(100),  # size
            u32(0),  # padding
            b"user.name\0",  # name
            node=node,
        )
        assert answer == reply(BINARY)
        assert kernel.calls() == [("getxattr", "/file", "user.name", 100)]


@pytest.mark.parametrize("value", [BINARY, 4], ids=["value", "length"])
def test_getxattr_returns_a_length(value: object) -> None:
    """When asked with size 0; a handler may return the value all the same."""
    kernel = Kernel(getxattr=value, getattr=FILE)
    answer = kernel.sends(22, u32(0) + u32(0) + b"user.name\0", node=kernel.looks_up("file"))
    assert answer == reply(
        u32(4),  # size
        u32(0),  # padding
    )


def test_getxattr_of_a_value_that_does_not_fit() -> None:
    """ERANGE, as getxattr(2)."""
    kernel = Kernel(getxattr=BINARY, getattr=FILE)
    answer = kernel.sends(22, u32(3) + u32(0) + b"user.name\0", node=kernel.looks_up("file"))
    assert answer == reply(error=-errno.ERANGE)


def test_listxattr_returns_names() -> None:
    """Each with a NUL; str or bytes."""
    kernel = Kernel(listxattr=["user.one", b"user.two"], getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        23,  # FUSE_LISTXATTR
        u32(100),  # size
        u32(0),  # padding
        node=node,
    )
    assert answer == reply(b"user.one\0user.two\0")
    assert kernel.calls() == [("listxattr", "/file", 100)]
    assert kernel.sends(23, u32(0) + u32(0), node=node) == reply(u32(18) + u32(0))
    assert kernel.sends(23, u32(17) + u32(0), node=node) == reply(error=-errno.ERANGE)


def init(kernel: Kernel, flags: int) -> None:
    """Agree on INIT flags."""
    fields = u32(7) + u32(45) + u32(0) + u32(flags) + bytes(48)
    assert error_of(kernel.sends(26, fields)) == 0


def test_setxattr_sets_a_value() -> None:
    """In today's layout (FUSE_SETXATTR_EXT); the value is text to handlers, and loses nothing."""
    kernel = Kernel(setxattr=None, getattr=FILE)
    init(kernel, 1 << 29)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        21,  # FUSE_SETXATTR
        u32(4),  # size
        u32(1),  # flags: XATTR_CREATE
        u32(0),  # setxattr_flags
        u32(0),  # padding
        b"user.name\0",  # name
        BINARY,  # value
        node=node,
    )
    assert answer == reply()
    text = BINARY.decode("utf-8", "surrogateescape")
    assert kernel.calls() == [("setxattr", "/file", "user.name", text, 1)]


def test_setxattr_of_an_acl_that_costs_set_group_id() -> None:
    """FUSE_SETXATTR_ACL_KILL_SGID: the filesystem clears it."""
    kernel = Kernel(setxattr=None, chmod=None, getattr=status(0o102755, ino=5))
    init(kernel, 1 << 29)
    node = kernel.looks_up("file")
    name = b"system.posix_acl_access\0"
    kernel.sends(21, u32(2) + u32(0) + u32(1) + u32(0) + name + b"ab", node=node)
    assert ("chmod", "/file", 0o100755) in kernel.calls()


def test_removexattr_removes_one() -> None:
    """By its name."""
    kernel = Kernel(removexattr=None, getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        24,  # FUSE_REMOVEXATTR
        b"user.name\0",  # name
        node=node,
    )
    assert answer == reply()
    assert kernel.calls() == [("removexattr", "/file", "user.name")]


class HeldPath(str):
    """What `fhold` returns."""

    closed = False

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def test_an_unlinked_open_file_by_what_leads_to_it() -> None:
    """The open file makes a path to itself, for as long as the request takes."""
    opened, held = OpenFile(), HeldPath("/file")
    kernel = Kernel(
        getxattr=b"value", open=(opened, True), fgetattr=FILE, getattr=FILE, unlink=None, fhold=held
    )
    node = kernel.looks_up("file")
    kernel.opens(node)
    kernel.sends(10, b"file\0")
    kernel.calls()
    answer = kernel.sends(22, u32(9) + u32(0) + b"user.name\0", node=node)
    assert answer == reply(b"value")
    assert kernel.calls() == [
        ("fhold", "/file", "/file", opened),
        ("getxattr", held, "user.name", 9),
    ]
    assert held.closed
    second = kernel.opens(node)
    assert type(kernel.engine.handles.get(second).path) is str


def test_getxattr_of_an_unlinked_open_file() -> None:
    """Out of reach, which is not ENOENT, without a way to hold it."""
    kernel = Kernel(getxattr=b"", open=(OpenFile(), True), fgetattr=FILE, getattr=FILE, unlink=None)
    node = kernel.looks_up("file")
    kernel.opens(node)
    kernel.sends(10, b"file\0")
    answer = kernel.sends(22, u32(9) + u32(0) + b"user.name\0", node=node)
    assert answer == reply(error=-errno.EOPNOTSUPP)

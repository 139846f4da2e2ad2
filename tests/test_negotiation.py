"""fusepy_legacy.kernel.negotiation: INIT, and how the engine does without what a kernel lacks."""

import errno
import os
import struct
from typing import Any, Dict, NamedTuple, Optional

import pytest

from fusepy_legacy.kernel.context import current
from tests.kernel_side import FILE, Kernel, OpenFile, error_of
from tests.wire import reply, u32

# linux/fuse.h: with which minor version each flag came, as its bit. What came later than a kernel's
# version that kernel does not offer; 0 to 15 came before 7.23.
FLAG_BITS = {
    15: range(16),
    23: [16, 17],  # WRITEBACK_CACHE, NO_OPEN_SUPPORT
    25: [18],  # PARALLEL_DIROPS
    26: [19, 20],  # HANDLE_KILLPRIV, POSIX_ACL
    27: [21],  # ABORT_ERROR
    28: [22, 23],  # MAX_PAGES, CACHE_SYMLINKS
    29: [24],  # NO_OPENDIR_SUPPORT
    30: [25],  # EXPLICIT_INVAL_DATA
    31: [26],  # MAP_ALIGNMENT
    32: [27],  # SUBMOUNTS
    33: [28, 29],  # HANDLE_KILLPRIV_V2, SETXATTR_EXT
    36: [30, 32, 33],  # INIT_EXT, SECURITY_CTX, HAS_INODE_DAX
    38: [34, 35],  # CREATE_SUPP_GROUP, HAS_EXPIRE_ONLY
    39: [36],  # DIRECT_IO_ALLOW_MMAP
    40: [37, 38, 39],  # PASSTHROUGH, NO_EXPORT_SUPPORT, HAS_RESEND
    41: [40],  # ALLOW_IDMAP
    42: [41],  # OVER_IO_URING
    43: [42],  # REQUEST_TIMEOUT
}

ASYNC_READ = 1 << 0
POSIX_LOCKS = 1 << 1
ATOMIC_O_TRUNC = 1 << 3
EXPORT_SUPPORT = 1 << 4
BIG_WRITES = 1 << 5
DONT_MASK = 1 << 6
FLOCK_LOCKS = 1 << 10
HAS_IOCTL_DIR = 1 << 11
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
ASYNC_DIO = 1 << 15
WRITEBACK_CACHE = 1 << 16
PARALLEL_DIROPS = 1 << 18
POSIX_ACL = 1 << 20
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
HANDLE_KILLPRIV_V2 = 1 << 28
SETXATTR_EXT = 1 << 29
INIT_EXT = 1 << 30
CREATE_SUPP_GROUP = 1 << 34
PASSTHROUGH = 1 << 37

SINCE_7_23 = (
    ASYNC_READ
    | EXPORT_SUPPORT
    | BIG_WRITES
    | HAS_IOCTL_DIR
    | AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | ASYNC_DIO
)
SINCE_7_28 = SINCE_7_23 | PARALLEL_DIROPS | MAX_PAGES
SINCE_7_33 = SINCE_7_28 | HANDLE_KILLPRIV_V2 | SETXATTR_EXT
SINCE_7_36 = SINCE_7_33 | INIT_EXT
SINCE_7_40 = SINCE_7_36 | PASSTHROUGH

ALL_WANTED = {"atomic_o_trunc", "create_supp_group", "posix_acl", "cache_symlinks"}


class Agreed(NamedTuple):
    """The fields of struct fuse_init_out, flags and flags2 as one."""

    major: int
    minor: int
    max_readahead: int
    flags: int
    max_background: int
    congestion_threshold: int
    max_write: int
    time_gran: int
    max_pages: int
    map_alignment: int
    max_stack_depth: int
    request_timeout: int


def offered_by(minor: int) -> int:
    """Return all flags that a kernel of this minor version has."""
    return sum(1 << bit for since, bits in FLAG_BITS.items() if since <= minor for bit in bits)


ALL = offered_by(45)


def init_in(major: int, minor: int, flags: int, max_readahead: int = 131072) -> bytes:
    """Return struct fuse_init_in, in the short form of kernels before 7.36 where it is one."""
    fields = (
        u32(major)  # major
        + u32(minor)  # minor
        + u32(max_readahead)  # max_readahead
        + u32(flags & 0xFFFFFFFF)  # flags
    )
    if (major, minor) < (7, 36):
        return fields
    return (
        fields
        + u32(flags >> 32)  # flags2
        + bytes(44)  # unused
    )


def agree(kernel: Kernel, minor: int = 45, flags: Optional[int] = None, **more: int) -> Agreed:
    """Send INIT and return what was agreed on. `flags` are all of the version's, unless given."""
    offer = init_in(7, minor, offered_by(minor) if flags is None else flags, **more)
    answer = kernel.sends(26, offer, node=0)
    assert answer is not None
    assert error_of(answer) == 0
    assert len(answer) == 16 + 64  # the same in all versions since 7.23
    (
        *first,  # major, minor, max_readahead
        flags_low,  # flags
        max_background,  # max_background
        congestion_threshold,  # congestion_threshold
        max_write,  # max_write
        time_gran,  # time_gran
        max_pages,  # max_pages
        map_alignment,  # map_alignment
        flags_high,  # flags2
        max_stack_depth,  # max_stack_depth
        request_timeout,  # request_timeout
        unused,  # unused
    ) = struct.unpack("=4I2H2I2H2IH22s", answer[16:])
    assert unused == bytes(22)
    return Agreed(
        *first,
        flags_low | flags_high << 32,
        max_background,
        congestion_threshold,
        max_write,
        time_gran,
        max_pages,
        map_alignment,
        max_stack_depth,
        request_timeout,
    )


# Versions


@pytest.mark.parametrize(
    ("minor", "flags"),
    [
        (23, SINCE_7_23),
        (24, SINCE_7_23),
        (27, SINCE_7_23 | PARALLEL_DIROPS),
        (28, SINCE_7_28),
        (31, SINCE_7_28),
        (35, SINCE_7_33),
        (36, SINCE_7_36),
        (38, SINCE_7_36),
        (40, SINCE_7_40),
        (45, SINCE_7_40),
    ],
)
def test_each_version_gets_what_it_has(minor: int, flags: int) -> None:
    """Its own minor version, and no flag that it does not offer."""
    kernel = Kernel(fsinit=None)
    agreed = agree(kernel, minor)
    assert (agreed.major, agreed.minor) == (7, minor)
    assert agreed.flags == flags
    assert agreed.time_gran == 1
    assert kernel.calls() == [("fsinit",)]


@pytest.mark.parametrize(
    ("minor", "flags"),
    [
        (23, SINCE_7_23 | ATOMIC_O_TRUNC | DONT_MASK),
        (28, SINCE_7_28 | ATOMIC_O_TRUNC | DONT_MASK | POSIX_ACL | CACHE_SYMLINKS),
        (36, SINCE_7_36 | ATOMIC_O_TRUNC | DONT_MASK | POSIX_ACL | CACHE_SYMLINKS),
        (
            45,
            SINCE_7_40
            | ATOMIC_O_TRUNC
            | DONT_MASK
            | POSIX_ACL
            | CACHE_SYMLINKS
            | CREATE_SUPP_GROUP,
        ),
    ],
)
def test_what_a_filesystem_asks_for(minor: int, flags: int) -> None:
    """As far as the kernel has it."""
    assert agree(Kernel(wanted=ALL_WANTED), minor).flags == flags


def test_listings_with_attributes_each_time() -> None:
    """Instead of only where the kernel expects that it needs them."""
    assert agree(Kernel(wanted={"readdirplus_always"}), 45).flags == SINCE_7_40 & ~READDIRPLUS_AUTO


def test_a_later_minor_version() -> None:
    """Ours is the lower one."""
    assert agree(Kernel(), 99, offered_by(45)).minor == 45


def test_a_later_major_version() -> None:
    """We answer with ours and the kernel asks again in it (linux/fuse.h); nothing has started yet."""
    kernel = Kernel(fsinit=None)
    answer = kernel.sends(26, init_in(8, 0, 0xFFFFFFFF), node=0)
    assert answer == reply(
        u32(7),  # major
        u32(45),  # minor
        bytes(56),  # all the rest
    )
    assert kernel.calls() == []
    assert agree(kernel).minor == 45
    assert kernel.calls() == [("fsinit",)]


@pytest.mark.parametrize("version", [(7, 22), (7, 1), (6, 99)])
def test_a_version_that_is_too_old(version: Any) -> None:
    """The mount fails with EPROTO, and the filesystem is not started."""
    kernel = Kernel(fsinit=None)
    told = []
    kernel.engine.on_failure = lambda: told.append("failed")
    answer = kernel.sends(26, init_in(*version, flags=0xFFFF), node=0)
    assert answer == reply(error=-errno.EIO)
    assert told == ["failed"]
    assert isinstance(kernel.engine.failure, OSError)
    assert kernel.engine.failure.errno == errno.EPROTO
    assert f"FUSE {version[0]}.{version[1]}," in str(kernel.engine.failure)
    assert kernel.calls() == []


# fsinit


def test_the_mount_is_ready_after_fsinit() -> None:
    """Whoever waits for it is told then."""
    kernel = Kernel(fsinit=None)
    kernel.engine.on_ready = lambda: kernel.filesystem.calls.append(("ready",))
    agree(kernel)
    assert kernel.calls() == [("fsinit",), ("ready",)]


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENODEV, "no device"), ValueError("no"), SystemExit(3), -errno.ENODEV],
    ids=repr,
)
def test_a_failing_fsinit_fails_the_mount(failure: Any) -> None:
    """The kernel gets an error, and the engine keeps the reason; the mount is not ready."""
    kernel = Kernel(fsinit=failure)
    told = []
    kernel.engine.on_ready = lambda: told.append("ready")
    kernel.engine.on_failure = lambda: told.append("failed")
    assert kernel.sends(26, init_in(7, 45, 0), node=0) == reply(error=-errno.EIO)
    assert told == ["failed"]
    assert isinstance(kernel.engine.failure, BaseException)
    if isinstance(failure, BaseException):
        assert kernel.engine.failure is failure


# Options


@pytest.mark.parametrize(
    ("options", "max_write", "max_pages"),
    [
        ({}, 1048576, 256),
        ({"max_write": "65536"}, 65536, 16),
        ({"max_write": "5000"}, 5000, 2),
        ({"max_write": "1"}, 4096, 1),
        ({"max_write": "9999999"}, 1048576, 256),
    ],
)
def test_max_write(options: Dict[str, Any], max_write: int, max_pages: int) -> None:
    """Between a page and 1 MiB; max_pages has room for it."""
    agreed = agree(Kernel(options))
    assert (agreed.max_write, agreed.max_pages) == (max_write, max_pages)


def test_max_readahead_is_the_option() -> None:
    """Or what a mount is widened to; the kernel never takes more than the mount has (process_init_reply)."""
    assert agree(Kernel(), max_readahead=65536).max_readahead == 524288
    assert agree(Kernel({"max_readahead": "4096"})).max_readahead == 4096


def test_background_requests() -> None:
    """0 is the kernel's default; the threshold is three quarters of the limit (fs/fuse/inode.c)."""
    assert agree(Kernel())[4:6] == (0, 0)
    assert agree(Kernel({"max_background": "40"}))[4:6] == (40, 30)
    options = {"max_background": "40", "congestion_threshold": "5"}
    assert agree(Kernel(options))[4:6] == (40, 5)


def test_options_that_change_flags() -> None:
    """atomic_o_trunc asks for one, sync_read goes without one."""
    assert agree(Kernel({"atomic_o_trunc": True})).flags == SINCE_7_40 | ATOMIC_O_TRUNC
    assert agree(Kernel({"sync_read": True})).flags == SINCE_7_40 & ~ASYNC_READ


def test_kernel_io() -> None:
    """It needs room in the stack of filesystems, and excludes the writeback cache (fs/fuse/inode.c)."""
    agreed = agree(Kernel())
    assert (agreed.flags, agreed.max_stack_depth) == (SINCE_7_40, 1)
    agreed = agree(Kernel({"no_kernel_io": True}))
    assert (agreed.flags, agreed.max_stack_depth) == (SINCE_7_36, 0)
    agreed = agree(Kernel({"writeback_cache": True}))
    assert (agreed.flags, agreed.max_stack_depth) == (SINCE_7_36 | WRITEBACK_CACHE, 0)
    agreed = agree(Kernel(), flags=ALL & ~PASSTHROUGH)
    assert (agreed.flags, agreed.max_stack_depth) == (SINCE_7_36, 0)


@pytest.mark.parametrize("readable", [True, False])
def test_the_writeback_cache_reads_through_any_open(readable: bool) -> None:
    """What is opened for writing only is opened for reading too, if the filesystem lets it."""
    asked = []

    def opens(path: str, flags: int) -> Any:
        asked.append(flags)
        if flags & os.O_ACCMODE == os.O_RDWR and not readable:
            raise OSError(errno.EACCES, "not for reading")
        return OpenFile(), True

    kernel = Kernel({"writeback_cache": True}, getattr=FILE, open=opens)
    agree(kernel)
    kernel.opens(kernel.looks_up("file"), os.O_WRONLY | os.O_NOATIME)
    assert asked[0] == os.O_RDWR | os.O_NOATIME
    assert asked[1:] == ([] if readable else [os.O_WRONLY | os.O_NOATIME])


@pytest.mark.parametrize(
    ("options", "locks"),
    [
        ({}, POSIX_LOCKS | FLOCK_LOCKS),
        ({"no_remote_lock": True}, 0),
        ({"no_remote_posix_lock": True}, FLOCK_LOCKS),
        ({"no_remote_flock": True}, POSIX_LOCKS),
    ],
)
def test_locks_are_asked_for_when_there_are_handlers(options: Dict[str, Any], locks: int) -> None:
    """Otherwise the kernel does locking itself, which is right within one machine."""
    assert agree(Kernel(options, lock=None, flock=None)).flags == SINCE_7_40 | locks
    assert agree(Kernel(options)).flags == SINCE_7_40


def test_only_one_kind_of_lock() -> None:
    """Each is asked for by its own handler."""
    assert agree(Kernel(lock=None)).flags == SINCE_7_40 | POSIX_LOCKS
    assert agree(Kernel(flock=None)).flags == SINCE_7_40 | FLOCK_LOCKS


# A flag that is absent has its fallback


def test_without_max_pages() -> None:
    """32 pages, the kernel's own limit then."""
    agreed = agree(Kernel(), flags=ALL & ~MAX_PAGES)
    assert agreed.max_write == 131072
    assert agree(Kernel({"max_write": "65536"}), flags=ALL & ~MAX_PAGES).max_write == 65536


def test_without_init_ext() -> None:
    """The upper half of the flags does not count, whatever is in it."""
    agreed = agree(Kernel(wanted=ALL_WANTED), flags=ALL & ~INIT_EXT)
    assert agreed.flags >> 32 == 0
    assert not agreed.flags & INIT_EXT


@pytest.mark.parametrize(
    ("flags", "layout"),
    [
        (ALL, u32(3) + u32(2) + u32(0) + u32(0)),  # size, flags, setxattr_flags, padding
        (ALL & ~SETXATTR_EXT, u32(3) + u32(2)),  # size, flags
    ],
)
def test_without_setxattr_ext(flags: int, layout: bytes) -> None:
    """The kernel sends SETXATTR in its older, shorter layout."""
    kernel = Kernel(setxattr=None, getattr=FILE)
    agree(kernel, flags=flags)
    node = kernel.looks_up("file")
    assert kernel.sends(21, layout + b"user.name\0val", node=node) == reply()
    assert kernel.calls() == [("setxattr", "/file", "user.name", "val", 2)]


@pytest.mark.parametrize(("flags", "umask"), [(ALL, 0o027), (ALL & ~DONT_MASK, 0)])
def test_without_dont_mask(flags: int, umask: int) -> None:
    """The kernel has taken the umask off the mode, so that there is none left to apply."""
    seen = []
    opened = OpenFile()

    def create(path: str, flags: int, mode: int) -> Any:
        seen.append((mode, current.umask))
        return opened, True

    def make(path: str, mode: int, *rdev: int) -> None:
        seen.append((mode, current.umask))

    kernel = Kernel(
        wanted={"posix_acl"},
        create=create,
        tmpfile=create,
        mkdir=make,
        mknod=make,
        getattr=FILE,
        fgetattr=FILE,
    )
    agree(kernel, flags=flags)
    mode = u32(0o100666)
    kernel.sends(35, u32(os.O_RDWR) + mode + u32(0o027) + u32(0) + b"created\0")
    kernel.sends(51, u32(os.O_RDWR) + mode + u32(0o027) + u32(0) + b"#1\0")
    kernel.sends(8, mode + u32(0) + u32(0o027) + u32(0) + b"node\0")
    kernel.sends(9, mode + u32(0o027) + b"directory\0")
    assert seen == [(0o100666, umask)] * 4
    kernel.sends(9, mode + u32(0) + b"another\0")
    assert seen[-1] == (0o100666, 0)


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        (ATOMIC_O_TRUNC, "atomic_o_trunc"),
        (CACHE_SYMLINKS, "cache_symlinks"),
        (CREATE_SUPP_GROUP, "create_supp_group"),
        (POSIX_ACL, "posix_acl"),
    ],
)
def test_what_a_filesystem_asked_for_in_vain(flag: int, name: str) -> None:
    """It is told by the agreement."""
    kernel = Kernel(wanted={name})
    agree(kernel, flags=ALL)
    assert kernel.engine.agreement.has(flag)
    agree(kernel, flags=ALL & ~flag)
    assert not kernel.engine.agreement.has(flag)


def test_short_and_long_forms_of_init() -> None:
    """Kernels before 7.36 send 16 bytes. More than is known today is no error; less fails the mount."""
    kernel = Kernel()
    assert len(init_in(7, 35, 0)) == 16
    assert agree(kernel, 35).flags == SINCE_7_33
    longer = init_in(7, 99, offered_by(45)) + bytes(64)
    assert error_of(kernel.sends(26, longer, node=0)) == 0
    assert kernel.engine.failure is None
    assert kernel.sends(26, bytes(15), node=0) == reply(error=-errno.EIO)
    assert "malformed INIT" in str(kernel.engine.failure)


def test_a_defect_at_the_start_fails_the_mount(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for a mount that will not come; the log has the traceback."""
    kernel = Kernel({"max_background": "1000000"})  # more than the field holds
    told = []
    kernel.engine.on_failure = lambda: told.append("failed")
    assert error_of(kernel.sends(26, init_in(7, 45, 0), node=0)) == errno.EIO
    assert told == ["failed"]
    assert "Traceback" in caplog.text

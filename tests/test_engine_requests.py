"""fusepy_legacy.kernel.engine, byte by byte: requests about the session and about names.

The others are in test_engine_attributes.py, _files.py, _directories.py and _locks.py.
"""

import errno
import os
import struct
import types
from typing import Any, List

import pytest

from fusepy_legacy.kernel import requests
from fusepy_legacy.kernel.abi import Opcode
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.meant import Meant
from tests import (
    test_engine_attributes,
    test_engine_directories,
    test_engine_files,
    test_engine_locks,
)
from tests.kernel_side import DIRECTORY, FILE, IDENTIFIED, Kernel, OpenFile, attr, error_of, status
from tests.wire import (
    entry_out,
    i32,
    joined,
    open_out,
    read_in,
    release_in,
    reply,
    request,
    u16,
    u32,
    u64,
)

OTHERS = (
    test_engine_attributes,
    test_engine_directories,
    test_engine_files,
    test_engine_locks,
)

UNSERVED = {
    Opcode.SETUPMAPPING: "virtiofs's DAX windows only",
    Opcode.REMOVEMAPPING: "virtiofs's DAX windows only",
    Opcode.NOTIFY_REPLY: "answers NOTIFY_RETRIEVE, which we do not send",
    Opcode.CUSE_INIT: "character devices, on /dev/cuse",
}


def test_every_opcode_is_served_or_has_a_reason_not_to_be() -> None:
    """One row for each opcode, and none beside them."""
    served = [row.opcode for row in requests.ROWS]
    assert len(set(served)) == len(served)
    assert set(served) | set(UNSERVED) == set(Opcode)
    assert not set(served) & set(UNSERVED)


@pytest.mark.parametrize("row", requests.ROWS, ids=[row.opcode.name for row in requests.ROWS])
def test_every_row_has_a_test_of_its_bytes(row: requests.Row) -> None:
    """A test function is named after it."""
    prefix = f"test_{row.opcode.name.lower()}_"
    names = {*globals(), *(name for module in OTHERS for name in vars(module))}
    assert any(name.startswith(prefix) for name in names), f"no {prefix}…"


# The session


def test_init_agrees_on_the_protocol() -> None:
    """How far to read ahead, and what the engine itself can do; fsinit is called."""
    kernel = Kernel(fsinit=None)
    answer = kernel.sends(
        26,  # FUSE_INIT
        u32(7),  # major
        u32(45),  # minor
        u32(131072),  # max_readahead
        u32(0xFFFFFFFF),  # flags
        u32(0xFFFFFFFF),  # flags2
        bytes(44),  # unused
        node=0,
    )
    assert answer == reply(
        u32(7),  # major
        u32(45),  # minor
        u32(524288),  # max_readahead
        u32(
            1 << 0  # FUSE_ASYNC_READ
            | 1 << 4  # FUSE_EXPORT_SUPPORT
            | 1 << 5  # FUSE_BIG_WRITES
            | 1 << 11  # FUSE_HAS_IOCTL_DIR
            | 1 << 12  # FUSE_AUTO_INVAL_DATA
            | 1 << 13  # FUSE_DO_READDIRPLUS
            | 1 << 14  # FUSE_READDIRPLUS_AUTO
            | 1 << 15  # FUSE_ASYNC_DIO
            | 1 << 18  # FUSE_PARALLEL_DIROPS
            | 1 << 22  # FUSE_MAX_PAGES
            | 1 << 28  # FUSE_HANDLE_KILLPRIV_V2
            | 1 << 29  # FUSE_SETXATTR_EXT
            | 1 << 30  # FUSE_INIT_EXT
        ),  # flags
        u16(0),  # max_background
        u16(0),  # congestion_threshold
        u32(1048576),  # max_write
        u32(1),  # time_gran
        u16(256),  # max_pages
        u16(0),  # map_alignment
        u32(1 << 5),  # flags2: FUSE_PASSTHROUGH
        u32(1),  # max_stack_depth
        u16(0),  # request_timeout
        bytes(22),  # unused
    )
    assert kernel.calls() == [("fsinit",)]


def test_destroy_is_answered() -> None:
    """There is nothing in the request or the reply; fsdestroy is not the engine's to call."""
    kernel = Kernel(fsdestroy=None)
    assert kernel.sends(38, node=0) == reply()
    assert kernel.calls() == []


def test_interrupt_has_no_reply() -> None:
    """The interrupted request's own reply is the answer; so the request may come later, too."""
    kernel = Kernel()
    answer = kernel.sends(
        36,  # FUSE_INTERRUPT
        u64(99),  # unique
        node=0,
    )
    assert answer is None
    assert kernel.engine.waits.begin(99).is_set()


def test_interrupts_that_came_before_their_requests_are_not_kept_for_ever() -> None:
    """Most are for requests that are over; so many others later, one is forgotten."""
    kernel = Kernel()
    for unique in range(1, 102):
        kernel.sends(36, u64(unique), node=0)
    assert kernel.engine.waits.begin(101).is_set()
    assert not kernel.engine.waits.begin(1).is_set()


STATVFS = types.SimpleNamespace(
    f_bsize=4096,
    f_frsize=1024,
    f_blocks=1 << 40,
    f_bfree=1 << 39,
    f_bavail=1 << 38,
    f_files=1000,
    f_ffree=900,
    f_namemax=255,
)
STATFS_OUT = (
    u64(1 << 40)  # blocks
    + u64(1 << 39)  # bfree
    + u64(1 << 38)  # bavail
    + u64(1000)  # files
    + u64(900)  # ffree
    + u32(4096)  # bsize
    + u32(255)  # namelen
    + u32(1024)  # frsize
    + u32(0)  # padding
    + bytes(24)  # spare
)


def test_statfs_of_a_path() -> None:
    """A handler with a parameter is asked about the path."""
    kernel = Kernel(getattr=DIRECTORY, statfs=STATVFS)
    node = kernel.looks_up("d")
    assert kernel.sends(17, node=node) == reply(STATFS_OUT)
    assert kernel.calls() == [("statfs", "/d")]


def test_statfs_in_fuse_pythons_form() -> None:
    """A handler without a parameter is asked about the whole."""
    kernel = Kernel(getattr=DIRECTORY)
    kernel.engine = type(kernel.engine)({"statfs": lambda: STATVFS})
    assert kernel.sends(17) == reply(STATFS_OUT)


def test_statfs_without_a_handler() -> None:
    """As libfuse: no space, names up to 255 bytes."""
    assert Kernel().sends(17) == reply(
        bytes(40),  # blocks, bfree, bavail, files, ffree
        u32(512),  # bsize
        u32(255),  # namelen
        u32(0),  # frsize
        bytes(28),  # padding, spare
    )


def test_syncfs_syncs_the_whole() -> None:
    """The handler has no parameters."""
    kernel = Kernel(syncfs=None)
    answer = kernel.sends(
        50,  # FUSE_SYNCFS
        u64(0),  # padding
    )
    assert answer == reply()
    assert kernel.calls() == [("syncfs",)]


# Names


def test_lookup_finds_a_name() -> None:
    """All of struct fuse_entry_out: a new node, and its attributes."""
    kernel = Kernel(getattr=FILE)
    answer = kernel.sends(
        1,  # FUSE_LOOKUP
        b"file\0",  # name
    )
    assert answer == reply(
        u64(2),  # nodeid
        u64(kernel.generation),  # generation
        u64(1),  # entry_valid
        u64(1),  # attr_valid
        u32(0),  # entry_valid_nsec
        u32(0),  # attr_valid_nsec
        u64(2),  # attr.ino: without use_ino the node's id
        u64(5000),  # attr.size
        u64(16),  # attr.blocks
        u64(1600000001),  # attr.atime
        u64(1600000002),  # attr.mtime
        u64(1600000003),  # attr.ctime
        u32(11),  # attr.atimensec
        u32(22),  # attr.mtimensec
        u32(33),  # attr.ctimensec
        u32(0o100640),  # attr.mode
        u32(1),  # attr.nlink
        u32(1001),  # attr.uid
        u32(101),  # attr.gid
        u32(0),  # attr.rdev
        u32(4096),  # attr.blksize
        u32(0),  # attr.flags
    )
    assert kernel.calls() == [("getattr", "/file")]


def test_lookup_shows_inode_numbers_and_timeouts_as_the_options_say() -> None:
    """With use_ino, entry_timeout and attr_timeout."""
    options = {"use_ino": True, "entry_timeout": "2.5", "attr_timeout": "0.25"}
    kernel = Kernel(options, getattr=FILE)
    assert kernel.sends(1, b"file\0") == reply(
        u64(2),  # nodeid
        u64(kernel.generation),  # generation
        u64(2),  # entry_valid
        u64(0),  # attr_valid
        u32(500000000),  # entry_valid_nsec
        u32(250000000),  # attr_valid_nsec
        attr(FILE, ino=501),
    )


def test_lookup_in_a_directory_with_any_bytes_in_names() -> None:
    """Names that are no UTF-8 come as fuse-python's handlers know them: surrogateescape."""
    kernel = Kernel(getattr=DIRECTORY)
    directory = kernel.looks_up(os.fsdecode(b"\xff\xfe"))
    kernel.sends(1, b"\x80 name\0", node=directory)
    assert kernel.calls() == [("getattr", os.fsdecode(b"/\xff\xfe/\x80 name"))]


def test_lookup_of_a_missing_name() -> None:
    """An error, or with negative_timeout an entry without a node, to be remembered."""
    missing = OSError(errno.ENOENT, "not there")
    assert Kernel(getattr=missing).sends(1, b"no\0") == reply(error=-errno.ENOENT)
    kernel = Kernel({"negative_timeout": "1.5"}, getattr=missing)
    assert kernel.sends(1, b"no\0") == reply(
        u64(0),  # nodeid
        u64(0),  # generation
        u64(1),  # entry_valid
        u64(0),  # attr_valid
        u32(500000000),  # entry_valid_nsec
        u32(0),  # attr_valid_nsec
        bytes(88),  # attr
    )
    assert len(kernel.engine.nodes) == 1


def test_timeouts_are_limited_while_it_serves() -> None:
    """Those that were longer are as long as the limit, also that of missing names; no other is changed."""
    options = {"entry_timeout": "3600", "attr_timeout": "0.25", "negative_timeout": "3600"}
    kernel = Kernel(options, getattr=lambda path: FILE if path == "/file" else -errno.ENOENT)
    kernel.engine.limit_timeouts(1.5)
    entry_valid = struct.Struct("=16x16xQQII")  # behind the reply's header, nodeid and generation
    assert entry_valid.unpack_from(kernel.sends(1, b"file\0")) == (1, 0, 500000000, 250000000)
    assert entry_valid.unpack_from(kernel.sends(1, b"no\0")) == (1, 0, 500000000, 0)


def test_lookup_of_a_node_itself_and_of_its_parent() -> None:
    """For NFS and open_by_handle_at: "." and ".." are answered with nodes that are known."""
    kernel = Kernel(getattr=DIRECTORY)
    outer = kernel.looks_up("outer")
    inner = kernel.looks_up("inner", parent=outer)
    assert kernel.sends(1, b".\0", node=inner) == reply(
        entry_out(inner, kernel.generation, attr(DIRECTORY, ino=inner))
    )
    assert kernel.sends(1, b"..\0", node=inner) == reply(
        entry_out(outer, kernel.generation, attr(DIRECTORY, ino=outer))
    )
    assert kernel.calls() == [("getattr", "/outer/inner"), ("getattr", "/outer")]
    lookups = {node.id: node.lookups for node in kernel.engine.nodes.by_id.values()}
    assert (lookups[outer], lookups[inner]) == (2, 2)


def test_lookup_of_a_node_that_is_forgotten_meanwhile() -> None:
    """ESTALE: the kernel may send LOOKUP of "." before a FORGET that is older (fs/fuse/dev.c)."""

    def forgets(path: str) -> os.stat_result:
        if asked:
            kernel.engine.handle(request(2, u64(1), node=asked[0]))  # FUSE_FORGET
        return FILE

    asked: List[int] = []
    kernel = Kernel(getattr=forgets)
    asked.append(kernel.looks_up("file"))
    assert error_of(kernel.sends(1, b".\0", node=asked[0])) == errno.ESTALE
    assert len(kernel.engine.nodes) == 1


def test_lookup_of_a_node_itself_with_nonsense_counts_nothing() -> None:
    """The kernel learned of no lookup."""
    statuses = [FILE, status(0o100644, ino=1, links=1 << 40)]
    kernel = Kernel(getattr=lambda path: statuses.pop(0))
    node = kernel.looks_up("file")
    assert error_of(kernel.sends(1, b".\0", node=node)) == errno.EIO
    assert kernel.engine.nodes.by_id[node].lookups == 1


def test_forget_takes_lookups_back() -> None:
    """There is no reply; with the last lookup the node goes."""
    kernel = Kernel(getattr=FILE)
    node = kernel.looks_up("file")
    assert kernel.looks_up("file") == node
    forget_one = request(
        2,  # FUSE_FORGET
        u64(1),  # nlookup
        node=node,
    )
    assert kernel.engine.handle(forget_one) is None
    assert len(kernel.engine.nodes) == 2
    assert kernel.engine.handle(forget_one) is None
    assert len(kernel.engine.nodes) == 1


def test_batch_forget_takes_lookups_of_several_nodes_back() -> None:
    """There is no reply."""
    kernel = Kernel(getattr=FILE)
    first, second = kernel.looks_up("first"), kernel.looks_up("second")
    kernel.looks_up("second")
    answer = kernel.sends(
        42,  # FUSE_BATCH_FORGET
        u32(2),  # count
        u32(0),  # dummy
        u64(first),  # nodeid
        u64(1),  # nlookup
        u64(second),  # nodeid
        u64(2),  # nlookup
        node=0,
    )
    assert answer is None
    assert len(kernel.engine.nodes) == 1


def test_mknod_makes_a_device() -> None:
    """The handler gets mode and device number; the kernel has taken the umask off."""
    shown = status(0o020600, ino=9, rdev=0x103)
    kernel = Kernel(mknod=None, getattr=shown)
    answer = kernel.sends(
        8,  # FUSE_MKNOD
        u32(0o020600),  # mode
        u32(0x103),  # rdev
        u32(0o022),  # umask
        u32(0),  # padding
        b"null\0",  # name
    )
    assert answer == reply(entry_out(2, kernel.generation, attr(shown, ino=2)))
    assert kernel.calls() == [("mknod", "/null", 0o020600, 0x103), ("getattr", "/null")]


def test_mknod_of_a_file_by_create() -> None:
    """Where there is no mknod, create makes regular files, as in libfuse."""
    opened = OpenFile()
    kernel = Kernel(create=(opened, True), release=None, getattr=FILE)
    answer = kernel.sends(8, u32(0o100600) + u32(0) + u32(0) + u32(0) + b"file\0")
    assert answer == reply(entry_out(2, kernel.generation, attr(FILE, ino=2)))
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    assert kernel.calls() == [
        ("create", "/file", flags, 0o100600),
        ("release", "/file", flags, opened),
        ("getattr", "/file"),
    ]


def test_mknod_of_a_file_prefers_create() -> None:
    """Where there are both, as in libfuse: its mknod handlers have never been asked for regular files."""
    kernel = Kernel(create=(OpenFile(), True), mknod=None, release=None, getattr=FILE)
    kernel.sends(8, u32(0o100600) + u32(0) + u32(0) + u32(0) + b"file\0")
    assert [call[0] for call in kernel.calls()] == ["create", "release", "getattr"]
    kernel.sends(8, u32(0o010600) + u32(0) + u32(0) + u32(0) + b"fifo\0")
    assert [call[0] for call in kernel.calls()] == ["mknod", "getattr"]


def test_mknod_of_a_file_when_create_is_not_implemented() -> None:
    """ENOSYS of create leads to mknod; another error is the answer."""
    kernel = Kernel(create=-errno.ENOSYS, mknod=None, getattr=FILE)
    kernel.sends(8, u32(0o100600) + u32(0) + u32(0) + u32(0) + b"file\0")
    assert [call[0] for call in kernel.calls()] == ["create", "mknod", "getattr"]
    kernel = Kernel(create=-errno.ENOSPC, mknod=None, getattr=FILE)
    answer = kernel.sends(8, u32(0o100600) + u32(0) + u32(0) + u32(0) + b"file\0")
    assert answer == reply(error=-errno.ENOSPC)


@pytest.mark.parametrize("linked", [True, False], ids=["with another name", "with one name"])
def test_a_replaced_file_is_held_unless_it_has_another_name(linked: bool) -> None:
    """By that name it can be opened; a file system with many hard links would run out of descriptors."""
    held = Held("/file")
    shown = status(0o100644, ino=7, links=2 if linked else 1)
    kernel = Kernel(*IDENTIFIED, getattr=shown, rename=None, hold=held)
    kernel.looks_up("file")
    if linked:
        kernel.looks_up("link")
    kernel.sends(12, u64(1) + b"new\0file\0")
    assert [call[0] for call in kernel.calls()] == (["rename"] if linked else ["hold", "rename"])


class Held(str):
    """What the filesystem's hold returns."""

    closed = False

    def close(self) -> None:
        """Take note of it."""
        self.closed = True


def removed(kernel: Kernel, opcode: int) -> int:
    """Look a name up and remove it; return its node."""
    node = kernel.looks_up("name")
    assert error_of(kernel.sends(opcode, b"name\0")) == 0
    kernel.calls()
    return node


@pytest.mark.parametrize(
    ("opcode", "mode", "taker"),
    [(10, 0o010600, "unlink"), (10, 0o140700, "unlink"), (11, 0o040700, "rmdir")],
    ids=["fifo", "socket", "directory"],
)
def test_what_the_kernel_uses_without_a_request_is_held(opcode: int, mode: int, taker: str) -> None:
    """Its path leads to it without a name, until the kernel forgets it."""
    held = Held("/name")
    shown = status(mode, ino=10)
    kernel = Kernel(*IDENTIFIED, getattr=shown, hold=held, **{taker: None})
    node = removed(kernel, opcode)
    assert error_of(kernel.sends(3, u32(0) + u32(0) + u64(0), node=node)) == 0
    assert [call[1] is held for call in kernel.calls()] == [True]
    kernel.sends(2, u64(1), node=node)
    assert held.closed


def test_a_regular_file_is_not_held_when_it_is_unlinked() -> None:
    """Its room is free at once; the kernel tells of each one that is open."""
    kernel = Kernel(*IDENTIFIED, getattr=FILE, unlink=None, hold=Held("/name"))
    node = kernel.looks_up("name")
    kernel.sends(10, b"name\0")
    assert [call[0] for call in kernel.calls()] == ["unlink"]
    assert error_of(kernel.sends(3, u32(0) + u32(0) + u64(0), node=node)) == errno.ESTALE


def test_what_could_not_be_removed_is_let_go() -> None:
    """It still has its name."""
    held = Held("/name")
    kernel = Kernel(*IDENTIFIED, getattr=DIRECTORY, rmdir=-errno.ENOTEMPTY, hold=held)
    kernel.looks_up("name")
    assert error_of(kernel.sends(11, b"name\0")) == errno.ENOTEMPTY
    assert held.closed


def test_what_is_held_goes_with_the_engine() -> None:
    """Not every kernel forgets all before the end."""
    held = Held("/name")
    kernel = Kernel(*IDENTIFIED, getattr=DIRECTORY, rmdir=None, hold=held)
    removed(kernel, 11)
    kernel.engine.close()
    assert held.closed


def test_mkdir_makes_a_directory() -> None:
    """Below another directory."""
    kernel = Kernel(mkdir=None, getattr=DIRECTORY)
    parent = kernel.looks_up("parent")
    answer = kernel.sends(
        9,  # FUSE_MKDIR
        u32(0o750),  # mode
        u32(0o022),  # umask
        b"new\0",  # name
        node=parent,
    )
    assert answer == reply(entry_out(3, kernel.generation, attr(DIRECTORY, ino=3)))
    assert kernel.calls() == [("mkdir", "/parent/new", 0o750), ("getattr", "/parent/new")]


def test_symlink_makes_a_symlink() -> None:
    """The request has the link's name first; the handler gets the target first, as symlink(2)."""
    shown = status(0o120777, ino=10, size=6)
    kernel = Kernel(symlink=None, getattr=shown)
    answer = kernel.sends(
        6,  # FUSE_SYMLINK
        b"link\0",  # name
        b"target\0",  # linkname
    )
    assert answer == reply(entry_out(2, kernel.generation, attr(shown, ino=2)))
    assert kernel.calls() == [("symlink", "target", "/link"), ("getattr", "/link")]


@pytest.mark.parametrize("target", [os.fsdecode(b"to \xff"), b"to \xff"], ids=["str", "bytes"])
def test_readlink_returns_the_target(target: object) -> None:
    """Without a NUL."""
    kernel = Kernel(readlink=target, getattr=status(0o120777, ino=10))
    node = kernel.looks_up("link")
    assert kernel.sends(5, node=node) == reply(b"to \xff")
    assert kernel.calls() == [("readlink", "/link")]


def test_readlink_never_returns_more_than_the_kernel_takes() -> None:
    """It refuses a reply of PAGE_SIZE or more with EINVAL (fs/fuse/dir.c, fuse_readlink_folio)."""
    kernel = Kernel(readlink="x" * 4096, getattr=status(0o120777, ino=10))
    answer = kernel.sends(5, node=kernel.looks_up("link"))
    assert error_of(answer) == errno.ENAMETOOLONG or answer == reply(b"x" * 4095)


def test_link_gives_a_second_name() -> None:
    """With use_ino both names are one node."""
    shown = status(0o100640, ino=501, links=2)
    kernel = Kernel(*IDENTIFIED, link=None, getattr=shown)
    node = kernel.looks_up("old")
    answer = kernel.sends(
        13,  # FUSE_LINK
        u64(node),  # oldnodeid
        b"new\0",  # newname
    )
    assert answer == reply(entry_out(node, kernel.generation, attr(shown, ino=501)))
    assert kernel.calls() == [("link", "/old", "/new"), ("getattr", "/new")]


def test_link_names_a_file_that_had_no_name() -> None:
    """What O_TMPFILE made gets one through its open file: linkat."""
    opened = OpenFile()
    kernel = Kernel(
        *IDENTIFIED,
        tmpfile=(opened, True),
        fgetattr=FILE,
        getattr=FILE,
        linkat=None,
        release=None,
    )
    made = kernel.sends(51, u32(os.O_RDWR) + u32(0o600) + u32(0) + u32(0) + b"#1\0")
    assert made == reply(entry_out(2, kernel.generation, attr(FILE, ino=501)), open_out(fh=1))
    kernel.calls()
    answer = kernel.sends(13, u64(2) + b"named\0")
    assert answer == reply(entry_out(2, kernel.generation, attr(FILE, ino=501)))
    assert kernel.calls() == [("linkat", "/", "/named", opened), ("getattr", "/named")]


def test_link_names_a_file_that_was_replaced() -> None:
    """Opened though another had taken its name, it gets one again, whose paths say that it is meant."""
    kernel = Kernel(
        *IDENTIFIED,
        getattr=lambda path: status(0o100644, ino=502) if path == "/other" else FILE,
        fgetattr=FILE,
        hold=Held("/file"),
        rename=None,
        open=(OpenFile(), True),
        linkat=None,
    )
    node = kernel.looks_up("file")
    kernel.looks_up("other")
    assert kernel.sends(12, u64(1) + b"other\0file\0") == reply()
    kernel.opens(node)
    assert error_of(kernel.sends(13, u64(node) + b"again\0")) == 0
    assert kernel.looks_up("again") == node
    path = kernel.engine.path(kernel.engine.nodes.by_id[node])
    assert isinstance(path, Meant)
    assert (str(path), path.file) == ("/again", (2049, 501))


def test_unlink_takes_the_name_away() -> None:
    """The node has no path any more."""
    kernel = Kernel(unlink=None, getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        10,  # FUSE_UNLINK
        b"file\0",  # name
    )
    assert answer == reply()
    assert kernel.calls() == [("unlink", "/file")]
    assert kernel.engine.nodes.path(kernel.engine.nodes.by_id[node]) is None


def test_rmdir_removes_a_directory() -> None:
    """The node has no path any more, nor has what was looked up below it."""
    kernel = Kernel(rmdir=None, getattr=DIRECTORY)
    node = kernel.looks_up("d")
    answer = kernel.sends(
        11,  # FUSE_RMDIR
        b"d\0",  # name
    )
    assert answer == reply()
    assert kernel.calls() == [("rmdir", "/d")]
    assert error_of(kernel.sends(1, b"x\0", node=node)) == errno.ENOENT
    assert kernel.calls() == []


def test_rename_moves_a_name() -> None:
    """From one directory to another, and the node's path with it."""
    kernel = Kernel(rename=None, getattr=DIRECTORY)
    source, target = kernel.looks_up("source"), kernel.looks_up("target")
    moved = kernel.looks_up("old", parent=source)
    answer = kernel.sends(
        12,  # FUSE_RENAME
        u64(target),  # newdir
        b"old\0",  # oldname
        b"new\0",  # newname
        node=source,
    )
    assert answer == reply()
    assert kernel.calls() == [("rename", "/source/old", "/target/new")]
    kernel.looks_up("below", parent=moved)
    kernel.sends(1, b"below\0", node=moved)
    assert kernel.calls() == [("getattr", "/target/new/below")]


def test_rename2_hands_flags_on() -> None:
    """RENAME_EXCHANGE: both names stay, with the other's node."""
    kernel = Kernel(rename=None, getattr=FILE)
    first, second = kernel.looks_up("first"), kernel.looks_up("second")
    answer = kernel.sends(
        45,  # FUSE_RENAME2
        u64(1),  # newdir
        u32(2),  # flags: RENAME_EXCHANGE
        u32(0),  # padding
        b"first\0",  # oldname
        b"second\0",  # newname
    )
    assert answer == reply()
    assert kernel.calls() == [("rename", "/first", "/second", 2)]
    assert kernel.looks_up("first") == second
    assert kernel.looks_up("second") == first


def test_rename2_without_flags_and_with_a_handler_of_two() -> None:
    """A handler of fuse-python's form renames; what needs flags is refused with EINVAL, as rename(2)."""
    renamed = []
    kernel = Kernel()
    kernel.engine = type(kernel.engine)({"rename": lambda old, new: renamed.append((old, new))})
    assert kernel.sends(45, u64(1) + u32(0) + u32(0) + b"a\0b\0") == reply()
    assert kernel.sends(45, u64(1) + u32(1) + u32(0) + b"a\0b\0") == reply(error=-errno.EINVAL)
    assert renamed == [("/a", "/b")]


def test_who_takes_a_name_is_told_from_which_directory() -> None:
    """By its identity, because its path may lead elsewhere by now."""
    told: List[Any] = []

    def getattr_(path: str) -> os.stat_result:
        numbers = {"/first": 601, "/second": 602}
        return status(0o040755, numbers[path], 2) if path in numbers else FILE

    def note(*paths: Any) -> None:
        told.extend((path.directory, path.file) for path in paths)

    kernel = Kernel(*IDENTIFIED, getattr=getattr_, open=None, unlink=note, rmdir=note, rename=note)
    first, second = kernel.looks_up("first"), kernel.looks_up("second")
    assert kernel.sends(10, b"file\0", node=first) == reply()
    assert kernel.sends(11, b"directory\0", node=second) == reply()
    kernel.opens(kernel.looks_up("file", second))
    assert kernel.sends(12, u64(second) + b"file\0file\0", node=first) == reply()
    assert kernel.sends(10, b"file\0") == reply()
    of_first, of_second = (2049, 601), (2049, 602)
    assert told == [
        (of_first, None),
        (of_second, None),
        *((of_second, None), (of_second, None)),  # hidden for the engine
        *((of_first, None), (of_second, None)),
        (None, None),
    ]


# Open files that lose their names, where a filesystem has none but paths


def test_unlink_hides_an_open_file_that_lives_by_its_path() -> None:
    """As in libfuse: it gets a hidden name, and is removed when it is closed."""
    kernel = Kernel(open=None, rename=None, unlink=None, release=None, getattr=FILE)
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    assert kernel.sends(10, b"file\0") == reply()
    (call,) = kernel.calls()
    assert call[:2] == ("rename", "/file")
    hidden = call[2]
    assert hidden.startswith("/.fuse_hidden")
    assert kernel.sends(18, u64(fh) + u32(0) + u32(0) + u64(0), node=node) == reply()
    assert kernel.calls() == [("release", hidden, 0), ("unlink", hidden)]


def test_unlink_hides_nothing_that_has_another_name() -> None:
    """The open file lives on by that one."""
    kernel = Kernel(*IDENTIFIED, open=None, unlink=None, getattr=status(0o100644, 5, links=2))
    node = kernel.looks_up("file")
    assert kernel.looks_up("other") == node
    kernel.opens(node)
    assert kernel.sends(10, b"file\0") == reply()
    assert kernel.calls() == [("unlink", "/file")]


def test_unlink_hides_nothing_with_hard_remove() -> None:
    """The filesystem is asked to remove the open file."""
    kernel = Kernel({"hard_remove": True}, open=None, unlink=None, getattr=FILE)
    kernel.opens(kernel.looks_up("file"))
    assert kernel.sends(10, b"file\0") == reply()
    assert kernel.calls() == [("unlink", "/file")]


def test_rename_over_an_open_directory_hides_nothing() -> None:
    """Only files are read and written by path; a hidden directory would never be removed."""
    kernel = Kernel(rename=None, opendir=None, getattr=DIRECTORY)
    kernel.looks_up("new")
    kernel.opens_directory(kernel.looks_up("old"))
    assert kernel.sends(12, u64(1) + b"new\0old\0") == reply()
    assert kernel.calls() == [("rename", "/new", "/old")]


# What all requests have in common


def test_large_replies_come_in_two_parts() -> None:
    """Head and body, for writev(2): a body is not copied once more."""
    kernel = Kernel(getattr=FILE, open=None, read=b"x" * 65536)
    fh = kernel.opens(kernel.looks_up("file"))
    fields = u64(fh) + u64(0) + u32(65536) + u32(0) + u64(0) + u32(0) + u32(0)
    answer = kernel.engine.handle(request(15, fields, node=2))
    assert isinstance(answer, tuple)
    assert joined(answer) == reply(b"x" * 65536)
    assert answer[1] is kernel.filesystem.answers["read"]


def test_handlers_see_who_asks() -> None:
    """The header's uid, gid and pid are the current request's, for GetContext."""
    seen = []

    def getattr_(path: str) -> os.stat_result:
        seen.append((current.uid, current.gid, current.pid, current.engine))
        return FILE

    kernel = Kernel(getattr=getattr_)
    kernel.looks_up("file")
    assert seen == [(1000, 100, 4321, kernel.engine)]


def test_extensions_are_those_of_the_request_alone() -> None:
    """The kernel appends the caller's supplementary group; the next caller's request has none."""
    seen = []

    def mkdir(path: str, mode: int) -> None:
        seen.append((path, current.extensions))

    groups = (
        u32(16)  # size
        + u32(32)  # type: FUSE_EXT_GROUPS
        + u32(1)  # nr_groups
        + u32(2000)  # groups[0]
    )
    kernel = Kernel(mkdir=mkdir, getattr=DIRECTORY)
    kernel.sends(9, u32(0o755) + u32(0) + b"with\0" + bytes(3), extensions=groups)
    kernel.sends(9, u32(0o755) + u32(0) + b"without\0")
    assert seen == [("/with", groups), ("/without", b"")]


def test_allow_root_lets_in_root_and_the_owner_only() -> None:
    """Others get EACCES, but may go on with what was opened before."""
    kernel = Kernel({"allow_root": True}, getattr=FILE, open=None, release=None)
    kernel.engine.owner = 1000
    fh = kernel.opens(kernel.looks_up("file"))
    assert error_of(kernel.sends(1, b"file\0", uid=0)) == 0
    assert kernel.sends(1, b"file\0", uid=1001) == reply(error=-errno.EACCES)
    release = u64(fh) + u32(0) + u32(0) + u64(0)
    assert kernel.sends(18, release, node=2, uid=1001) == reply()


def test_poll_handles_wake_the_kernel_up() -> None:
    """`notify` sends FUSE_NOTIFY_POLL with the number that the kernel gave."""
    sent: List[bytes] = []
    handles = []
    kernel = Kernel(getattr=FILE, open=None, poll=lambda path, handle: handles.append(handle))
    kernel.engine.notify = sent.append
    fh = kernel.opens(kernel.looks_up("file"))
    kernel.sends(40, u64(fh) + u64(77) + u32(1) + u32(1), node=2)
    assert handles[0].notify() == 0
    assert sent == [
        u32(24)  # len
        + i32(1)  # error: FUSE_NOTIFY_POLL
        + u64(0)  # unique
        + u64(77)  # kh
    ]


def test_use_ino_only_shows_numbers() -> None:
    """As in libfuse: filesystems that make numbers up may give two files the same one."""
    kernel = Kernel({"use_ino": True}, getattr=status(0o100644, ino=7, links=2), open=None)
    assert kernel.looks_up("one") != kernel.looks_up("other")
    answer = kernel.sends(1, b"one\0")
    assert answer is not None
    assert struct.unpack_from("=Q", answer, 16 + 40) == (7,)  # entry_out.attr.ino


def test_without_a_name_and_an_object_a_file_is_gone() -> None:
    """With hard_remove; the path that it was opened by may be another file's by now."""
    kernel = Kernel(
        {"hard_remove": True},
        getattr=FILE,
        open=None,
        read=b"another's",
        rename=None,
        flush=None,
        release=None,
    )
    kernel.looks_up("new")
    node = kernel.looks_up("old")
    fh = kernel.opens(node)
    assert kernel.sends(12, u64(1), b"new\0old\0") == reply()  # FUSE_RENAME
    kernel.calls()
    assert kernel.sends(15, read_in(fh, 0, 100), node=node) == reply(error=-errno.ENOENT)
    assert kernel.calls() == []
    assert kernel.sends(25, u64(fh) + u64(0) + u64(1), node=node) == reply()
    assert kernel.sends(18, release_in(fh), node=node) == reply()
    assert kernel.calls() == [("flush", "-"), ("release", "-", 2)]

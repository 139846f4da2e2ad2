"""fusepy_legacy.kernel.engine: what goes wrong becomes an error reply, or is dropped, and nothing is lost."""

import errno
import logging
import os
import socket
import struct
import threading
import types
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepy_legacy.kernel.abi import Opcode
from fusepy_legacy.kernel.context import current
from tests.kernel_side import DIRECTORY, FILE, IDENTIFIED, Kernel, OpenFile, error_of, status
from tests.wire import UNIQUE, joined, reply, request, u32, u64

WITHOUT_REPLY = (2, 42)  # FUSE_FORGET, FUSE_BATCH_FORGET
ACCESS = u32(0) + u32(0)  # struct fuse_access_in


# Errors of handlers


@pytest.mark.parametrize("opcode", [0, 7, 19, 41, 48, 49, 54, 4095, 4096, 0xFFFFFFFF])
def test_an_unknown_opcode(opcode: int) -> None:
    """ENOSYS: most kernels then ask no more."""
    assert Kernel().sends(opcode, b"whatever") == reply(error=-errno.ENOSYS)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOTEMPTY, 511])
def test_an_oserror_is_its_errno(number: int) -> None:
    """Raised, or returned as a negative number."""
    raising = Kernel(access=OSError(number, "text", "name"))
    assert raising.sends(34, ACCESS) == reply(error=-number)
    returning = Kernel(access=-number)
    assert returning.sends(34, ACCESS) == reply(error=-number)


@pytest.mark.parametrize(
    "error",
    [
        OSError("only a text"),
        OSError(0, "success"),
        OSError("no number", "text"),
        OSError(512, "ERESTARTSYS, the kernel's own"),
        OSError(1000000, "no errno"),
        OSError(-errno.ENOENT, "negative"),
        OSError(-(1 << 40), "negative"),
        socket.gaierror(socket.EAI_NONAME, "unknown host"),
    ],
    ids=repr,
)
def test_an_oserror_without_a_proper_errno(error: OSError) -> None:
    """EIO: the kernel takes 1 to 511 only (fs/fuse/dev.c), and a refused reply would end the mount."""
    assert Kernel(access=error).sends(34, ACCESS) == reply(error=-errno.EIO)


@pytest.mark.parametrize("number", [-512, -4096, -(1 << 40)])
def test_a_returned_number_that_is_no_errno(number: int) -> None:
    """EIO."""
    assert Kernel(access=number).sends(34, ACCESS) == reply(error=-errno.EIO)


def test_any_other_exception(caplog: pytest.LogCaptureFixture) -> None:
    """EIO, and a traceback in the log with the name of the request."""
    kernel = Kernel(access=ZeroDivisionError("a defect in the filesystem"))
    assert kernel.sends(34, ACCESS) == reply(error=-errno.EIO)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "ACCESS failed"
    assert "ZeroDivisionError: a defect in the filesystem" in caplog.text
    assert "Traceback" in caplog.text


def test_an_error_of_a_filesystem_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    """OSError is an answer, and is logged at debug level only, with -o debug."""
    caplog.set_level(logging.DEBUG)
    missing = OSError(errno.ENOENT, "not there")
    Kernel(getattr=missing).sends(1, b"name\0")
    assert caplog.records == []
    Kernel({"debug": True}, getattr=missing).sends(1, b"name\0")
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert "LOOKUP 1: [Errno 2] not there" in caplog.text


def test_an_error_without_a_reply(caplog: pytest.LogCaptureFixture) -> None:
    """FORGET of what is not known is nothing to the kernel."""
    assert Kernel().sends(2, u64(1), node=99) is None
    assert caplog.records == []


def test_a_node_that_is_not_known() -> None:
    """ESTALE: the kernel looks the name up again."""
    assert Kernel(getattr=FILE).sends(3, bytes(16), node=99) == reply(error=-errno.ESTALE)
    assert Kernel(link=None).sends(13, u64(99) + b"new\0") == reply(error=-errno.ESTALE)
    assert Kernel(rename=None).sends(12, u64(99) + b"a\0b\0") == reply(error=-errno.ESTALE)


def test_a_handle_that_is_not_known() -> None:
    """EBADF."""
    fields = u64(99) + u64(0) + u32(1) + u32(0) + u64(0) + u32(0) + u32(0)
    assert Kernel(read=b"").sends(15, fields) == reply(error=-errno.EBADF)


@pytest.mark.parametrize(
    ("opcode", "fields"),
    [
        (1, b"name\0"),  # LOOKUP: getattr
        (5, b""),  # READLINK
        (6, b"a\0b\0"),  # SYMLINK
        (9, u32(0) + u32(0) + b"d\0"),  # MKDIR
        (10, b"f\0"),  # UNLINK
        (11, b"d\0"),  # RMDIR
        (12, u64(1) + b"a\0b\0"),  # RENAME
        (34, ACCESS),  # ACCESS
        (22, u32(0) + u32(0) + b"user.a\0"),  # GETXATTR
        (50, u64(0)),  # SYNCFS
    ],
)
def test_a_handler_that_does_not_exist(opcode: int, fields: bytes) -> None:
    """ENOSYS."""
    assert Kernel().sends(opcode, fields) == reply(error=-errno.ENOSYS)


# Requests that are none


@pytest.mark.parametrize("size", [0, 1, 39])
def test_less_than_a_header_is_dropped(size: int, caplog: pytest.LogCaptureFixture) -> None:
    """There is nobody to answer; the log says so."""
    whole = request(34, ACCESS)
    assert Kernel(access=None).engine.handle(whole[:size]) is None
    assert f"{size} bytes" in caplog.text


def test_a_length_that_is_not_the_requests() -> None:
    """EIO; the handler is not called."""
    kernel = Kernel(access=None)
    whole = bytes(request(34, ACCESS))
    for wrong in (whole[:-1], whole + b"\0"):
        assert kernel.engine.handle(memoryview(wrong)) == reply(error=-errno.EIO)
    assert kernel.calls() == []


@pytest.mark.parametrize(
    ("opcode", "fields"),
    [
        (1, b"no end"),  # LOOKUP
        (1, b""),
        (6, b"one\0"),  # SYMLINK
        (6, b"one\0two"),
        (12, u32(1)),  # RENAME
        (12, u64(1) + b"old\0new"),
        (34, u32(0)),  # ACCESS
        (21, u32(9)),  # SETXATTR
        (21, u32(1) + u32(0) + b"name"),
        (21, u32(2) + u32(0) + b"name\0v"),
    ],
)
def test_a_request_that_is_cut_short(opcode: int, fields: bytes) -> None:
    """EINVAL, though its length says that it is whole; no handler is called."""
    kernel = Kernel(getattr=FILE, symlink=None, rename=None, access=None, setxattr=None)
    assert kernel.sends(opcode, fields) == reply(error=-errno.EINVAL)
    assert kernel.calls() == []


def test_extensions_longer_than_the_request() -> None:
    """EINVAL; no handler is called."""
    kernel = Kernel(mkdir=None, getattr=DIRECTORY)
    whole = bytearray(request(9, u32(0o755) + u32(0) + b"name\0"))
    for count in (7, 8, 0xFFFF):
        struct.pack_into("=H", whole, 36, count)  # fuse_in_header.total_extlen
        assert kernel.engine.handle(memoryview(whole)) == reply(error=-errno.EINVAL)
    assert kernel.calls() == []


# Anything at all

ENTRY = types.SimpleNamespace(name="entry", type=0o100000, ino=3, offset=0)
QUIET = """
    access chmod chown fallocate fchmod fchown flock flush fsinit fsync fsyncdir ftruncate futimens link
    linkat lock mkdir mknod release releasedir removexattr rename rmdir setxattr symlink syncfs truncate
    unlink utimensat
"""
ANSWERS: Dict[str, Any] = {
    **dict.fromkeys(QUIET.split()),
    "getattr": lambda path: DIRECTORY if path.endswith("/") else FILE,
    "fgetattr": FILE,
    "fstatat": FILE,
    "readdir": lambda *_: [ENTRY, ENTRY],
    "open": lambda *_: (OpenFile(), True),
    "create": lambda *_: (OpenFile(), True),
    "tmpfile": lambda *_: (OpenFile(), True),
    "opendir": lambda *_: OpenFile(),
    "read": b"da",
    "write": 2,
    "readlink": "target",
    "getxattr": b"value",
    "listxattr": ["user.one", "user.two"],
    "lseek": 7,
    "copy_file_range": 7,
    "bmap": 7,
    "ioctl": b"out",
    "poll": 1,
    "statfs": types.SimpleNamespace(
        f_bsize=1,
        f_frsize=2,
        f_blocks=3,
        f_bfree=4,
        f_bavail=5,
        f_files=6,
        f_ffree=7,
        f_namemax=8,
    ),
}


def busy_kernel(**answers: Any) -> Kernel:
    """Return a kernel that knows the nodes 1 to 4, the files' handles 1 and 2, the directory's 3."""
    kernel = Kernel(**{**ANSWERS, **answers})
    assert [kernel.looks_up(name) for name in ("file", "other", "d")] == [2, 3, 4]
    assert [kernel.opens(2), kernel.opens(3), kernel.opens_directory(4)] == [1, 2, 3]
    return kernel


small = st.integers(0, 5)
numbers = st.one_of(small, st.integers(0, (1 << 64) - 1))
bodies = st.one_of(
    st.binary(max_size=200),
    # Fields that mean something more often than noise does, and names.
    st.builds(
        lambda fields, names: b"".join(map(u64, fields)) + names,
        st.lists(numbers, max_size=12),
        st.sampled_from(
            [b"", b"file\0", b"other\0file\0", b"a\0b\0c\0", b"d", b"\0\0", b"x" * 300]
        ),
    ),
)
opcodes = st.sampled_from([opcode.value for opcode in Opcode] + [0, 7, 9999])
request_fields = st.tuples(opcodes, bodies, st.one_of(small, numbers))


def check(answer: Any, opcode: int) -> None:
    """AssertionError unless it is a reply that the kernel takes."""
    if answer is None:
        assert opcode in (*WITHOUT_REPLY, Opcode.INTERRUPT)
        return
    assert opcode not in WITHOUT_REPLY
    whole = joined(answer)
    length, error, unique = struct.unpack_from("=IiQ", whole)  # struct fuse_out_header
    assert length == len(whole)
    assert unique == UNIQUE
    assert -512 < error <= 0
    assert error == 0 or length == 16


@settings(deadline=None, max_examples=150)
@given(st.lists(request_fields, min_size=1, max_size=8))
def test_random_requests_are_answered(fields: List[Tuple[int, bytes, int]]) -> None:
    """Whatever the opcode, the arguments, the node and the handles."""
    kernel = busy_kernel()
    for opcode, body, node in fields:
        check(kernel.engine.handle(request(opcode, body, node=node)), opcode)


WELL_FORMED = [
    request(opcode.value, *fields, node=2)
    for opcode, fields in {
        Opcode.INIT: (u32(7), u32(45), u32(0), u32(0), bytes(48)),
        Opcode.LOOKUP: (b"file\0",),
        Opcode.FORGET: (u64(1),),
        Opcode.BATCH_FORGET: (u32(2), u32(0), u64(2), u64(1), u64(3), u64(1)),
        Opcode.SYMLINK: (b"link\0", b"target\0"),
        Opcode.RENAME2: (u64(1), u32(0), u32(0), b"old\0", b"new\0"),
        Opcode.SETATTR: (u32(0x7F), bytes(84)),
        Opcode.SETXATTR: (u32(2), u32(0), b"user.a\0", b"va"),
        Opcode.CREATE: (u32(0), u32(0o100600), u32(0), u32(0), b"new\0"),
        Opcode.WRITE: (u64(1), u64(0), u32(4), u32(0), bytes(16), b"data"),
        Opcode.IOCTL: (u64(1), u32(0), u32(1), u64(0), u32(2), u32(2), b"in"),
        Opcode.READDIRPLUS: (u64(3), u64(0), u32(4096), bytes(20)),
        Opcode.SETLKW: (u64(1), u64(7), u64(0), u64(9), u32(1), bytes(12)),
        Opcode.COPY_FILE_RANGE: (u64(1), u64(0), u64(3), u64(2), u64(0), u64(9), u64(0)),
    }.items()
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(WELL_FORMED),
    st.integers(0, 200),
    st.binary(max_size=20),
    st.one_of(st.just(0), st.integers(0, 0xFFFF)),
    st.booleans(),
)
def test_cut_and_extended_requests_are_answered(
    whole: memoryview, size: int, more: bytes, extensions: int, honest: bool
) -> None:
    """With the length in the header right or wrong, and any length of extensions."""
    data = bytearray(whole[: 40 + size]) + more
    struct.pack_into("=H", data, 36, extensions)  # fuse_in_header.total_extlen
    if honest:
        struct.pack_into("=I", data, 0, len(data))  # fuse_in_header.len
    opcode: int = struct.unpack_from("=I", data, 4)[0]
    check(busy_kernel().engine.handle(memoryview(data)), opcode)


odd_errors = st.one_of(
    st.builds(OSError, st.one_of(st.none(), st.integers(), st.text(max_size=3)), st.just("text")),
    st.sampled_from([ValueError("x"), KeyError("x"), RecursionError(), StopIteration()]),
)
odd_answers = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.binary(max_size=9),
    st.text(max_size=9),
    st.tuples(st.integers(), st.booleans()),
    st.lists(st.one_of(st.none(), st.text(max_size=3), st.just(ENTRY)), max_size=3),
    odd_errors,
    st.builds(
        lambda mode, number, moment: types.SimpleNamespace(
            st_mode=mode,
            st_nlink=number,
            st_ino=number,
            st_size=number,
            st_mtime=moment,
            st_uid=number,
            st_gid=number,
        ),
        st.one_of(st.none(), st.integers()),
        st.integers(),
        st.floats(),
    ),
)
ALL_REQUESTS = [
    (Opcode.GETATTR, bytes(16)),
    (Opcode.LOOKUP, b"new\0"),
    (Opcode.READLINK, b""),
    (Opcode.STATFS, b""),
    (Opcode.OPEN, bytes(8)),
    (Opcode.CREATE, bytes(16) + b"new\0"),
    (Opcode.TMPFILE, bytes(16) + b"new\0"),
    (Opcode.READ, u64(1) + u64(0) + u32(4096) + bytes(20)),
    (Opcode.WRITE, u64(1) + u64(0) + u32(2) + bytes(20) + b"da"),
    (Opcode.GETXATTR, u32(9) + u32(0) + b"user.a\0"),
    (Opcode.LISTXATTR, u32(9) + u32(0)),
    (Opcode.LSEEK, u64(1) + bytes(16)),
    (Opcode.COPY_FILE_RANGE, u64(1) + u64(0) + u64(3) + u64(2) + bytes(24)),
    (Opcode.COPY_FILE_RANGE_64, u64(1) + u64(0) + u64(3) + u64(2) + bytes(24)),
    (Opcode.BMAP, bytes(16)),
    (Opcode.IOCTL, u64(1) + u32(0) + u32(1) + u64(0) + u32(0) + u32(9)),
    (Opcode.POLL, u64(1) + u64(0) + u32(0) + u32(0)),
    (Opcode.OPENDIR, bytes(8)),
    (Opcode.READDIR, u64(3) + u64(0) + u32(4096) + bytes(20)),
    (Opcode.READDIRPLUS, u64(3) + u64(0) + u32(4096) + bytes(20)),
    (Opcode.GETLK, u64(1) + bytes(40)),
    (Opcode.SETLK, u64(1) + bytes(40)),
    (Opcode.RELEASE, u64(1) + bytes(16)),
    (Opcode.RELEASEDIR, u64(3) + bytes(16)),
    (Opcode.FSYNC, u64(1) + bytes(8)),
]


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([name for name in ANSWERS if name not in ("open", "opendir")]),
        odd_answers,
        min_size=1,
        max_size=5,
    ),
    odd_answers,
)
def test_whatever_handlers_return_is_answered(odd: Dict[str, Any], opened: Any) -> None:
    """A handler may return or raise nonsense: the request fails, and the loop goes on."""
    kernel = busy_kernel()
    kernel.filesystem.answers.update(odd)
    kernel.filesystem.answers["open"] = kernel.filesystem.answers["opendir"] = opened
    for opcode, fields in ALL_REQUESTS:
        check(kernel.engine.handle(request(opcode.value, fields, node=2)), opcode)


# Renames while a request is served


def test_a_path_that_a_rename_made_stale_is_built_anew() -> None:
    """The handler failed with ENOENT because another thread renamed the directory: it is asked again."""

    def getattr_(path: str) -> os.stat_result:
        if path == "/old/file" and kernel.engine.nodes.moves == 0:
            renaming = u64(1) + b"old\0new\0"
            thread = threading.Thread(target=kernel.engine.handle, args=(request(12, renaming),))
            thread.start()
            thread.join()
            raise OSError(errno.ENOENT, "renamed meanwhile")
        return DIRECTORY if path in ("/old", "/new") else FILE

    kernel = Kernel(getattr=getattr_, rename=None)
    directory = kernel.looks_up("old")
    assert error_of(kernel.sends(1, b"file\0", node=directory)) == 0
    assert [call for call in kernel.calls() if call[0] == "getattr"] == [
        ("getattr", "/old/file"),
        ("getattr", "/new/file"),
    ]


def test_a_request_that_meets_a_rename_half_done() -> None:
    """The backing directory has its new name, the node not yet: a request in between is asked again."""
    answers: List[Optional[int]] = []

    def rename(old: str, new: str) -> None:
        renamed.set()
        meeting.start()
        meeting.join(0.1)  # it may end only after the rename has

    def getattr_(path: str) -> os.stat_result:
        if path.startswith("/old") and renamed.is_set():
            raise OSError(errno.ENOENT, "renamed")
        return FILE if path.endswith("file") else DIRECTORY

    def meet() -> None:
        asked = request(1, b"file\0", node=directory)
        answers.append(error_of(joined(kernel.engine.handle(asked))))

    renamed = threading.Event()
    meeting = threading.Thread(target=meet)
    kernel = Kernel(getattr=getattr_, rename=rename)
    directory = kernel.looks_up("old")
    assert error_of(kernel.sends(12, u64(1) + b"old\0new\0")) == 0
    meeting.join()
    assert answers == [0]


@pytest.mark.parametrize(
    ("opcode", "handler", "fields"),
    [
        (6, "symlink", b"made\0target\0"),
        (8, "mknod", u32(0o010600) + u32(0) + u32(0) + u32(0) + b"made\0"),
        (9, "mkdir", u32(0o755) + u32(0) + b"made\0"),
        (13, "link", u64(2) + b"made\0"),
    ],
)
def test_what_was_made_before_a_rename_is_not_made_again(
    opcode: int, handler: str, fields: bytes
) -> None:
    """The directory is renamed between the making and the question for the status."""

    def getattr_(path: str) -> os.stat_result:
        if path == "/old/made":
            nodes = kernel.engine.nodes
            nodes.renamed(nodes.root, "old", nodes.root, "new", exchange=False)
            raise OSError(errno.ENOENT, "renamed")
        return FILE if path in ("/file", "/new/made") else DIRECTORY

    kernel = Kernel(getattr=getattr_, **{handler: None})
    kernel.looks_up("file")
    directory = kernel.looks_up("old")
    assert error_of(kernel.sends(opcode, fields, node=directory)) == 0
    assert [call[0] for call in kernel.calls()] == [handler, "getattr", "getattr"]


def test_enoent_without_a_rename_is_the_answer() -> None:
    """The handler is asked once."""
    kernel = Kernel(getattr=OSError(errno.ENOENT, ""))
    assert kernel.sends(1, b"file\0") == reply(error=-errno.ENOENT)
    assert len(kernel.calls()) == 1


def test_renames_without_an_end_do_not_hold_a_request_forever() -> None:
    """Some time ENOENT is the truth."""

    def getattr_(path: str) -> os.stat_result:
        kernel.engine.nodes.moves += 1
        raise OSError(errno.ENOENT, "")

    kernel = Kernel(getattr=getattr_)
    assert kernel.sends(1, b"file\0") == reply(error=-errno.ENOENT)
    assert 1 < len(kernel.calls()) < 100


# Replies that the kernel would not take

CREATE_IN = u32(os.O_RDWR) + u32(0o100600) + u32(0) + u32(0)


@pytest.mark.parametrize(
    ("opcode", "fields", "undone"),
    [
        (1, b"file\0", None),  # LOOKUP
        (8, u32(0o100600) + u32(0) + u32(0) + u32(0) + b"file\0", None),  # MKNOD
        (9, u32(0o755) + u32(0) + b"file\0", None),  # MKDIR
        (6, b"file\0target\0", None),  # SYMLINK
        (35, CREATE_IN + b"file\0", ("release", "/file", os.O_RDWR)),  # CREATE
        (51, CREATE_IN + b"#1\0", ("release", "/", os.O_RDWR)),  # TMPFILE
        (14, u32(os.O_RDWR) + u32(0), ("release", "/", os.O_RDWR)),  # OPEN
        (27, u32(0) + u32(0), ("releasedir", "/")),  # OPENDIR
    ],
)
def test_a_refused_reply_is_undone(
    opcode: int, fields: bytes, undone: Optional[Tuple[Any, ...]]
) -> None:
    """The kernel counted no lookup, and will release nothing: the request was interrupted."""
    kernel = Kernel(**ANSWERS)
    asked = request(opcode, fields)
    answer = kernel.engine.handle(asked)
    assert answer is not None
    assert error_of(joined(answer)) == 0
    kernel.calls()
    kernel.engine.refused(asked, answer)
    assert len(kernel.engine.nodes) == 1
    assert len(kernel.engine.handles) == 0
    assert [call[:-1] for call in kernel.calls()] == ([] if undone is None else [undone])


def test_a_refused_link_is_undone() -> None:
    """One of the node's two lookups."""
    kernel = Kernel(*IDENTIFIED, **{**ANSWERS, "getattr": status(0o100640, 501, links=2)})
    node = kernel.looks_up("old")
    asked = request(13, u64(node) + b"new\0")
    answer = kernel.engine.handle(asked)
    assert answer is not None
    assert kernel.engine.nodes.by_id[node].lookups == 2
    kernel.engine.refused(asked, answer)
    assert kernel.engine.nodes.by_id[node].lookups == 1


def test_a_refused_listing_is_undone() -> None:
    """Each entry of READDIRPLUS that has a node."""
    names = [".", "..", "one", "number two", "three"]
    listing = [types.SimpleNamespace(name=name, type=0, ino=0, offset=0) for name in names]
    kernel = Kernel(opendir=None, readdir=listing, getattr=FILE)
    fh = kernel.opens_directory()
    asked = request(44, u64(fh) + u64(0) + u32(4096) + bytes(20))
    answer = kernel.engine.handle(asked)
    assert answer is not None
    assert len(kernel.engine.nodes) == 4
    kernel.engine.refused(asked, answer)
    assert len(kernel.engine.nodes) == 1


def test_a_refused_error_has_nothing_to_undo() -> None:
    """Nor has the reply that there is no such name."""
    kernel = Kernel({"negative_timeout": "1"}, getattr=OSError(errno.ENOENT, ""))
    asked = request(1, b"no\0")
    answer = kernel.engine.handle(asked)
    assert answer is not None
    kernel.engine.refused(asked, answer)
    kernel.engine.refused(asked, reply(error=-errno.EINTR))
    assert len(kernel.engine.nodes) == 1


@pytest.mark.parametrize("error", [OSError(errno.EIO, ""), ValueError("a defect")], ids=repr)
def test_a_refused_reply_whose_undoing_fails(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nobody to tell but the log, and the loop goes on."""
    kernel = Kernel(**{**ANSWERS, "release": error})
    asked = request(35, CREATE_IN + b"file\0")
    answer = kernel.engine.handle(asked)
    assert answer is not None
    kernel.engine.refused(asked, answer)
    assert len(kernel.engine.nodes) == 1
    assert len(kernel.engine.handles) == 0
    assert caplog.records


# What fails half-way leaves nothing


def test_an_open_that_fails_after_the_handler() -> None:
    """Clearing set-user-id is refused: the file object is released, for the kernel will not do it."""
    setuid = types.SimpleNamespace(**{**vars_of(FILE), "st_mode": 0o104755})
    kernel = Kernel(
        **{**ANSWERS, "getattr": setuid, "fgetattr": setuid, "chmod": OSError(errno.EPERM, "")}
    )
    node = kernel.looks_up("file")
    fields = u32(os.O_RDWR | os.O_TRUNC) + u32(1)  # open_flags: FUSE_OPEN_KILL_SUIDGID
    assert error_of(kernel.sends(14, fields, node=node)) == errno.EPERM
    assert "release" in [call[0] for call in kernel.calls()]
    assert len(kernel.engine.handles) == 0


def test_a_create_whose_attributes_are_nonsense() -> None:
    """The file object is released."""
    nonsense = types.SimpleNamespace(**{**vars_of(FILE), "st_size": None})
    kernel = Kernel(**{**ANSWERS, "fgetattr": nonsense})
    assert error_of(kernel.sends(35, CREATE_IN + b"file\0")) == errno.EIO
    assert kernel.calls()[-1][:2] == ("release", "/file")
    assert len(kernel.engine.handles) == 0
    assert len(kernel.engine.nodes) == 1


def test_an_entry_that_cannot_be_packed_counts_no_lookup() -> None:
    """The kernel learned of no node."""
    nonsense = types.SimpleNamespace(**{**vars_of(FILE), "st_nlink": 1 << 40})
    kernel = Kernel(getattr=nonsense)
    assert error_of(kernel.sends(1, b"file\0")) == errno.EIO
    assert len(kernel.engine.nodes) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"st_mode": 0o644}, {"st_mode": 0o170644}, {"st_size": -1}, {"st_size": 1 << 63}],
    ids=str,
)
def test_a_status_that_the_kernel_refuses(
    wrong: Dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """EIO from here, and a word: the kernel counts no lookup and no open then, and does not tell."""
    nonsense = types.SimpleNamespace(**{**vars_of(FILE), **wrong})
    kernel = Kernel(**{**ANSWERS, "getattr": nonsense, "fgetattr": nonsense})
    assert error_of(kernel.sends(1, b"file\0")) == errno.EIO
    assert error_of(kernel.sends(35, CREATE_IN + b"file\0")) == errno.EIO
    assert kernel.calls()[-1][:2] == ("release", "/file")
    assert len(kernel.engine.handles) == 0
    assert len(kernel.engine.nodes) == 1
    shown = f"st_mode is 0o{nonsense.st_mode:o}, st_size is {nonsense.st_size}"
    assert [record.getMessage()[-len(shown) :] for record in caplog.records] == [shown] * 2


def vars_of(shown: os.stat_result) -> Dict[str, Any]:
    """Return a status's attributes by name."""
    return {name: getattr(shown, name) for name in dir(shown) if name.startswith("st_")}


def test_no_request_is_current_after_it_was_served() -> None:
    """`current.engine` is None outside a request; a thread may serve several mounts in turn."""
    Kernel(getattr=FILE).sends(1, b"file\0")
    assert current.engine is None

"""fusepy_legacy.kernel.engine, byte by byte: requests about open files."""

import errno
import fcntl
import os
from typing import Any, List, Tuple

import pytest

from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.negotiation import Agreement
from fusepy_legacy.kernel.operations import ELSEWHERE
from tests.kernel_side import (
    DIRECTORY,
    FILE,
    IDENTIFIED,
    Kernel,
    Opened,
    OpenFile,
    attr,
    error_of,
    status,
)
from tests.wire import entry_out, i32, open_out, read_in, release_in, reply, u32, u64


def test_open_returns_a_handle() -> None:
    """The handler gets open(2)'s flags; what it returns is kept behind the handle."""
    opened = OpenFile()
    kernel = Kernel(open=(opened, True), getattr=FILE)
    node = kernel.looks_up("file")
    answer = kernel.sends(
        14,  # FUSE_OPEN
        u32(os.O_RDWR | os.O_APPEND),  # flags
        u32(0),  # open_flags
        node=node,
    )
    assert answer == reply(
        u64(1),  # fh
        u32(0),  # open_flags
        i32(0),  # backing_id
    )
    assert kernel.calls() == [("open", "/file", os.O_RDWR | os.O_APPEND)]
    assert kernel.engine.handles.get(1).object is opened


@pytest.mark.parametrize("answer", [None, 0, (None, False)])
def test_open_without_a_file_object(answer: Any) -> None:
    """Later handlers then get no object."""
    kernel = Kernel(open=answer, read=b"data", getattr=FILE)
    fh = kernel.opens(kernel.looks_up("file"))
    fields = u64(fh) + u64(0) + u32(9) + u32(0) + u64(0) + u32(0) + u32(0)
    assert kernel.sends(15, fields, node=2) == reply(b"data")
    assert kernel.calls() == [("read", "/file", 9, 0)]


@pytest.mark.parametrize(
    ("options", "attribute", "open_flags"),
    [
        ({"direct_io": True}, None, 1 << 0),  # FOPEN_DIRECT_IO
        ({"kernel_cache": True}, None, 1 << 1),  # FOPEN_KEEP_CACHE
        ({"auto_cache": True}, None, 1 << 1),
        ({"auto_cache": True, "noauto_cache": True}, None, 0),
        ({}, "direct_io", 1 << 0),
        ({}, "keep_cache", 1 << 1),
    ],
)
def test_open_says_what_the_kernel_may_cache(options: Any, attribute: Any, open_flags: int) -> None:
    """By mount option, or as the file object says of itself."""
    opened = OpenFile()
    if attribute is not None:
        setattr(opened, attribute, True)
    kernel = Kernel(options, open=(opened, True), getattr=FILE)
    answer = kernel.sends(14, u32(0) + u32(0), node=kernel.looks_up("file"))
    assert answer == reply(open_out(1, open_flags))


def test_open_of_a_path_that_leads_to_another_file_by_now() -> None:
    """ESTALE, so that the kernel looks the name up again; what was opened is closed."""
    opened = OpenFile()
    other = status(0o100640, ino=999)
    kernel = Kernel(*IDENTIFIED, getattr=FILE, open=(opened, True), fgetattr=other, release=None)
    answer = kernel.sends(14, u32(0) + u32(0), node=kernel.looks_up("file"))
    assert answer == reply(error=-errno.ESTALE)
    assert kernel.calls()[-1] == ("release", "/file", 0, opened)
    assert len(kernel.engine.handles) == 0


@pytest.mark.parametrize(
    ("now", "number", "expected"),
    [
        (OSError(errno.ENOENT, ""), errno.ENOENT, errno.ESTALE),
        (status(0o120777, ino=502), errno.ELOOP, errno.ESTALE),
        (FILE, errno.EACCES, errno.EACCES),
        (FILE, errno.ENOENT, errno.ENOENT),
    ],
    ids=["gone", "a symlink", "refused", "gone to open only"],
)
def test_open_of_a_name_that_the_kernel_believes_in_wrongly(
    now: Any, number: int, expected: int
) -> None:
    """ESTALE makes the kernel look it up again, and O_CREAT create it; else the error is the handler's."""
    seen = [FILE, now]

    def getattr_(path: str) -> Any:
        found = seen.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    kernel = Kernel(*IDENTIFIED, getattr=getattr_, open=OSError(number, ""))
    node = kernel.looks_up("file")
    assert kernel.sends(14, u32(0) + u32(0), node=node) == reply(error=-expected)


def test_open_clears_privileges_of_what_it_truncates() -> None:
    """FUSE_OPEN_KILL_SUIDGID, with O_TRUNC."""
    kernel = Kernel(open=None, chmod=None, getattr=status(0o104755, ino=5))
    answer = kernel.sends(14, u32(os.O_TRUNC) + u32(1), node=kernel.looks_up("file"))
    assert answer == reply(open_out(1))
    assert ("chmod", "/file", 0o100755) in kernel.calls()


def test_create_makes_and_opens_a_file() -> None:
    """An entry and a handle in one reply; the open file itself says what it is."""
    opened = OpenFile()
    kernel = Kernel(create=(opened, True), fgetattr=FILE)
    flags = os.O_CREAT | os.O_WRONLY
    answer = kernel.sends(
        35,  # FUSE_CREATE
        u32(flags),  # flags
        u32(0o100640),  # mode
        u32(0o022),  # umask
        u32(0),  # open_flags
        b"new\0",  # name
    )
    assert answer == reply(
        entry_out(2, kernel.generation, attr(FILE, ino=2)),
        u64(1),  # fh
        u32(0),  # open_flags
        i32(0),  # backing_id
    )
    assert kernel.calls() == [("create", "/new", flags, 0o100640), ("fgetattr", "/new", opened)]


def test_create_without_a_handler() -> None:
    """ENOSYS: the kernel then uses MKNOD and OPEN."""
    fields = u32(0) + u32(0) + u32(0) + u32(0) + b"new\0"
    assert Kernel().sends(35, fields) == reply(error=-errno.ENOSYS)


def test_create_that_cannot_be_told_what_it_made() -> None:
    """The file object is closed again."""
    opened = OpenFile()
    kernel = Kernel(create=(opened, True), fgetattr=OSError(errno.EIO, ""), release=None)
    answer = kernel.sends(35, u32(1) + u32(0) + u32(0) + u32(0) + b"new\0")
    assert answer == reply(error=-errno.EIO)
    assert kernel.calls()[-1] == ("release", "/new", 1, opened)
    assert len(kernel.engine.handles) == 0


class Undecided(OpenFile):
    """A file object that cannot say whether the page cache may be kept."""

    @property
    def keep_cache(self) -> bool:
        raise OSError(errno.EIO, "")


def test_an_open_that_fails_late_is_closed() -> None:
    """And what was created with it is not known to the kernel."""
    opened = Undecided()
    kernel = Kernel(
        *IDENTIFIED,
        getattr=FILE,
        fgetattr=FILE,
        open=(opened, True),
        create=(opened, True),
        tmpfile=(opened, True),
        release=None,
    )
    node = kernel.looks_up("file")
    known = len(kernel.engine.nodes)
    made = u32(os.O_RDWR) + u32(0o100600) + u32(0) + u32(0) + b"new\0"
    for opcode, fields, about in ((14, u32(0) + u32(0), node), (35, made, 1), (51, made, 1)):
        assert kernel.sends(opcode, fields, node=about) == reply(error=-errno.EIO)
        assert kernel.calls()[-1][0] == "release"
        assert len(kernel.engine.handles) == 0
        assert len(kernel.engine.nodes) == known


def test_tmpfile_makes_a_file_without_a_name() -> None:
    """The handler gets the directory; the name in the request is a placeholder."""
    opened = OpenFile()
    kernel = Kernel(tmpfile=(opened, True), fgetattr=FILE, getattr=DIRECTORY)
    directory = kernel.looks_up("d")
    answer = kernel.sends(
        51,  # FUSE_TMPFILE
        u32(os.O_RDWR),  # flags
        u32(0o100600),  # mode
        u32(0o022),  # umask
        u32(0),  # open_flags
        b"#placeholder\0",  # name
        node=directory,
    )
    assert answer == reply(
        entry_out(3, kernel.generation, attr(FILE, ino=3)),
        open_out(1),
    )
    assert kernel.calls() == [
        ("tmpfile", "/d", os.O_RDWR, 0o100600),
        ("fgetattr", "/d", opened),
    ]


def test_tmpfile_that_cannot_be_told_what_it_made() -> None:
    """The file object is closed again."""
    opened = OpenFile()
    kernel = Kernel(tmpfile=(opened, True), fgetattr=OSError(errno.EIO, ""), release=None)
    answer = kernel.sends(51, u32(2) + u32(0) + u32(0) + u32(0) + b"#1\0")
    assert answer == reply(error=-errno.EIO)
    assert kernel.calls()[-1] == ("release", "/", 2, opened)


@pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data")])
def test_read_returns_data(data: Any) -> None:
    """Of any bytes-like type, and at an offset beyond 32 bits."""
    opened = Opened(read=data)
    answer = opened.sends(15, read_in(opened.fh, 1 << 40, 100))
    assert answer == reply(b"data")
    assert opened.calls() == [("read", "/file", 100, 1 << 40, opened.object)]


def test_read_returns_at_most_what_was_asked_for() -> None:
    """More would be cut off by nobody: EIO. Nothing is the end of the file; a negative number an error."""
    assert error_of(Opened(read=b"12345").sends(15, read_in(1, 0, 4))) == errno.EIO
    assert Opened(read=b"").sends(15, read_in(1, 0, 4)) == reply()
    assert error_of(Opened(read=-errno.EPERM).sends(15, read_in(1, 0, 4))) == errno.EPERM


def write_in(fh: int, offset: int, size: int, write_flags: int = 0) -> bytes:
    """Return struct fuse_write_in."""
    return (
        u64(fh)  # fh
        + u64(offset)  # offset
        + u32(size)  # size
        + u32(write_flags)  # write_flags
        + u64(0)  # lock_owner
        + u32(0)  # flags
        + u32(0)  # padding
    )


def test_write_hands_data_over() -> None:
    """As bytes; the handler says how much it took."""
    opened = Opened(write=3)
    answer = opened.sends(16, write_in(opened.fh, 1 << 40, 4), b"data")
    assert answer == reply(
        u32(3),  # size
        u32(0),  # padding
    )
    call = opened.calls()[0]
    assert call == ("write", "/file", b"data", 1 << 40, opened.object)
    assert type(call[2]) is bytes


def test_write_clears_privileges() -> None:
    """FUSE_WRITE_KILL_SUIDGID: before the data is in."""
    opened = OpenFile()
    shown = status(0o104755, ino=5)
    kernel = Kernel(open=(opened, True), getattr=shown, fgetattr=shown, chmod=None, write=1)
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    kernel.sends(16, write_in(fh, 0, 1, 1 << 2), b"x", node=node)
    assert [call[0] for call in kernel.calls()][-2:] == ["chmod", "write"]


@pytest.mark.parametrize("result", [1, OSError(errno.ENOSPC, "full")])
def test_that_the_offset_counts_is_told_of_this_write_only(result: object) -> None:
    """What a later handler appends in the same thread is appended."""
    seen: List[bool] = []

    def written(*arguments: object) -> object:
        seen.append(current.at_offset)
        if isinstance(result, OSError):
            raise result
        return result

    opened = Opened(write=written)
    opened.sends(16, write_in(opened.fh, 0, 1), b"x")  # without O_APPEND in its flags
    assert seen == [True]
    assert not current.at_offset


def test_write_with_less_data_than_it_says() -> None:
    """EINVAL; the handler is not called."""
    opened = Opened(write=4)
    assert opened.sends(16, write_in(opened.fh, 0, 4), b"dat") == reply(error=-errno.EINVAL)
    assert opened.calls() == []


def test_flush_is_for_each_close() -> None:
    """Without a flush handler and without locks the kernel need not ask again: ENOSYS."""
    opened = Opened(flush=None)
    answer = opened.sends(
        25,  # FUSE_FLUSH
        u64(opened.fh),  # fh
        u32(0),  # unused
        u32(0),  # padding
        u64(7),  # lock_owner
    )
    assert answer == reply()
    assert opened.calls() == [("flush", "/file", opened.object)]
    assert Opened().sends(25, u64(1) + u64(0) + u64(7)) == reply(error=-errno.ENOSYS)


def test_release_closes_the_file() -> None:
    """The handle is gone, and with it our reference to the object."""
    opened = Opened(release=None)
    assert opened.sends(18, release_in(opened.fh)) == reply()
    assert opened.calls() == [("release", "/file", os.O_RDWR, opened.object)]
    assert len(opened.kernel.engine.handles) == 0
    assert opened.sends(18, release_in(opened.fh)) == reply(error=-errno.EBADF)


def test_release_drops_a_flock_lock() -> None:
    """FUSE_RELEASE_FLOCK_UNLOCK, before the file is closed."""
    opened = Opened(flock=None, release=None)
    assert opened.sends(18, release_in(opened.fh, 1 << 1)) == reply()
    assert opened.calls() == [
        ("flock", "/file", fcntl.LOCK_UN, opened.object),
        ("release", "/file", os.O_RDWR, opened.object),
    ]


@pytest.mark.parametrize("failing", ["flock", "release"])
def test_release_closes_the_file_whatever_fails(failing: str) -> None:
    """The kernel asks once only: nothing may be left."""
    answers = {"flock": None, "release": None, failing: OSError(errno.EIO, "")}
    opened = Opened(**answers)
    assert error_of(opened.sends(18, release_in(opened.fh, 1 << 1))) == errno.EIO
    assert [call[0] for call in opened.calls()] == ["flock", "release"]
    assert len(opened.kernel.engine.handles) == 0
    assert opened.kernel.engine.nodes.by_id[opened.node].opens is None


def test_a_file_in_use_by_another_request_is_closed_after_that() -> None:
    """Attributes of a file without a name come from an open one, which stays open for so long."""
    opened: Any = None

    def fgetattr(*arguments: Any) -> Any:
        assert opened.sends(18, release_in(opened.fh)) == reply()
        assert opened.calls() == [("fgetattr", *arguments)]
        return FILE

    opened = Opened(fgetattr=fgetattr, unlink=None, release=None)
    assert opened.kernel.sends(10, b"file\0") == reply()
    opened.calls()
    assert error_of(opened.sends(3, u32(0) + u32(0) + u64(0))) == 0  # FUSE_GETATTR
    assert [call[0] for call in opened.calls()] == ["release"]


def test_unlink_while_the_file_is_being_closed() -> None:
    """The kernel waits for no RELEASE: until the handler is done, other requests may meet the handle."""
    answers: List[Any] = []
    opened = Opened(
        fgetattr=FILE,
        unlink=None,
        release=lambda *_: answers.append(opened.kernel.sends(10, b"file\0")),
    )
    assert opened.sends(18, release_in(opened.fh)) == reply()
    assert answers == [reply()]


@pytest.mark.parametrize(("fsync_flags", "datasync"), [(0, False), (1, True)])
def test_fsync_brings_a_file_to_the_disk(fsync_flags: int, datasync: bool) -> None:
    """FUSE_FSYNC_FDATASYNC: only what is needed to read the data back."""
    opened = Opened(fsync=None)
    answer = opened.sends(
        20,  # FUSE_FSYNC
        u64(opened.fh),  # fh
        u32(fsync_flags),  # fsync_flags
        u32(0),  # padding
    )
    assert answer == reply()
    assert opened.calls() == [("fsync", "/file", datasync, opened.object)]


def test_fallocate_takes_the_syscalls_order() -> None:
    """fallocate(2): mode, offset, length."""
    opened = Opened(fallocate=None)
    answer = opened.sends(
        43,  # FUSE_FALLOCATE
        u64(opened.fh),  # fh
        u64(1 << 40),  # offset
        u64(4096),  # length
        u32(3),  # mode: FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE
        u32(0),  # padding
    )
    assert answer == reply()
    assert opened.calls() == [("fallocate", "/file", 3, 1 << 40, 4096, opened.object)]


@pytest.mark.parametrize("opcode", [43, 47])
@pytest.mark.parametrize(("uid", "clears"), [(1000, True), (0, False)])
def test_other_changes_of_data_clear_privileges_too(opcode: int, uid: int, clears: bool) -> None:
    """fallocate and copy_file_range, of which the kernel does not say so; root keeps the bits."""
    shown = status(0o104755, ino=5)
    kernel = Kernel(
        open=(OpenFile(), True), getattr=shown, chmod=None, fallocate=None, copy_file_range=1
    )
    kernel.engine.agreement = Agreement(45, 1 << 28, 4096)
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    if opcode == 43:
        fields = u64(fh) + u64(0) + u64(1) + u32(0) + u32(0)
    else:
        fields = u64(fh) + u64(0) + u64(node) + u64(fh) + u64(100) + u64(1) + u64(0)
    assert error_of(kernel.sends(opcode, fields, node=node, uid=uid)) == 0
    assert (("chmod", "/file", 0o100755) in kernel.calls()) is clears


def test_lseek_knows_nothing_of_what_the_kernel_keeps() -> None:
    """With the writeback cache the handler is not asked: there may be data where it has a hole."""
    opened = Opened(lseek=1 << 41)
    opened.kernel.engine.agreement = Agreement(45, 1 << 16, 4096)  # FUSE_WRITEBACK_CACHE
    fields = u64(opened.fh) + u64(0) + u32(os.SEEK_HOLE) + u32(0)
    assert opened.sends(46, fields) == reply(error=-errno.ENOSYS)
    assert opened.calls() == []


def test_lseek_finds_holes() -> None:
    """SEEK_HOLE and SEEK_DATA; the handler returns the offset."""
    opened = Opened(lseek=1 << 41)
    answer = opened.sends(
        46,  # FUSE_LSEEK
        u64(opened.fh),  # fh
        u64(1 << 40),  # offset
        u32(os.SEEK_HOLE),  # whence
        u32(0),  # padding
    )
    assert answer == reply(
        u64(1 << 41),  # offset
    )
    assert opened.calls() == [("lseek", "/file", 1 << 40, os.SEEK_HOLE, opened.object)]


def copying(opcode: int, length: int, copied: int) -> Tuple[Any, List[Tuple[Any, ...]], Any, Any]:
    """Copy between two open files; return the reply, the calls and both objects."""
    objects = [OpenFile(), OpenFile()]
    opening = iter(objects)
    kernel = Kernel(
        open=lambda path, flags: (next(opening), True), getattr=FILE, copy_file_range=copied
    )
    source, target = kernel.looks_up("source"), kernel.looks_up("target")
    fh_in, fh_out = kernel.opens(source), kernel.opens(target)
    answer = kernel.sends(
        opcode,
        u64(fh_in),  # fh_in
        u64(10),  # off_in
        u64(target),  # nodeid_out
        u64(fh_out),  # fh_out
        u64(20),  # off_out
        u64(length),  # len
        u64(0),  # flags
        node=source,
    )
    return answer, kernel.calls(), objects[0], objects[1]


def test_copy_file_range_between_open_files() -> None:
    """The reply has room for 32 bits, so no more is copied at once."""
    answer, calls, source, target = copying(47, length=1 << 33, copied=30)
    assert answer == reply(
        u32(30),  # size
        u32(0),  # padding
    )
    (call,) = calls
    assert call[:5] == ("copy_file_range", "/source", 10, target, 20)
    assert 0 < call[5] < 1 << 32
    assert call[6:] == (0, source)


def test_copy_file_range_64_between_open_files() -> None:
    """The reply has room for 64 bits."""
    answer, calls, source, target = copying(53, length=1 << 33, copied=1 << 33)
    assert answer == reply(
        u64(1 << 33),  # bytes_copied
    )
    assert calls == [("copy_file_range", "/source", 10, target, 20, 1 << 33, 0, source)]


def test_bmap_finds_a_block() -> None:
    """The handler gets the block size first, as in fuse-python."""
    opened = Opened(bmap=99)
    answer = opened.sends(
        37,  # FUSE_BMAP
        u64(5),  # block
        u32(512),  # blocksize
        u32(0),  # padding
    )
    assert answer == reply(
        u64(99),  # block
    )
    assert opened.calls() == [("bmap", "/file", 512, 5)]


@pytest.mark.parametrize(
    ("data", "given", "result", "out", "value"),
    [
        (b"in", b"in", b"outward", b"outwa", 0),
        (b"", None, b"out", b"out", 0),
        (b"in", b"in", 7, b"", 7),
        (b"", None, None, b"", 0),
    ],
)
def test_ioctl_hands_data_in_and_out(
    data: bytes, given: Any, result: Any, out: bytes, value: int
) -> None:
    """As much as the command's number says; a handler may return a result instead of data."""
    opened = Opened(ioctl=result)
    answer = opened.sends(
        39,  # FUSE_IOCTL
        u64(opened.fh),  # fh
        u32(0),  # flags
        u32(0xC0054501),  # cmd
        u64(0x7FFF0000),  # arg
        u32(len(data)),  # in_size
        u32(5),  # out_size
        data,
    )
    assert answer == reply(
        i32(value),  # result
        u32(0),  # flags
        u32(0),  # in_iovs
        u32(0),  # out_iovs
        out,
    )
    assert opened.calls() == [("ioctl", "/file", 0xC0054501, given, 0, opened.object)]


def test_poll_returns_events() -> None:
    """With FUSE_POLL_SCHEDULE_NOTIFY the handler gets what NotifyPoll takes, else None."""
    opened = Opened(poll=1 | 4)
    for flags in (0, 1):
        answer = opened.sends(
            40,  # FUSE_POLL
            u64(opened.fh),  # fh
            u64(77),  # kh
            u32(flags),  # flags
            u32(5),  # events
        )
        assert answer == reply(
            u32(5),  # revents
            u32(0),  # padding
        )
    first, second = opened.calls()
    assert first == ("poll", "/file", None, opened.object)
    assert second[2] is not None


def test_a_read_that_another_process_answers() -> None:
    """The engine says nothing; the kernel waits for the other's reply."""
    opened = Opened(read=ELSEWHERE)
    assert opened.sends(15, read_in(opened.fh, 0, 4096)) is None


@pytest.mark.parametrize(("wanted", "error"), [((), errno.ENOTTY), (("ioctl_dir",), 0)])
def test_ioctl_of_a_directory_is_for_who_wants_it(wanted: Tuple[str, ...], error: int) -> None:
    """Programs that were written for libfuse have a handler that knows files only."""
    kernel = Kernel(wanted=frozenset(wanted), opendir=OpenFile(), ioctl=0, getattr=DIRECTORY)
    fh = kernel.opens_directory()
    answer = kernel.sends(
        39,  # FUSE_IOCTL
        u64(fh),  # fh
        u32(1 << 4),  # flags: FUSE_IOCTL_DIR
        u32(0x8008E002),  # cmd
        u64(0),  # arg
        u32(0),  # in_size
        u32(8),  # out_size
    )
    assert error_of(answer) == error

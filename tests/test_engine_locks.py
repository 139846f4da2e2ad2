"""fusepy_legacy.kernel.engine, byte by byte: requests about locks."""

import errno
import fcntl
import queue
import struct
import threading
import time
import types
from typing import Any, List, Optional

import pytest

from fusepy_legacy.kernel import handles
from fusepy_legacy.kernel.context import current
from tests.costs import lines_run
from tests.kernel_side import DIRECTORY, Kernel, Opened, OpenFile, status
from tests.wire import UNIQUE, i64, release_in, reply, u32, u64

OFFSET_MAX = (1 << 63) - 1  # linux/fs.h: to the end of the file


def lk_in(
    fh: int, kind: int, start: int = 100, end: int = 199, lk_flags: int = 0, pid: int = 4321
) -> bytes:
    """Return struct fuse_lk_in; the owner is 0xABCDEF."""
    return (
        u64(fh)  # fh
        + u64(0xABCDEF)  # owner
        + u64(start)  # lk.start
        + u64(end)  # lk.end
        + u32(kind)  # lk.type
        + u32(pid)  # lk.pid
        + u32(lk_flags)  # lk_flags
        + u32(0)  # padding
    )


def flock(**fields: Any) -> Any:
    """Return what fuse.Flock holds."""
    empty = {"l_type": None, "l_start": None, "l_len": None, "l_pid": None}
    return types.SimpleNamespace(**{**empty, **fields})


@pytest.mark.parametrize(
    ("found", "start", "end", "kind", "pid"),
    [
        (None, 100, 199, fcntl.F_UNLCK, 0),
        (flock(l_type=fcntl.F_UNLCK), 100, 199, fcntl.F_UNLCK, 0),
        (flock(l_type=fcntl.F_RDLCK, l_start=0, l_len=150, l_pid=9), 0, 149, fcntl.F_RDLCK, 9),
        (
            flock(l_type=fcntl.F_WRLCK, l_start=5, l_len=0, l_pid=9),
            5,
            OFFSET_MAX,
            fcntl.F_WRLCK,
            9,
        ),
        # fcntl(2): -1 for a lock of an open file description.
        (
            flock(l_type=fcntl.F_WRLCK, l_start=5, l_len=1, l_pid=-1),
            5,
            5,
            fcntl.F_WRLCK,
            0xFFFFFFFF,
        ),
    ],
)
def test_getlk_returns_the_lock_in_the_way(
    found: Any, start: int, end: int, kind: int, pid: int
) -> None:
    """The wire has the last byte, handlers the length, 0 for to the end of the file."""
    opened = Opened(lock=found)
    answer = opened.sends(31, lk_in(opened.fh, fcntl.F_WRLCK))
    assert answer == reply(
        u64(start),  # lk.start
        u64(end),  # lk.end
        u32(kind),  # lk.type
        u32(pid),  # lk.pid
    )
    keywords = {"l_type": fcntl.F_WRLCK, "l_start": 100, "l_len": 100, "l_pid": 4321}
    assert opened.calls() == [("lock", "/file", fcntl.F_GETLK, 0xABCDEF, opened.object, keywords)]


@pytest.mark.parametrize(("opcode", "command"), [(32, fcntl.F_SETLK), (33, fcntl.F_SETLKW)])
def test_setlk_takes_a_record_lock(opcode: int, command: int) -> None:
    """SETLKW is the one that waits."""
    opened = Opened(lock=None)
    fields = lk_in(opened.fh, fcntl.F_RDLCK, start=5, end=OFFSET_MAX)
    assert opened.sends(opcode, fields) == reply()
    keywords = {"l_type": fcntl.F_RDLCK, "l_start": 5, "l_len": 0, "l_pid": 4321}
    assert opened.calls() == [("lock", "/file", command, 0xABCDEF, opened.object, keywords)]


@pytest.mark.parametrize(
    ("opcode", "kind", "operation"),
    [
        (32, fcntl.F_RDLCK, fcntl.LOCK_SH | fcntl.LOCK_NB),
        (32, fcntl.F_WRLCK, fcntl.LOCK_EX | fcntl.LOCK_NB),
        (32, fcntl.F_UNLCK, fcntl.LOCK_UN | fcntl.LOCK_NB),
        (33, fcntl.F_WRLCK, fcntl.LOCK_EX),
    ],
)
def test_setlk_takes_a_flock_lock(opcode: int, kind: int, operation: int) -> None:
    """FUSE_LK_FLOCK."""
    opened = Opened(flock=None, lock=None)
    assert opened.sends(opcode, lk_in(opened.fh, kind, lk_flags=1)) == reply()
    assert opened.calls() == [("flock", "/file", operation, opened.object)]


def test_setlkw_waits_until_it_is_interrupted() -> None:
    """The handler finds an event in the request's context; FUSE_INTERRUPT sets it."""

    def lock(*arguments: Any, **keywords: Any) -> int:
        assert current.interrupted is not None
        assert not current.interrupted.is_set()
        opened.kernel.engine.waits.interrupt(current.unique)
        assert current.interrupted.is_set()
        return -errno.EINTR

    opened = Opened(lock=lock)
    assert opened.sends(33, lk_in(opened.fh, fcntl.F_WRLCK)) == reply(error=-errno.EINTR)
    assert len(opened.kernel.engine.waits) == 0
    assert current.interrupted is None


def test_setlkw_that_was_interrupted_before_it_came() -> None:
    """The event is set from the start."""
    seen = []
    opened = Opened(lock=lambda *_, **__: seen.append(current.interrupted.is_set()))
    opened.sends(36, u64(55))  # FUSE_INTERRUPT
    opened.kernel.sends(33, lk_in(opened.fh, fcntl.F_WRLCK), node=opened.node, unique=55)
    opened.kernel.sends(33, lk_in(opened.fh, fcntl.F_WRLCK), node=opened.node, unique=56)
    assert seen == [True, False]


@pytest.mark.parametrize("opcode", [32, 33])
def test_what_is_cached_of_a_file_ends_when_it_is_locked(opcode: int) -> None:
    """A notification goes before the reply; not for an unlock, nor when the lock is refused."""
    opened = Opened(lock=lambda *_, **fields: -errno.EAGAIN if fields["l_start"] else None)
    sent: List[bytes] = []
    opened.kernel.engine.notify = sent.append
    opened.sends(opcode, lk_in(opened.fh, fcntl.F_UNLCK, start=0))
    opened.sends(opcode, lk_in(opened.fh, fcntl.F_WRLCK, start=1))
    assert sent == []
    assert opened.sends(opcode, lk_in(opened.fh, fcntl.F_WRLCK, start=0)) == reply()
    data_and_attributes = (
        u64(opened.node)  # fuse_notify_inval_inode_out.ino
        + i64(0)  # off
        + i64(0)  # len: to the end
    )
    assert sent == [reply(data_and_attributes, error=2, unique=0)]  # FUSE_NOTIFY_INVAL_INODE
    assert len(opened.kernel.engine.waits) == 0


def test_only_attributes_end_with_kernel_io() -> None:
    """No data is cached."""
    opened = Opened(lock=None)
    engine = opened.kernel.engine
    engine.handles.get(opened.fh).backed = True
    sent: List[bytes] = []
    engine.notify = sent.append
    opened.sends(32, lk_in(opened.fh, fcntl.F_RDLCK))
    assert sent == [reply(u64(opened.node) + i64(-1) + i64(0), error=2, unique=0)]


@pytest.mark.parametrize("opcode", [32, 33])
def test_one_thread_serves_the_reads_that_the_end_of_cached_data_waits_for(opcode: int) -> None:
    """The lock has its reply when the kernel has dropped the data, not before."""
    opened = Opened(lock=None)
    engine = opened.kernel.engine
    engine.concurrent = False
    read = threading.Event()
    sent: queue.Queue[bytes] = queue.Queue()

    def notify(message: bytes) -> None:
        assert read.wait(20)
        sent.put(message)

    engine.notify = notify
    assert opened.sends(opcode, lk_in(opened.fh, fcntl.F_WRLCK)) is None
    assert len(engine.waits) == 0
    read.set()
    data_and_attributes = u64(opened.node) + i64(0) + i64(0)
    assert sent.get(timeout=20) == reply(data_and_attributes, error=2, unique=0)
    assert sent.get(timeout=20) == reply()


def test_one_thread_waits_for_a_lock_without_being_in_a_handler() -> None:
    """SETLKW is a SETLK that has no reply until it succeeds."""
    answers = [-errno.EAGAIN, -errno.EACCES, 0]
    opened = Opened(lock=lambda *_, **__: answers.pop(0))
    engine = opened.kernel.engine
    engine.concurrent = False
    sent: queue.Queue[bytes] = queue.Queue()
    engine.notify = sent.put
    fields = lk_in(opened.fh, fcntl.F_WRLCK)
    for _ in range(2):
        assert opened.sends(33, fields) is None
        assert UNIQUE in engine.waits
    assert sent.empty()
    assert opened.sends(33, fields) is None
    assert UNIQUE not in engine.waits
    assert [sent.get(timeout=20) for _ in range(2)][1] == reply()
    assert {call[2] for call in opened.calls()} == {fcntl.F_SETLK}


@pytest.mark.parametrize("before", [True, False], ids=["before it came", "while it waits"])
def test_one_thread_gives_up_a_wait_that_is_interrupted(before: bool) -> None:
    """EINTR, and nothing waits any more."""
    opened = Opened(lock=-errno.EAGAIN)
    opened.kernel.engine.concurrent = False
    fields = lk_in(opened.fh, fcntl.F_WRLCK)
    if not before:
        assert opened.sends(33, fields) is None
    opened.kernel.sends(36, u64(UNIQUE), unique=1)  # FUSE_INTERRUPT
    assert opened.sends(33, fields) == reply(error=-errno.EINTR)
    assert len(opened.kernel.engine.waits) == 0


@pytest.mark.parametrize("problem", [OSError(errno.ENOLCK, ""), ValueError("a defect")])
def test_one_thread_waits_for_nothing_after_an_error(problem: Exception) -> None:
    """It is the reply."""
    opened = Opened(lock=problem)
    opened.kernel.engine.concurrent = False
    expected = getattr(problem, "errno", errno.EIO)
    assert opened.sends(33, lk_in(opened.fh, fcntl.F_WRLCK)) == reply(error=-expected)
    assert len(opened.kernel.engine.waits) == 0


@pytest.mark.parametrize(("age", "expected"), [(60, [0, -1, 0, -1]), (0, [0, 0, 0, 0])])
def test_data_that_has_not_changed_stays_cached(age: float, expected: List[int]) -> None:
    """After it was dropped once, later than a clock tick after its last change."""
    changed = int((time.time() - age) * 1e9)
    sizes = iter((1, 1, 2, 2))

    def fgetattr(path: str, value: Any) -> Any:
        times = {"st_mtime_ns": changed, "st_ctime_ns": changed}
        return types.SimpleNamespace(st_size=next(sizes), **times)

    opened = Opened(lock=None, fgetattr=fgetattr, ftruncate=None)
    sent: List[bytes] = []
    opened.kernel.engine.notify = sent.append
    for _ in range(4):
        assert opened.sends(32, lk_in(opened.fh, fcntl.F_WRLCK)) == reply()
    offsets = [struct.unpack_from("=q", message, 24)[0] for message in sent]
    assert offsets == expected


@pytest.mark.parametrize("elsewhere", [0, 50], ids=["few open files", "many"])
def test_a_lock_is_about_the_other_open_files_of_its_directory_too(elsewhere: int) -> None:
    """Their attributes; not of those elsewhere, whose number costs nothing."""

    def getattr_(path: str) -> Any:
        return DIRECTORY if path == "/directory" else status(0o100644, ino=len(path))

    kernel = Kernel(getattr=getattr_, open=(OpenFile(), True), lock=None)
    directory = kernel.looks_up("directory")
    for number in range(elsewhere):
        kernel.opens(kernel.looks_up("x" * number + "file", directory))
    locked, beside = kernel.looks_up("locked"), kernel.looks_up("beside-it")
    kernel.looks_up("closed")
    fh = kernel.opens(locked)
    kernel.opens(beside)
    sent: List[bytes] = []
    kernel.engine.notify = sent.append
    fields = lk_in(fh, fcntl.F_WRLCK)
    lines = lines_run(lambda: kernel.sends(32, fields, node=locked), handles)
    assert {struct.unpack_from("=Qq", message, 16) for message in sent} == {
        (locked, 0),
        (beside, -1),
    }
    assert lines < 40


def flushes(opened: Opened, fh: int) -> Optional[bytes]:
    """Send what close(2) does, of a descriptor that the lock owner of `lk_in` has."""
    return opened.sends(25, u64(fh) + u64(0) + u64(0xABCDEF))  # type: ignore[no-any-return]


def test_a_close_drops_the_owner_s_locks() -> None:
    """Of whichever descriptor of a file that has been locked, after the flush: fcntl(2)."""
    opened = Opened(flush=None, lock=None)
    other = opened.kernel.opens(opened.node)
    opened.sends(32, lk_in(opened.fh, fcntl.F_WRLCK))
    opened.calls()
    unlocking = {"l_type": fcntl.F_UNLCK, "l_start": 0, "l_len": 0, "l_pid": 0}
    for fh in opened.fh, other:
        assert flushes(opened, fh) == reply()
        assert opened.calls() == [
            ("flush", "/file", opened.object),
            ("lock", "/file", fcntl.F_SETLK, 0xABCDEF, opened.object, unlocking),
        ]


def test_a_close_drops_locks_even_if_the_flush_fails() -> None:
    """close(2) reports the error, and the descriptor is gone all the same."""
    opened = Opened(flush=OSError(errno.ENOSPC, ""), lock=None)
    opened.sends(32, lk_in(opened.fh, fcntl.F_WRLCK))
    opened.calls()
    assert flushes(opened, opened.fh) == reply(error=-errno.ENOSPC)
    assert [call[0] for call in opened.calls()] == ["flush", "lock"]


def test_where_nobody_has_locked_a_close_drops_nothing() -> None:
    """Asking for locks locks nothing, and after the last close a file is as if it had never been locked."""
    opened = Opened(flush=None, lock=None, release=None)
    opened.sends(31, lk_in(opened.fh, fcntl.F_WRLCK))
    opened.calls()
    flushes(opened, opened.fh)
    assert opened.calls() == [("flush", "/file", opened.object)]
    opened.sends(32, lk_in(opened.fh, fcntl.F_WRLCK))
    opened.sends(18, release_in(opened.fh))
    fh = opened.kernel.opens(opened.node)
    opened.calls()
    flushes(opened, fh)
    assert opened.calls() == [("flush", "/file", opened.object)]


def test_locks_of_a_file_that_is_gone_are_dropped() -> None:
    """With hard_remove and without an object, libfuse's "-" is its path."""
    kernel = Kernel(
        {"hard_remove": True},
        getattr=status(0o100644, 5),
        open=None,
        unlink=None,
        flush=None,
        lock=None,
    )
    node = kernel.looks_up("file")
    fh = kernel.opens(node)
    kernel.sends(32, lk_in(fh, fcntl.F_WRLCK), node=node)
    kernel.sends(10, b"file\0")  # FUSE_UNLINK
    kernel.calls()
    assert kernel.sends(25, u64(fh) + u64(0) + u64(0xABCDEF), node=node) == reply()
    unlocking = {"l_type": fcntl.F_UNLCK, "l_start": 0, "l_len": 0, "l_pid": 0}
    assert kernel.calls() == [("flush", "-"), ("lock", "-", fcntl.F_SETLK, 0xABCDEF, unlocking)]

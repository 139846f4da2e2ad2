"""fusepy_legacy.kernel.engine, byte by byte: requests about locks."""

import errno
import fcntl
import types
from typing import Any

import pytest

from fusepy_legacy.kernel.context import current
from tests.kernel_side import Opened
from tests.wire import reply, u32, u64

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
        opened.kernel.engine.running.interrupt(current.unique)
        assert current.interrupted.is_set()
        return -errno.EINTR

    opened = Opened(lock=lock)
    assert opened.sends(33, lk_in(opened.fh, fcntl.F_WRLCK)) == reply(error=-errno.EINTR)
    assert len(opened.kernel.engine.running) == 0
    assert current.interrupted is None


def test_setlkw_that_was_interrupted_before_it_came() -> None:
    """The event is set from the start."""
    seen = []
    opened = Opened(lock=lambda *_, **__: seen.append(current.interrupted.is_set()))
    opened.sends(36, u64(55))  # FUSE_INTERRUPT
    opened.kernel.sends(33, lk_in(opened.fh, fcntl.F_WRLCK), node=opened.node, unique=55)
    opened.kernel.sends(33, lk_in(opened.fh, fcntl.F_WRLCK), node=opened.node, unique=56)
    assert seen == [True, False]

"""POSIX record locks: fcntl(2), F_SETLK, F_SETLKW and F_GETLK."""

import errno
import fcntl
import os
import signal
import struct
from contextlib import ExitStack

from .descriptors import opened
from .expectations import eventually, raises_errno
from .processes import Bell, Child, held, run
from .registry import stock_cannot

_FLOCK = "hhqqi0q"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


def _try_lock(descriptor, kind, start=0, length=0):
    fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, length, start)


def _taker(path, kind, start=0, length=0):
    """A function that opens the file, takes the lock and keeps both."""

    def take():
        _try_lock(os.open(str(path), os.O_RDWR), kind, start, length)

    return take


def _may(path, kind, start=0, length=0):
    """Whether another process would get the lock."""
    try:
        run(_taker(path, kind, start, length))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as fcntl(2) allows
        return False
    return True


def _getlk(path, kind, start=0, length=0):
    """l_type, l_start, l_len and l_pid that F_GETLK answers to another process."""

    def ask():
        with opened(str(path), os.O_RDWR) as descriptor:
            question = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
            return fcntl.fcntl(descriptor, fcntl.F_GETLK, question)

    found_type, _, found_start, found_length, pid = struct.unpack(_FLOCK, run(ask))
    return found_type, found_start, found_length, pid


def _waiter(path, bell):
    """A function that opens the file, rings, and waits for the exclusive lock."""

    def wait():
        with opened(str(path), os.O_RDWR) as descriptor:
            bell.ring()
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            return os.pread(descriptor, 100, 0)

    return wait


def an_exclusive_lock_excludes_other_processes(mount, backing):
    """Neither an exclusive nor a shared lock is given beside it."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX)):
        assert not _may(mount / "file", fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_SH)
    assert _may(mount / "file", fcntl.LOCK_EX)


def shared_locks_stand_beside_each_other(mount, backing):
    """They exclude an exclusive one only."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_SH)):
        assert _may(mount / "file", fcntl.LOCK_SH)
        assert not _may(mount / "file", fcntl.LOCK_EX)


def a_lock_on_the_mount_excludes_the_backing_side(mount, backing):
    """The lock reaches the backing file."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX)):
        assert not _may(backing / "file", fcntl.LOCK_EX)
        assert not _may(backing / "file", fcntl.LOCK_SH)
    assert eventually(lambda: _may(backing / "file", fcntl.LOCK_EX))


def a_lock_on_the_backing_side_excludes_the_mount(mount, backing):
    """The mount asks the backing file."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(backing / "file", fcntl.LOCK_EX)):
        assert not _may(mount / "file", fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_SH)
    assert _may(mount / "file", fcntl.LOCK_EX)


def shared_locks_stand_beside_each_other_across_the_mount(mount, backing):
    """One on each side."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_SH)):
        assert _may(backing / "file", fcntl.LOCK_SH)
        assert not _may(backing / "file", fcntl.LOCK_EX)
    with held(_taker(backing / "file", fcntl.LOCK_SH)):
        assert _may(mount / "file", fcntl.LOCK_SH)
        assert not _may(mount / "file", fcntl.LOCK_EX)


def unlocking_releases_a_lock(mount, backing):
    """F_UNLCK frees it at once on both sides."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_EX)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert _may(mount / "file", fcntl.LOCK_EX)
        assert _may(backing / "file", fcntl.LOCK_EX)


def closing_releases_a_lock(mount, backing):
    """close frees it at once on both sides."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_EX)
    assert _may(mount / "file", fcntl.LOCK_EX)
    assert _may(backing / "file", fcntl.LOCK_EX)


def closing_any_descriptor_of_the_file_releases_a_lock(mount, backing):
    """A process keeps no lock on a file of which it closed a descriptor (fcntl(2))."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        with opened(str(mount / "file")):
            assert not _may(mount / "file", fcntl.LOCK_EX)
        assert _may(mount / "file", fcntl.LOCK_EX)
        assert _may(backing / "file", fcntl.LOCK_EX)


def a_process_does_not_exclude_itself(mount, backing):
    """The owner is the process: a second descriptor gets the lock too, also another kind."""
    flags = os.O_CREAT | os.O_RDWR
    with opened(str(mount / "file"), flags) as one, opened(str(mount / "file"), flags) as two:
        _try_lock(one, fcntl.LOCK_EX)
        _try_lock(two, fcntl.LOCK_EX)
        _try_lock(two, fcntl.LOCK_SH)
        assert _may(mount / "file", fcntl.LOCK_SH)
        fcntl.lockf(two, fcntl.LOCK_UN)
        assert _may(mount / "file", fcntl.LOCK_EX)


def a_forked_child_does_not_share_a_lock(mount, backing):
    """It inherits the descriptor and not the lock, and its end releases nothing."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        with raises_errno(errno.EACCES, errno.EAGAIN):
            run(lambda: _try_lock(descriptor, fcntl.LOCK_EX))
        run(lambda: os.close(descriptor))
        assert not _may(mount / "file", fcntl.LOCK_EX)


def a_killed_process_holds_no_lock(mount, backing):
    """Its end releases what it held."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX)) as child:
        assert not _may(mount / "file", fcntl.LOCK_EX)
        child.kill()
        assert eventually(lambda: _may(mount / "file", fcntl.LOCK_EX))
        assert eventually(lambda: _may(backing / "file", fcntl.LOCK_EX))


def byte_ranges_are_locked_apart(mount, backing):
    """What does not overlap does not exclude."""
    (mount / "file").write_bytes(b"0123456789")
    with held(_taker(mount / "file", fcntl.LOCK_EX, 2, 3)):
        for side in (mount, backing):
            assert _may(side / "file", fcntl.LOCK_EX, 0, 2)
            assert _may(side / "file", fcntl.LOCK_EX, 5, 1)
            assert not _may(side / "file", fcntl.LOCK_EX, 1, 2)
            assert not _may(side / "file", fcntl.LOCK_EX, 4, 10)
            assert not _may(side / "file", fcntl.LOCK_EX)


def unlocking_the_middle_of_a_range_splits_it(mount, backing):
    """The two ends stay locked."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX, 0, 30)
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 10, 10)
        for side in (mount, backing):
            assert not _may(side / "file", fcntl.LOCK_EX, 0, 10)
            assert _may(side / "file", fcntl.LOCK_EX, 10, 10)
            assert not _may(side / "file", fcntl.LOCK_EX, 20, 10)
            assert _may(side / "file", fcntl.LOCK_EX, 30, 10)


def a_lock_of_length_zero_reaches_to_any_end(mount, backing):
    """Also over what is written later, and beyond four gibibytes."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX, 5, 0)):
        for side in (mount, backing):
            assert not _may(side / "file", fcntl.LOCK_EX, 1 << 40, 1)
            assert _may(side / "file", fcntl.LOCK_EX, 0, 5)


def ranges_beyond_four_gibibytes_are_locked_apart(mount, backing):
    """Offsets have 64 bits."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX, (1 << 32) + 5, 10)):
        for side in (mount, backing):
            assert not _may(side / "file", fcntl.LOCK_EX, (1 << 32) + 14, 1)
            assert _may(side / "file", fcntl.LOCK_EX, 5, 10)


def an_exclusive_lock_becomes_a_shared_one(mount, backing):
    """Other readers are let in."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_SH)
        _try_lock(descriptor, fcntl.LOCK_SH)
        assert _may(mount / "file", fcntl.LOCK_SH)
        assert not _may(mount / "file", fcntl.LOCK_EX)


def a_shared_lock_becomes_an_exclusive_one_when_it_is_alone(mount, backing):
    """Not beside another reader."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_lock(descriptor, fcntl.LOCK_SH)
        reader = held(_taker(mount / "file", fcntl.LOCK_SH))
        with reader, raises_errno(errno.EACCES, errno.EAGAIN):
            _try_lock(descriptor, fcntl.LOCK_EX)
        assert eventually(lambda: _try_lock(descriptor, fcntl.LOCK_EX) is None)
        assert not _may(mount / "file", fcntl.LOCK_SH)


def getlk_reports_kind_and_range_of_a_lock(mount, backing):
    """F_GETLK describes the lock that is in the way."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX, 3, 4)):
        assert _getlk(mount / "file", fcntl.F_RDLCK)[:3] == (fcntl.F_WRLCK, 3, 4)
    with held(_taker(mount / "file", fcntl.LOCK_SH, 10, 0)):
        assert _getlk(mount / "file", fcntl.F_WRLCK)[:3] == (fcntl.F_RDLCK, 10, 0)


def getlk_reports_the_process_that_holds_a_lock(mount, backing):
    """F_GETLK names the holder on the mount by its process id."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX)) as child:
        assert _getlk(mount / "file", fcntl.F_WRLCK)[3] == child.pid


def getlk_reports_a_lock_of_the_backing_side(mount, backing):
    """What excludes is what is reported."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(backing / "file", fcntl.LOCK_EX, 3, 4)):
        assert _getlk(mount / "file", fcntl.F_WRLCK)[:3] == (fcntl.F_WRLCK, 3, 4)


def getlk_reports_a_free_range_as_free(mount, backing):
    """F_UNLCK says that the lock would be given; asking takes nothing."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_SH, 0, 5)):
        assert _getlk(mount / "file", fcntl.F_RDLCK, 0, 5)[0] == fcntl.F_UNLCK
        assert _getlk(mount / "file", fcntl.F_WRLCK, 5, 5)[0] == fcntl.F_UNLCK
        assert _may(mount / "file", fcntl.LOCK_EX, 5, 5)


def setlkw_waits_for_a_lock_of_the_mount(mount, backing):
    """The waiter goes on when the lock is released, and not before."""
    _waits_until_released(mount, mount)


def setlkw_waits_for_a_lock_of_the_backing_side(mount, backing):
    """The same for a lock that was taken past the mount."""
    _waits_until_released(mount, backing)


def _waits_until_released(mount, holding_side):
    (mount / "file").write_bytes(b"too early")
    holder = opened(str(holding_side / "file"), os.O_RDWR)
    # The stack ends the children last, when the lock that they wait for is released.
    with Bell() as bell, ExitStack() as stack, holder as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        child = stack.enter_context(Child(_waiter(mount / "file", bell)))
        bell.wait()
        assert eventually(child.is_asleep)
        os.pwrite(descriptor, b"in time!!", 0)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert child.result() == b"in time!!"


@stock_cannot("fuse-python 1.0.9 has no fuse_interrupted: a waiting lock cannot be given up")
def a_signal_ends_the_wait_for_a_lock(mount, backing):
    """SETLKW is interruptible, and a wait given up leaves no lock behind."""
    (mount / "file").write_bytes(b"content")

    def interrupt(*_):
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def wait():
        signal.signal(signal.SIGUSR1, interrupt)
        return waiter()

    holder = opened(str(mount / "file"), os.O_RDWR)
    with Bell() as bell, ExitStack() as stack, holder as descriptor:
        waiter = _waiter(mount / "file", bell)
        _try_lock(descriptor, fcntl.LOCK_EX)
        child = stack.enter_context(Child(wait))
        bell.wait()
        assert eventually(child.is_asleep)
        os.kill(child.pid, signal.SIGUSR1)
        with raises_errno(errno.EINTR):
            child.result(seconds=3)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert eventually(lambda: _may(mount / "file", fcntl.LOCK_EX))


def waiting_for_a_lock_stops_nobody_else(mount, backing):
    """The mount serves everyone while a dozen processes wait for a lock."""
    (mount / "file").write_bytes(b"content")
    holder = opened(str(mount / "file"), os.O_RDWR)
    with Bell() as bell, ExitStack() as stack, holder as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        waiter = _waiter(mount / "file", bell)
        children = [stack.enter_context(Child(waiter)) for _ in range(12)]
        for _ in children:
            bell.wait()
        assert all(eventually(child.is_asleep) for child in children)
        (mount / "other").write_bytes(b"served")
        assert (backing / "other").read_bytes() == b"served"
        assert sorted(os.listdir(str(mount))) == ["file", "other"]
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        for child in children:
            assert child.result() == b"content"


def an_exclusive_lock_needs_a_descriptor_for_writing(mount, backing):
    """EBADF for F_WRLCK on a descriptor for reading and F_RDLCK on one for writing (fcntl(2))."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as reader:
        with raises_errno(errno.EBADF):
            _try_lock(reader, fcntl.LOCK_EX)
        _try_lock(reader, fcntl.LOCK_SH)
        assert not _may(backing / "file", fcntl.LOCK_EX)
    with opened(str(mount / "file"), os.O_WRONLY) as writer, raises_errno(errno.EBADF):
        _try_lock(writer, fcntl.LOCK_SH)


def a_lock_follows_the_file_through_a_rename(mount, backing):
    """Locks belong to the file, not to its name."""
    (mount / "file").write_bytes(b"content")
    with held(_taker(mount / "file", fcntl.LOCK_EX)):
        (mount / "file").rename(mount / "renamed")
        for side in (mount, backing):
            assert not _may(side / "renamed", fcntl.LOCK_EX)


# Open file description locks (fcntl(2), Linux 3.15): the owner is the open file, not the process.

_F_OFD_SETLK = 37  # linux/fcntl.h; Python 3.9 has it in fcntl


def _try_ofd_lock(descriptor, kind):
    fcntl.fcntl(descriptor, _F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0))


def _ofd_may(path, kind=fcntl.F_WRLCK):
    with opened(str(path), os.O_RDWR) as descriptor:
        try:
            _try_ofd_lock(descriptor, kind)
        except BlockingIOError:
            return False
        _try_ofd_lock(descriptor, fcntl.F_UNLCK)
        return True


def an_open_files_lock_excludes_another_open(mount, backing):
    """Also in one process, and past the mount, and record locks of other processes."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_ofd_lock(descriptor, fcntl.F_WRLCK)
        for side in (mount, backing):
            assert not _ofd_may(side / "file")
            assert not _may(side / "file", fcntl.LOCK_SH)
        _try_ofd_lock(descriptor, fcntl.F_UNLCK)
        assert _ofd_may(backing / "file")


def an_open_files_lock_on_the_backing_side_excludes_the_mount(mount, backing):
    """The mount asks the backing file."""
    (mount / "file").write_bytes(b"content")
    with opened(str(backing / "file"), os.O_RDWR) as descriptor:
        _try_ofd_lock(descriptor, fcntl.F_WRLCK)
        assert not _ofd_may(mount / "file")
        assert not _may(mount / "file", fcntl.LOCK_SH)


def the_last_close_releases_an_open_files_lock(mount, backing):
    """Not the close of another open of the process, and not that of a duplicate."""
    descriptor = os.open(str(mount / "file"), os.O_CREAT | os.O_RDWR)
    duplicate = os.dup(descriptor)
    _try_ofd_lock(descriptor, fcntl.F_WRLCK)
    os.close(descriptor)
    with opened(str(mount / "file")):
        pass
    assert not _ofd_may(backing / "file")
    os.close(duplicate)
    for side in (mount, backing):
        assert eventually(lambda side=side: _ofd_may(side / "file"))


def an_open_files_lock_is_shared_by_fork(mount, backing):
    """It is held until parent and child have closed the file, or ended."""
    descriptor = os.open(str(mount / "file"), os.O_CREAT | os.O_RDWR)
    with held(lambda: _try_ofd_lock(descriptor, fcntl.F_WRLCK)) as child:
        _try_ofd_lock(descriptor, fcntl.F_WRLCK)
        os.close(descriptor)
        assert not _ofd_may(mount / "file")
        child.kill()
        assert eventually(lambda: _ofd_may(backing / "file"))


def a_process_that_was_killed_while_it_waited_gets_no_lock(mount, backing):
    """The wait ends with the process."""
    (mount / "file").write_bytes(b"content")
    holder = opened(str(mount / "file"), os.O_RDWR)
    with Bell() as bell, ExitStack() as stack, holder as descriptor:
        _try_lock(descriptor, fcntl.LOCK_EX)
        child = stack.enter_context(Child(_waiter(mount / "file", bell)))
        bell.wait()
        assert eventually(child.is_asleep)
        child.kill()
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        assert eventually(lambda: _may(mount / "file", fcntl.LOCK_EX))


@stock_cannot("libfuse 2.9 keeps its caches when a lock is taken")
def who_gets_a_lock_reads_what_the_last_holder_wrote(mount, backing):
    """Size and content, when the last one worked past the mount, within the life of what is cached."""
    (mount / "file").write_bytes(b"old")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        for number in range(100):
            text = b"%d" % number * (number + 1)
            assert os.fstat(descriptor).st_size == len(os.pread(descriptor, 1000, 0))
            (backing / "file").write_bytes(text)
            _try_lock(descriptor, fcntl.LOCK_SH)
            assert os.fstat(descriptor).st_size == len(text)
            assert os.pread(descriptor, 1000, 0) == text
            fcntl.lockf(descriptor, fcntl.LOCK_UN)

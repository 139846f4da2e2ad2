"""EDEADLK: processes of the mount that wait for each other's record locks (fcntl(2), F_SETLKW)."""

import errno
import fcntl
import os
import signal
import struct
from contextlib import ExitStack

from .descriptors import opened
from .expectations import eventually, raises_errno
from .processes import Bell, Child
from .registry import stock_cannot

_FLOCK = "hhqqi0q"  # struct flock: l_type, l_whence, l_start, l_len, l_pid
_F_OFD_SETLKW = 38  # linux/fcntl.h; Python 3.9 has it in fcntl


def _lock(descriptor, kind, start, length=1):
    fcntl.lockf(descriptor, kind, length, start)


def _lock_open_file(descriptor, kind, start):
    lock = struct.pack(_FLOCK, kind, os.SEEK_SET, start, 1, 0)
    fcntl.fcntl(descriptor, _F_OFD_SETLKW, lock)


def _outcomes(*contenders):
    """How it ended for each process that took a lock and then waits for another: 0, or an errno.

    A contender is a path with what to lock first, and one with what to wait for when all have theirs.
    Whoever is done with waiting drops all.
    """

    def contend(first, second):
        with opened(str(first[0]), os.O_RDWR) as one, opened(str(second[0]), os.O_RDWR) as two:
            _lock(one, *first[1:])
            holds.ring()
            go.wait()
            _lock(two, *second[1:])

    with Bell() as holds, Bell() as go, ExitStack() as stack:
        children = [
            stack.enter_context(Child(lambda pair=pair: contend(*pair))) for pair in contenders
        ]
        for _ in children:
            holds.wait()
        for _ in children:
            go.ring()
        return [_outcome(child) for child in children]


def _outcome(child):
    try:
        child.result()
    except OSError as error:
        return error.errno
    return 0


def _two_that_wait_for_each_other(file):
    file.write_bytes(b"content")
    exclusive = fcntl.LOCK_EX
    return _outcomes(
        ((file, exclusive, 0), (file, exclusive, 5)),
        ((file, exclusive, 5), (file, exclusive, 0)),
    )


def of_two_processes_that_wait_for_each_other_one_gets_edeadlk(mount, backing):
    """When it gives up what it holds, the other goes on."""
    assert sorted(_two_that_wait_for_each_other(mount / "file")) == [0, errno.EDEADLK]


def of_three_processes_in_a_ring_one_gets_edeadlk(mount, backing):
    """Nobody waits for who waits for him directly."""
    file = mount / "file"
    file.write_bytes(b"content")
    exclusive = fcntl.LOCK_EX
    outcomes = _outcomes(
        *(((file, exclusive, at), (file, exclusive, (at + 1) % 3)) for at in range(3))
    )
    assert sorted(outcomes) == [0, 0, errno.EDEADLK]


def locks_of_two_files_make_a_deadlock_too(mount, backing):
    """Each process holds one and waits for the other."""
    one, two = mount / "one", mount / "two"
    for file in one, two:
        file.write_bytes(b"content")
    exclusive = fcntl.LOCK_EX
    outcomes = _outcomes(
        ((one, exclusive, 0), (two, exclusive, 0)), ((two, exclusive, 0), (one, exclusive, 0))
    )
    assert sorted(outcomes) == [0, errno.EDEADLK]


def of_two_readers_that_want_to_write_one_gets_edeadlk(mount, backing):
    """Each would have to wait until the other has dropped its shared lock."""
    file = mount / "file"
    file.write_bytes(b"content")
    upgrade = (file, fcntl.LOCK_SH, 0), (file, fcntl.LOCK_EX, 0)
    assert sorted(_outcomes(upgrade, upgrade)) == [0, errno.EDEADLK]


def waiting_beside_a_shared_lock_is_no_deadlock(mount, backing):
    """A waits for B, who waits for a third; what A and B share is in nobody's way."""
    file = mount / "file"
    file.write_bytes(b"content")

    def wait_for_the_third():
        with opened(str(file), os.O_RDWR) as descriptor:
            _lock(descriptor, fcntl.LOCK_EX, 1)
            bell.ring()
            _lock(descriptor, fcntl.LOCK_SH, 5, 2)

    def wait_for_the_first():
        with opened(str(file), os.O_RDWR) as descriptor:
            _lock(descriptor, fcntl.LOCK_SH, 5)
            bell.ring()
            _lock(descriptor, fcntl.LOCK_EX, 1)

    with Bell() as bell, ExitStack() as stack, opened(str(file), os.O_RDWR) as descriptor:
        _lock(descriptor, fcntl.LOCK_EX, 6)
        children = []
        for wait in wait_for_the_third, wait_for_the_first:
            children.append(stack.enter_context(Child(wait)))
            bell.wait()
            assert eventually(children[-1].is_asleep)
        _let_a_deadlock_be_found(mount)
        assert all(child.is_asleep() for child in children)
        _lock(descriptor, fcntl.LOCK_UN, 6)
        assert [_outcome(child) for child in children] == [0, 0]


def open_file_description_locks_make_no_deadlock(mount, backing):
    """They belong to no process: who waits for one goes on waiting, and here a third one drops it."""
    file = mount / "file"
    file.write_bytes(b"content")
    with Bell() as bell, ExitStack() as stack:
        descriptors = [stack.enter_context(opened(str(file), os.O_RDWR)) for _ in range(2)]
        for at, descriptor in enumerate(descriptors):
            _lock_open_file(descriptor, fcntl.F_WRLCK, at)

        def wait(at):
            bell.ring()
            _lock_open_file(descriptors[at], fcntl.F_WRLCK, 1 - at)

        children = [stack.enter_context(Child(lambda at=at: wait(at))) for at in range(2)]
        for child in children:
            bell.wait()
            assert eventually(child.is_asleep)
        _let_a_deadlock_be_found(mount)
        assert all(child.is_asleep() for child in children)
        for at, descriptor in enumerate(descriptors):
            _lock_open_file(descriptor, fcntl.F_UNLCK, at)
        assert [_outcome(child) for child in children] == [0, 0]


def _let_a_deadlock_be_found(mount):
    """By now whoever else had one would have been told."""
    for _ in range(3):
        outcomes = _two_that_wait_for_each_other(mount / "other")
        assert sorted(outcomes) == [0, errno.EDEADLK]


@stock_cannot("fuse-python 1.0.9 has no fuse_interrupted: a waiting lock cannot be given up")
def who_has_stopped_to_wait_is_in_no_deadlock(mount, backing):
    """A waits for B and is interrupted; now B may wait for A, who drops its lock in the end."""
    file = mount / "file"
    file.write_bytes(b"content")

    def interrupt(*_):
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def wait_and_stop():
        signal.signal(signal.SIGUSR1, interrupt)
        with opened(str(file), os.O_RDWR) as descriptor:
            _lock(descriptor, fcntl.LOCK_EX, 0)
            stops.wait()
            bell.ring()
            with raises_errno(errno.EINTR):
                _lock(descriptor, fcntl.LOCK_EX, 5)
            bell.ring()
            stops.wait()

    def wait():
        with opened(str(file), os.O_RDWR) as descriptor:
            _lock(descriptor, fcntl.LOCK_EX, 5)
            bell.ring()
            waits.wait()
            _lock(descriptor, fcntl.LOCK_EX, 0)

    with Bell() as bell, Bell() as stops, Bell() as waits, ExitStack() as stack:
        stopping = stack.enter_context(Child(wait_and_stop))
        waiting = stack.enter_context(Child(wait))
        bell.wait()
        stops.ring()
        bell.wait()
        assert eventually(stopping.is_asleep)
        os.kill(stopping.pid, signal.SIGUSR1)
        bell.wait(seconds=3)
        waits.ring()
        assert eventually(waiting.is_asleep)
        _let_a_deadlock_be_found(mount)
        stops.ring()
        assert [_outcome(child) for child in (stopping, waiting)] == [0, 0]

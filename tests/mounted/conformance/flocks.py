"""flock(2): locks of open file descriptions."""

import errno
import fcntl
import os

from .descriptors import opened
from .expectations import eventually, raises_errno
from .processes import Bell, Child, held, run
from .registry import stock_cannot

_LOCAL = "libfuse 2.9's high-level API has no flock: the kernel keeps these locks to the mount"


def _try_flock(descriptor, kind):
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)


def _may(path, kind):
    """Whether a new open of the file would get the lock."""
    with opened(str(path), os.O_RDWR) as descriptor:
        try:
            _try_flock(descriptor, kind)
        except BlockingIOError:
            return False
        return True


def an_exclusive_flock_excludes_another_open(mount, backing):
    """Also one of the same process: the owner is the open file, not the process."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_SH)


def shared_flocks_stand_beside_each_other(mount, backing):
    """They exclude an exclusive one only."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_SH)
        assert _may(mount / "file", fcntl.LOCK_SH)
        assert not _may(mount / "file", fcntl.LOCK_EX)


def an_exclusive_flock_excludes_other_processes(mount, backing):
    """Two programs on the mount exclude each other."""
    (mount / "file").write_bytes(b"content")

    def take():
        _try_flock(os.open(str(mount / "file"), os.O_RDWR), fcntl.LOCK_EX)

    with held(take):
        assert not _may(mount / "file", fcntl.LOCK_EX)
    assert eventually(lambda: _may(mount / "file", fcntl.LOCK_EX))


@stock_cannot(_LOCAL)
def an_flock_on_the_mount_excludes_the_backing_side(mount, backing):
    """The lock reaches the backing file."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        assert not _may(backing / "file", fcntl.LOCK_EX)
        assert not _may(backing / "file", fcntl.LOCK_SH)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert _may(backing / "file", fcntl.LOCK_EX)


@stock_cannot(_LOCAL)
def an_flock_on_the_backing_side_excludes_the_mount(mount, backing):
    """The mount asks the backing file."""
    (backing / "file").write_bytes(b"content")
    with opened(str(backing / "file"), os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_SH)
        assert not _may(mount / "file", fcntl.LOCK_EX)
        assert _may(mount / "file", fcntl.LOCK_SH)


def unlocking_releases_an_flock(mount, backing):
    """LOCK_UN frees it at once."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert _may(mount / "file", fcntl.LOCK_EX)


def the_last_close_releases_an_flock(mount, backing):
    """A duplicate keeps the lock until it is closed too (flock(2))."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        duplicate = os.dup(descriptor)
    try:
        assert not _may(mount / "file", fcntl.LOCK_EX)
    finally:
        os.close(duplicate)
    assert eventually(lambda: _may(mount / "file", fcntl.LOCK_EX))


def a_forked_child_shares_an_flock(mount, backing):
    """It inherits the open file and with it the lock (flock(2))."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        run(lambda: _try_flock(descriptor, fcntl.LOCK_EX))
        assert not _may(mount / "file", fcntl.LOCK_EX)
        run(lambda: fcntl.flock(descriptor, fcntl.LOCK_UN))
        assert _may(mount / "file", fcntl.LOCK_EX)


def an_flock_changes_its_kind(mount, backing):
    """Exclusive to shared and back when nobody is in the way."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        _try_flock(descriptor, fcntl.LOCK_SH)
        assert _may(mount / "file", fcntl.LOCK_SH)
        with opened(str(mount / "file")) as other:
            _try_flock(other, fcntl.LOCK_SH)
            with raises_errno(errno.EWOULDBLOCK):
                _try_flock(descriptor, fcntl.LOCK_EX)


def an_flock_needs_no_descriptor_for_writing(mount, backing):
    """LOCK_EX on a descriptor for reading is allowed (flock(2))."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        assert not _may(mount / "file", fcntl.LOCK_SH)


def flock_waits_for_the_lock(mount, backing):
    """The waiter goes on when the lock is released, and not before."""
    (mount / "file").write_bytes(b"too early")
    with Bell() as go, Bell() as bell:

        def wait():
            go.wait()
            with opened(str(mount / "file"), os.O_RDWR) as descriptor:
                bell.ring()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                return os.pread(descriptor, 100, 0)

        # Forked before the lock is taken: a child shares the open files that it inherits.
        with Child(wait) as child, opened(str(mount / "file"), os.O_RDWR) as descriptor:
            _try_flock(descriptor, fcntl.LOCK_EX)
            go.ring()
            bell.wait()
            assert eventually(child.is_asleep)
            os.pwrite(descriptor, b"in time!!", 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            assert child.result() == b"in time!!"


def directories_can_be_flocked(mount, backing):
    """A descriptor of a directory takes the lock as well."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    with opened(str(mount), flags) as one, opened(str(mount), flags) as two:
        _try_flock(one, fcntl.LOCK_EX)
        with raises_errno(errno.EWOULDBLOCK):
            _try_flock(two, fcntl.LOCK_EX)


def flock_and_record_locks_do_not_exclude_each_other(mount, backing):
    """On local filesystems they are two kinds that know nothing of each other (flock(2))."""
    (mount / "file").write_bytes(b"content")

    def lock_records():
        with opened(str(mount / "file"), os.O_RDWR) as descriptor:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        _try_flock(descriptor, fcntl.LOCK_EX)
        run(lock_records)

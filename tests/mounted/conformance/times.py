"""atime, mtime and ctime."""

import errno
import os
import subprocess
import time

import pytest

from .descriptors import opened
from .expectations import eventually, raises_errno, require_root
from .libc import UTIME_NOW, UTIME_OMIT, utimensat
from .processes import run_as_nobody
from .registry import stock_cannot

_OLD = 1000000000  # 2001-09-09, long before any clock a test runs by

_SECONDS = "fuse-python 1.0.9 reads st_atime, st_mtime and st_ctime as whole seconds"


def _times_ns(path):
    found = os.lstat(str(path))
    return found.st_atime_ns, found.st_mtime_ns


def _times(path):
    return tuple(value // 1000000000 for value in _times_ns(path))


def _age(*paths):
    for path in paths:
        os.utime(str(path), (_OLD, _OLD))


def _mtime_is_now(mount_path, backing_path):
    seen = _times(mount_path)[1]
    return seen == _times(backing_path)[1] and abs(seen - time.time()) < 60


def _hold_seconds(mount, backing, seconds):
    """Set the time through the mount and compare both sides, if the backing side can hold it."""
    (backing / "probe").write_bytes(b"")
    os.utime(str(backing / "probe"), (seconds, seconds))
    if _times(backing / "probe") != (seconds, seconds):
        pytest.skip("the backing filesystem cannot hold this time")
    (mount / "file").write_bytes(b"")
    os.utime(str(mount / "file"), (seconds, seconds))
    assert _times(backing / "file") == (seconds, seconds)
    assert _times(mount / "file") == (seconds, seconds)


def _born(path):
    """Return when a file was made, as stat(1) shows it: by statx(2), which Python has no function for."""
    return subprocess.check_output(["stat", "-c", "%w", str(path)])


@stock_cannot("libfuse 2 has no statx")
def the_time_of_birth_is_that_of_the_file_below(mount, backing):
    """Of files, directories and symlinks; writing changes nothing of it."""
    (mount / "file").write_bytes(b"")
    (mount / "directory").mkdir()
    (mount / "link").symlink_to("nowhere")
    if _born(backing / "file") == b"-\n":
        pytest.skip("the backing filesystem does not know it")
    for name in ("file", "directory", "link"):
        assert _born(mount / name) == _born(backing / name) != b"-\n"
    born = _born(backing / "file")
    _age(mount / "file")
    (mount / "file").write_bytes(b"later")
    assert _born(mount / "file") == born


@stock_cannot("libfuse 2 has no statx")
def the_time_of_birth_of_an_unlinked_open_file_is_known(mount, backing):
    """Its open file knows."""
    (mount / "file").write_bytes(b"")
    born = _born(backing / "file")
    if born == b"-\n":
        pytest.skip("the backing filesystem does not know it")
    with opened(mount / "file", os.O_RDONLY) as descriptor:
        os.unlink(str(mount / "file"))
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        assert subprocess.check_output(["stat", "-L", "-c", "%w", path]) == born


def utime_sets_whole_seconds(mount, backing):
    """atime and mtime given in seconds are those found on both sides."""
    (mount / "file").write_bytes(b"")
    os.utime(str(mount / "file"), (_OLD, _OLD + 100))
    assert _times(mount / "file") == _times(backing / "file") == (_OLD, _OLD + 100)


@stock_cannot(_SECONDS)
def utime_sets_nanoseconds(mount, backing):
    """atime and mtime given in nanoseconds are those found on both sides."""
    (mount / "file").write_bytes(b"")
    times = (_OLD * 10**9 + 123456789, _OLD * 10**9 + 987654321)
    os.utime(str(mount / "file"), ns=times)
    assert _times_ns(backing / "file") == times
    assert _times_ns(mount / "file") == times


@stock_cannot(_SECONDS)
def nanoseconds_set_on_the_backing_side_show_on_the_mount(mount, backing):
    """A time is not cut short on its way."""
    (backing / "file").write_bytes(b"")
    times = (_OLD * 10**9 + 1, _OLD * 10**9 + 999999999)
    os.utime(str(backing / "file"), ns=times)
    assert _times_ns(mount / "file") == times


@stock_cannot(_SECONDS)
def the_times_of_a_new_file_are_those_of_its_backing_file(mount, backing):
    """atime, mtime and ctime agree to the nanosecond, so make and rsync agree too."""
    # The backing filesystem's clock may stop at a whole second once, but not four times.
    for number in range(4):
        (mount / f"file{number}").write_bytes(b"content")
        assert _times_ns(mount / f"file{number}") == _times_ns(backing / f"file{number}")
        on_mount, on_backing = (mount / f"file{number}").stat(), (backing / f"file{number}").stat()
        assert on_mount.st_ctime_ns == on_backing.st_ctime_ns
        time.sleep(0.011)


def utime_without_times_means_now(mount, backing):
    """touch sets both times to the present."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    os.utime(str(mount / "file"))
    assert _mtime_is_now(mount / "file", backing / "file")
    assert abs(_times(backing / "file")[0] - time.time()) < 60


def utime_now_by_utimensat_means_now(mount, backing):
    """UTIME_NOW for both times is the same as no times."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    utimensat(mount / "file", UTIME_NOW, UTIME_NOW)
    assert _mtime_is_now(mount / "file", backing / "file")


@stock_cannot("libfuse 2.9 has no UTIME_OMIT: setting one time alone is dropped")
def touch_of_the_atime_alone_keeps_the_mtime(mount, backing):
    """touch -a changes the atime and nothing else."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    utimensat(mount / "file", UTIME_NOW, UTIME_OMIT)
    for side in (mount, backing):
        atime, mtime = _times(side / "file")
        assert abs(atime - time.time()) < 60
        assert mtime == _OLD


@stock_cannot("libfuse 2.9 has no UTIME_OMIT: setting one time alone is dropped")
def touch_of_the_mtime_alone_keeps_the_atime(mount, backing):
    """touch -m changes the mtime and nothing else."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    utimensat(mount / "file", UTIME_OMIT, UTIME_NOW)
    for side in (mount, backing):
        atime, mtime = _times(side / "file")
        assert atime == _OLD
        assert abs(mtime - time.time()) < 60


def utimensat_that_omits_both_changes_nothing(mount, backing):
    """UTIME_OMIT twice is a call without effect."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    utimensat(mount / "file", UTIME_OMIT, UTIME_OMIT)
    assert _times(mount / "file") == _times(backing / "file") == (_OLD, _OLD)


def the_epoch_is_a_time_like_any_other(mount, backing):
    """Second 0 is kept."""
    _hold_seconds(mount, backing, 0)


def the_last_31_bit_second_is_kept(mount, backing):
    """2038-01-19 03:14:07 is kept."""
    _hold_seconds(mount, backing, 2**31 - 1)


def times_before_1970_are_kept(mount, backing):
    """Negative seconds are kept."""
    _hold_seconds(mount, backing, -86400 * 365)


@stock_cannot("fuse-python 1.0.9 cuts the seconds of utimens to 32 bits")
def times_after_2038_are_kept(mount, backing):
    """Seconds beyond 31 bits are kept."""
    _hold_seconds(mount, backing, 2**31 + 1000)


@stock_cannot("fuse-python 1.0.9 cuts the seconds of utimens to 32 bits")
def times_after_2106_are_kept(mount, backing):
    """Seconds beyond 32 bits are kept."""
    _hold_seconds(mount, backing, 2**32 + 1000)


def futimens_sets_the_times_of_an_open_file(mount, backing):
    """utime on a descriptor is seen by path on both sides."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        os.utime(descriptor, (_OLD, _OLD + 7))
        assert _times(mount / "file") == (_OLD, _OLD + 7)
    assert _times(backing / "file") == (_OLD, _OLD + 7)


def times_set_on_an_open_file_survive_its_close(mount, backing):
    """cp -p and tar set the times before they close: nothing may write after that."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_WRONLY) as descriptor:
        os.write(descriptor, b"content")
        os.utime(descriptor, (_OLD, _OLD + 7))
    assert _times(mount / "file") == _times(backing / "file") == (_OLD, _OLD + 7)


def a_directory_takes_times(mount, backing):
    """utime works on directories."""
    (mount / "directory").mkdir()
    os.utime(str(mount / "directory"), (_OLD, _OLD + 7))
    assert _times(mount / "directory") == _times(backing / "directory") == (_OLD, _OLD + 7)


def a_symlink_has_times_of_its_own(mount, backing):
    """utime without following sets the link's times and leaves those of the target."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    os.symlink("file", str(mount / "link"))
    os.utime(str(mount / "link"), (_OLD + 1, _OLD + 2), follow_symlinks=False)
    assert _times(mount / "link")[1] == _times(backing / "link")[1] == _OLD + 2
    assert _times(backing / "file")[1] == _OLD


def utime_follows_a_symlink(mount, backing):
    """utime of a symlink's path sets the times of the file it leads to."""
    (mount / "file").write_bytes(b"")
    os.symlink("file", str(mount / "link"))
    os.utime(str(mount / "link"), (_OLD + 1, _OLD + 2))
    assert _times(mount / "file") == _times(backing / "file") == (_OLD + 1, _OLD + 2)


def writing_renews_the_mtime(mount, backing):
    """The mtime after a write is the backing file's, at once."""
    (mount / "file").write_bytes(b"old")
    _age(mount / "file")
    with opened(str(mount / "file"), os.O_WRONLY) as descriptor:
        os.write(descriptor, b"new")
        assert _mtime_is_now(mount / "file", backing / "file")


def truncating_renews_the_mtime(mount, backing):
    """The mtime after a change of size is the backing file's, at once."""
    (mount / "file").write_bytes(b"content")
    _age(mount / "file")
    os.truncate(str(mount / "file"), 3)
    assert _mtime_is_now(mount / "file", backing / "file")


def reading_keeps_the_mtime(mount, backing):
    """Looking at a file does not change it."""
    (mount / "file").write_bytes(b"content")
    _age(mount / "file")
    assert (mount / "file").read_bytes() == b"content"
    assert _times(mount / "file")[1] == _times(backing / "file")[1] == _OLD


def chmod_renews_the_ctime_and_keeps_the_mtime(mount, backing):
    """A change of attributes is not a change of content."""
    (mount / "file").write_bytes(b"")
    _age(mount / "file")
    before = (backing / "file").stat().st_ctime_ns
    assert eventually(lambda: time.time() * 1e9 > before + 2e7)
    (mount / "file").chmod(0o600)
    assert (backing / "file").stat().st_ctime_ns > before
    assert int((mount / "file").stat().st_ctime) == int((backing / "file").stat().st_ctime)
    assert _times(mount / "file")[1] == _OLD


def creating_a_file_renews_the_mtime_of_its_directory(mount, backing):
    """A new name changes its directory."""
    (mount / "directory").mkdir()
    _age(mount / "directory")
    (mount / "directory" / "file").write_bytes(b"")
    assert _mtime_is_now(mount / "directory", backing / "directory")


def unlinking_a_file_renews_the_mtime_of_its_directory(mount, backing):
    """A name gone changes its directory."""
    (mount / "directory").mkdir()
    (mount / "directory" / "file").write_bytes(b"")
    _age(mount / "directory")
    (mount / "directory" / "file").unlink()
    assert _mtime_is_now(mount / "directory", backing / "directory")


def renaming_a_file_renews_the_mtime_of_both_directories(mount, backing):
    """A name moved changes where it was and where it is."""
    for name in ("from", "to"):
        (mount / name).mkdir()
    (mount / "from" / "file").write_bytes(b"")
    _age(mount / "from", mount / "to")
    (mount / "from" / "file").rename(mount / "to" / "file")
    assert _mtime_is_now(mount / "from", backing / "from")
    assert _mtime_is_now(mount / "to", backing / "to")


def renaming_a_file_keeps_its_times(mount, backing):
    """atime and mtime belong to the file, not to its name."""
    (mount / "file").write_bytes(b"")
    os.utime(str(mount / "file"), (_OLD, _OLD + 7))
    (mount / "file").rename(mount / "other")
    assert _times(mount / "other") == _times(backing / "other") == (_OLD, _OLD + 7)


def only_the_owner_sets_chosen_times(mount, backing):
    """An ordinary user gets EPERM for another's file, even one it may write to (utimensat(2))."""
    require_root()
    (mount / "file").write_bytes(b"")
    (mount / "file").chmod(0o666)
    _age(mount / "file")
    with raises_errno(errno.EPERM):
        run_as_nobody(mount, lambda: os.utime("file", (5, 5)))
    assert _times(backing / "file") == (_OLD, _OLD)


def whoever_may_write_sets_the_times_to_now(mount, backing):
    """The present is allowed to all who may write the file (utimensat(2))."""
    require_root()
    (mount / "file").write_bytes(b"")
    (mount / "file").chmod(0o666)
    _age(mount / "file")
    run_as_nobody(mount, lambda: os.utime("file"))
    assert _mtime_is_now(mount / "file", backing / "file")

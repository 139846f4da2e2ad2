"""fusepy_legacy.kernel.attributes: what handlers return as a status, as the wire's attributes."""

import datetime
import os
import types
from typing import Any, Dict, NamedTuple

import fuse
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusepy_legacy.kernel.attributes import Attributer, links_of, time_of

SECOND = 1000000000


class Shown(NamedTuple):
    """struct fuse_attr of linux/fuse.h, in its order."""

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int


def shown(status: Any, node_id: int = 7, **options: Any) -> Shown:
    """Return a status as the kernel gets it."""
    return Shown(*Attributer(options)(status, node_id))


def a_status(**changes: Any) -> Any:
    """Return what fuse-python's filesystems return."""
    fields: Dict[str, Any] = {"st_mode": 0o100644, "st_nlink": 1, **changes}
    return fuse.Stat(**fields)


# os.stat_result


def test_a_stat_result_with_all_it_has() -> None:
    """To the nanosecond; flags are the kernel's own."""
    status = os.stat_result(
        (0o020644, 501, 64769, 2, 1001, 101, 5000, 0, 0, 0),
        {
            "st_atime_ns": 1600000001 * SECOND + 11,
            "st_mtime_ns": 1600000002 * SECOND + 22,
            "st_ctime_ns": 1600000003 * SECOND + 33,
            "st_blocks": 16,
            "st_blksize": 8192,
            "st_rdev": 0x103,
        },
    )
    expected = Shown(
        ino=501,
        size=5000,
        blocks=16,
        atime=1600000001,
        mtime=1600000002,
        ctime=1600000003,
        atimensec=11,
        mtimensec=22,
        ctimensec=33,
        mode=0o020644,
        nlink=2,
        uid=1001,
        gid=101,
        rdev=0x103,
        blksize=8192,
        flags=0,
    )
    assert shown(status, use_ino=True) == expected
    assert shown(status, node_id=7) == expected._replace(ino=7)


def test_a_real_file(tmp_path: Any) -> None:
    """The same as the kernel told us."""
    status = os.stat(str(tmp_path))
    result = shown(status, use_ino=True)
    assert (result.ino, result.mode) == (status.st_ino, status.st_mode)
    assert result.mtime * SECOND + result.mtimensec == status.st_mtime_ns


def test_device_numbers_have_32_bits() -> None:
    """makedev(3) puts what does not fit above them; major numbers have 12 bits, minor ones 20."""
    device = os.makedev(0xABC, 0x12345)
    status = os.stat_result((0o060644,) + (0,) * 9, {**NO_TIMES, "st_rdev": device})
    assert shown(status).rdev == 0x123ABC45


NO_TIMES = {
    "st_atime_ns": 0,
    "st_mtime_ns": 0,
    "st_ctime_ns": 0,
    "st_blocks": 0,
    "st_blksize": 0,
    "st_rdev": 0,
}


def test_a_stat_result_of_ten() -> None:
    """As filesystems make it from archives: what comes after the ten fields is None then."""
    status = os.stat_result((0o100644, 501, 64769, 2, 1001, 101, 1000, 5, 6, 7))
    result = shown(status, use_ino=True)
    assert (result.ino, result.mode, result.size, result.uid) == (501, 0o100644, 1000, 1001)
    assert (result.atime, result.mtime, result.ctime) == (5, 6, 7)
    assert (result.blocks, result.blksize, result.rdev) == (2, 4096, 0)


@pytest.mark.parametrize(
    ("year", "nanoseconds"), [(1900, 1), (1969, 999999999), (1970, 0), (2039, 5), (2200, 7)]
)
def test_times_before_1970_and_after_2038(year: int, nanoseconds: int) -> None:
    """Seconds may be negative, nanoseconds never are."""
    epoch = datetime.datetime(1970, 1, 1)
    seconds = (datetime.datetime(year, 7, 1) - epoch) // datetime.timedelta(seconds=1)
    moment = seconds * SECOND + nanoseconds
    times = {**NO_TIMES, "st_atime_ns": moment, "st_mtime_ns": moment, "st_ctime_ns": moment}
    plain = os.stat_result((0o100644,) + (0,) * 9, times)
    like = a_status(st_atime_ns=moment, st_mtime_ns=moment, st_ctime_ns=moment)
    for status in (plain, like):
        result = shown(status)
        assert result.atime == result.mtime == result.ctime == seconds
        assert result.atimensec == result.mtimensec == result.ctimensec == nanoseconds


# What filesystems make themselves


def test_fuse_stat_as_it_is_made() -> None:
    """fuse.Stat's zeros; block size and blocks as fuse-python has them where there are none."""
    result = shown(a_status(st_size=1000))
    assert result == Shown(
        ino=7,
        size=1000,
        blocks=2,
        atime=0,
        mtime=0,
        ctime=0,
        atimensec=0,
        mtimensec=0,
        ctimensec=0,
        mode=0o100644,
        nlink=1,
        uid=0,
        gid=0,
        rdev=0,
        blksize=4096,
        flags=0,
    )


def test_a_status_of_floats() -> None:
    """Sizes and ids are cut off, times keep what a float has of them."""
    result = shown(a_status(st_size=1000.9, st_mtime=1600000000.25, st_blocks=3.0, st_uid=5.0))
    assert (result.size, result.blocks, result.uid) == (1000, 3, 5)
    assert (result.mtime, result.mtimensec) == (1600000000, 250000000)


def test_a_status_with_none() -> None:
    """As if it were not there."""
    result = shown(
        a_status(
            st_ino=None,
            st_rdev=None,
            st_blocks=None,
            st_blksize=None,
            st_atime=None,
            st_mtime_ns=None,
            st_mtime=5,
        ),
        use_ino=True,
    )
    assert (result.ino, result.rdev, result.blocks, result.blksize) == (0, 0, 0, 4096)
    assert (result.atime, result.mtime) == (0, 5)


def test_a_status_with_nothing_but_the_necessary() -> None:
    """Any object does, and times may be missing."""
    bare = types.SimpleNamespace(
        st_mode=0o100644, st_ino=9, st_nlink=1, st_uid=1, st_gid=2, st_size=3
    )
    result = shown(bare, use_ino=True)
    assert (result.ino, result.uid, result.gid, result.size, result.mtime) == (9, 1, 2, 3, 0)


def test_owners_that_are_none() -> None:
    """chown(2)'s -1 is the 32-bit number that the kernel takes for it."""
    result = shown(a_status(st_uid=-1, st_gid=-1))
    assert (result.uid, result.gid) == (0xFFFFFFFF, 0xFFFFFFFF)


def test_nanoseconds_count_more_than_seconds() -> None:
    """A float has no room for both."""
    assert time_of(a_status(st_mtime_ns=-1, st_mtime=5.5), "st_mtime") == (-1, 999999999)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, (0, 0)),
        (5, (5, 0)),
        (-5, (-5, 0)),
        (1.5, (1, 500000000)),
        (-0.5, (-1, 500000000)),
        (-1.25, (-2, 750000000)),
        (1 << 40, (1 << 40, 0)),
        (-1e-300, (0, 0)),
    ],
)
def test_a_time_in_seconds(value: Any, expected: Any) -> None:
    """int or float; before 1970 the nanoseconds count up from the second before."""
    seconds, nanoseconds = time_of(a_status(st_mtime=value), "st_mtime")
    assert 0 <= nanoseconds < SECOND
    if value == -1e-300:  # either side of the second is right
        assert (seconds, nanoseconds) in [(0, 0), (-1, 999999999)]
    else:
        assert (seconds, nanoseconds) == expected


@given(st.one_of(st.integers(-(1 << 40), 1 << 40), st.floats(-1e12, 1e12)))
@example(-1e-170)
def test_any_time_in_seconds(value: Any) -> None:
    """The same moment, and nanoseconds from 0 to 999,999,999."""
    seconds, nanoseconds = time_of(a_status(st_mtime=value), "st_mtime")
    assert 0 <= nanoseconds < SECOND
    assert seconds + nanoseconds / SECOND == pytest.approx(value, rel=1e-9, abs=2e-9)


@given(st.integers(-(1 << 62), 1 << 62))
def test_any_time_in_nanoseconds(value: int) -> None:
    """Nothing is lost."""
    seconds, nanoseconds = time_of(a_status(st_mtime_ns=value), "st_mtime")
    assert 0 <= nanoseconds < SECOND
    assert seconds * SECOND + nanoseconds == value


# Mount options


def test_uid_and_gid_options() -> None:
    """Shown on everything, also 0."""
    status = a_status(st_uid=5, st_gid=6)
    result = shown(status, uid="1000", gid="100")
    assert (result.uid, result.gid) == (1000, 100)
    assert shown(status, uid="0").uid == 0
    assert shown(status, uid="0").gid == 6


@pytest.mark.parametrize(
    ("mode", "umask", "expected"),
    [
        (0o100644, "022", 0o100755),
        (0o100600, "077", 0o100700),
        (0o040111, "027", 0o040750),
        (0o100000, "0", 0o100777),
        (0o106755, "022", 0o100755),
    ],
)
def test_umask_option(mode: int, umask: str, expected: int) -> None:
    """mount.fuse(8): the permission bits of st_mode are overridden by those missing from the umask."""
    assert shown(a_status(st_mode=mode), umask=umask).mode == expected


def test_links_of_a_directory_are_no_names() -> None:
    """Its subdirectories count as well."""
    assert links_of(shown(a_status(st_mode=0o040755, st_nlink=9))) == 0
    assert links_of(shown(a_status(st_mode=0o100644, st_nlink=9))) == 9

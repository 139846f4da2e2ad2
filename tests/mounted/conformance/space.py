"""statvfs, fallocate, holes, copy_file_range, O_TMPFILE, renameat2."""

import errno
import os
import shutil

import pytest

from .descriptors import opened
from .expectations import raises_errno, require_user_attributes
from .libc import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    copy_file_range,
    fallocate,
    renameat2,
)
from .registry import stock_cannot

_RDWR = os.O_CREAT | os.O_RDWR

_NO_FALLOCATE = "fuse-python 1.0.9 has no fallocate"
_NO_LSEEK = "libfuse 2.9 has no lseek: the kernel shows every file without holes"
_NO_TMPFILE = "libfuse 2.9 has no tmpfile"
_NO_FLAGS = "libfuse 2.9 has no rename flags"


def _require_fallocate(backing, mode):
    """Skip when the backing filesystem cannot do this kind of fallocate."""
    with opened(str(backing / "probe"), _RDWR) as descriptor:
        try:
            fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, 65536)
            fallocate(descriptor, mode, 0, 4096)
        except OSError:
            pytest.skip("the backing filesystem has no such fallocate")
    (backing / "probe").unlink()


def _require_exchange(backing):
    """Skip when the backing filesystem cannot exchange names."""
    (backing / "one").write_bytes(b"")
    (backing / "two").write_bytes(b"")
    try:
        renameat2(backing / "one", backing / "two", RENAME_EXCHANGE)
    except OSError:
        pytest.skip("the backing filesystem has no rename flags")
    (backing / "one").unlink()
    (backing / "two").unlink()


def statvfs_is_that_of_the_backing_filesystem(mount, backing):
    """Sizes and limits are the same; what is free may change in between."""
    on_mount, on_backing = os.statvfs(str(mount)), os.statvfs(str(backing))
    for field in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax"):
        assert getattr(on_mount, field) == getattr(on_backing, field), field
    slack = max(on_backing.f_blocks // 50, 1 << 28 >> 12)
    for field in ("f_bfree", "f_bavail"):
        assert abs(getattr(on_mount, field) - getattr(on_backing, field)) <= slack, field
    slack = max(on_backing.f_files // 50, 10000)
    assert abs(on_mount.f_ffree - on_backing.f_ffree) <= slack


def fstatvfs_is_statvfs(mount, backing):
    """An open file knows its filesystem."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        found = os.fstatvfs(descriptor)
    assert found.f_blocks == os.statvfs(str(backing)).f_blocks
    assert found.f_namemax == os.statvfs(str(backing)).f_namemax


def disk_usage_works(mount, backing):
    """Programs look at the free space before they copy."""
    assert shutil.disk_usage(str(mount)).total == shutil.disk_usage(str(backing)).total


def posix_fallocate_extends_a_file(mount, backing):
    """The C library writes zeros where the filesystem has no fallocate."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"content")
        os.posix_fallocate(descriptor, 0, 100000)
    expected = b"content" + b"\0" * 99993
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == expected


@stock_cannot(_NO_FALLOCATE)
def fallocate_allocates_and_extends(mount, backing):
    """Blocks are there and the size has grown, on both sides at once."""
    _require_fallocate(backing, 0)
    with opened(str(mount / "file"), _RDWR) as descriptor:
        fallocate(descriptor, 0, 0, 1 << 20)
        for found in (os.fstat(descriptor), (backing / "file").stat()):
            assert found.st_size == 1 << 20
            assert found.st_blocks * 512 >= 1 << 20


@stock_cannot(_NO_FALLOCATE)
def fallocate_may_keep_the_size(mount, backing):
    """FALLOC_FL_KEEP_SIZE allocates behind the end."""
    _require_fallocate(backing, FALLOC_FL_KEEP_SIZE)
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"content")
        fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, 1 << 20)
        assert os.fstat(descriptor).st_size == 7
    assert (backing / "file").stat().st_size == 7
    assert (backing / "file").stat().st_blocks * 512 >= 1 << 20


@stock_cannot(_NO_FALLOCATE)
def fallocate_punches_holes(mount, backing):
    """What was there reads as zeros at once, also where it had been read before."""
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    _require_fallocate(backing, mode)
    (mount / "file").write_bytes(b"x" * (1 << 20))
    expected = b"x" * 65536 + b"\0" * 131072 + b"x" * ((1 << 20) - 196608)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        assert os.pread(descriptor, 65540, 0) == b"x" * 65540
        fallocate(descriptor, mode, 65536, 131072)
        assert os.pread(descriptor, 1 << 20, 0) == expected
    assert (backing / "file").read_bytes() == expected


@stock_cannot(_NO_FALLOCATE)
def fallocate_zeroes_ranges(mount, backing):
    """FALLOC_FL_ZERO_RANGE overwrites with zeros and extends."""
    _require_fallocate(backing, FALLOC_FL_ZERO_RANGE)
    (mount / "file").write_bytes(b"x" * 10000)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        fallocate(descriptor, FALLOC_FL_ZERO_RANGE, 5000, 10000)
        assert os.fstat(descriptor).st_size == 15000
    expected = b"x" * 5000 + b"\0" * 10000
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == expected


@stock_cannot(_NO_LSEEK)
def seek_data_and_seek_hole_find_the_holes(mount, backing):
    """The answers are those of the backing file, so cp and tar keep it sparse."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.pwrite(descriptor, b"x" * 65536, 1 << 20)
        os.ftruncate(descriptor, 4 << 20)
        os.fsync(descriptor)
        with opened(str(backing / "file")) as directly:
            if os.lseek(directly, 0, os.SEEK_DATA) == 0:
                pytest.skip("the backing filesystem has no holes")
            for start in (0, 1 << 20, (1 << 20) + 100):
                for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                    expected = os.lseek(directly, start, whence)
                    assert os.lseek(descriptor, start, whence) == expected
            with raises_errno(errno.ENXIO):
                os.lseek(descriptor, 2 << 20, os.SEEK_DATA)


def seek_hole_of_a_full_file_is_its_end(mount, backing):
    """Every file ends in a hole (lseek(2)), and behind it there is nothing."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file")) as descriptor:
        assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 7
        assert os.lseek(descriptor, 3, os.SEEK_DATA) == 3
        with raises_errno(errno.ENXIO):
            os.lseek(descriptor, 7, os.SEEK_DATA)


def copy_file_range_copies_between_files(mount, backing):
    """Bytes arrive at the offset given, and the rest stays."""
    data = os.urandom(200000)
    (mount / "source").write_bytes(data)
    (mount / "target").write_bytes(b"." * 1000)
    with opened(str(mount / "source")) as source, opened(
        str(mount / "target"), os.O_RDWR
    ) as target:
        copied = 0
        while copied < 150000:
            count = copy_file_range(source, 100 + copied, target, 500 + copied, 150000 - copied)
            assert count > 0
            copied += count
        expected = b"." * 500 + data[100:150100]
        assert os.pread(target, 200000, 0) == expected
        assert os.fstat(target).st_size == len(expected)
    assert (backing / "target").read_bytes() == expected


def copy_file_range_ends_at_the_end_of_the_source(mount, backing):
    """A short count, then 0 (copy_file_range(2))."""
    (mount / "source").write_bytes(b"content")
    with opened(str(mount / "source")) as source, opened(str(mount / "target"), _RDWR) as target:
        assert copy_file_range(source, 4, target, 0, 100) == 3
        assert copy_file_range(source, 7, target, 3, 100) == 0
    assert (backing / "target").read_bytes() == b"ent"


def _open_tmpfile(mount, backing):
    try:
        with opened(str(backing), os.O_TMPFILE | os.O_RDWR):
            pass
    except OSError:
        pytest.skip("the backing filesystem has no O_TMPFILE")
    return opened(str(mount), os.O_TMPFILE | os.O_RDWR, 0o640)


@stock_cannot(_NO_TMPFILE)
def a_tmpfile_has_no_name(mount, backing):
    """O_TMPFILE makes a file that can be used and is never listed."""
    with _open_tmpfile(mount, backing) as descriptor:
        os.write(descriptor, b"content")
        assert os.pread(descriptor, 100, 0) == b"content"
        assert os.fstat(descriptor).st_size == 7
        assert os.listdir(str(mount)) == os.listdir(str(backing)) == []


@stock_cannot(_NO_TMPFILE)
def a_tmpfile_can_be_given_a_name(mount, backing):
    """linkat through /proc/self/fd makes it appear complete (open(2), O_TMPFILE)."""
    with _open_tmpfile(mount, backing) as descriptor:
        os.write(descriptor, b"content")
        source = f"/proc/self/fd/{descriptor}"
        with opened(str(mount), os.O_RDONLY | os.O_DIRECTORY) as directory:
            # A descriptor of a directory makes Python call linkat and follow the source.
            os.link(source, "file", dst_dir_fd=directory, follow_symlinks=True)
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == b"content"
    assert (mount / "file").stat().st_nlink == (backing / "file").stat().st_nlink == 1


@stock_cannot(_NO_TMPFILE)
def the_attributes_of_a_tmpfile_stay_when_it_gets_a_name(mount, backing):
    """They are its own from the beginning, and not its directory's."""
    require_user_attributes(backing)
    with _open_tmpfile(mount, backing) as descriptor:
        os.setxattr(descriptor, "user.name", b"value")
        assert os.listxattr(str(mount)) == os.listxattr(str(backing)) == []
        with opened(str(mount), os.O_RDONLY | os.O_DIRECTORY) as directory:
            source = f"/proc/self/fd/{descriptor}"
            os.link(source, "file", dst_dir_fd=directory, follow_symlinks=True)
    assert os.getxattr(str(mount / "file"), "user.name") == b"value"


@stock_cannot(_NO_FLAGS)
def rename_noreplace_takes_a_free_name(mount, backing):
    """RENAME_NOREPLACE renames when nothing is in the way."""
    _require_exchange(backing)
    (mount / "old").write_bytes(b"content")
    renameat2(mount / "old", mount / "new", RENAME_NOREPLACE)
    for side in (mount, backing):
        assert os.listdir(str(side)) == ["new"]
        assert (side / "new").read_bytes() == b"content"


def rename_noreplace_refuses_a_taken_name(mount, backing):
    """RENAME_NOREPLACE is EEXIST when something is in the way."""
    (mount / "old").write_bytes(b"old")
    (mount / "new").write_bytes(b"new")
    with raises_errno(errno.EEXIST):
        renameat2(mount / "old", mount / "new", RENAME_NOREPLACE)
    assert (backing / "new").read_bytes() == b"new"
    assert (backing / "old").read_bytes() == b"old"


def rename_noreplace_refuses_a_name_taken_on_the_backing_side(mount, backing):
    """EEXIST also while the mount remembers that there was no such file."""
    _require_exchange(backing)
    (mount / "old").write_bytes(b"old")
    assert not (mount / "new").exists()
    (backing / "new").write_bytes(b"new")
    with raises_errno(errno.EEXIST):
        renameat2(mount / "old", mount / "new", RENAME_NOREPLACE)
    assert (backing / "new").read_bytes() == b"new"


@stock_cannot(_NO_FLAGS)
def rename_exchange_swaps_files(mount, backing):
    """RENAME_EXCHANGE gives each the name of the other, at once on both sides."""
    _require_exchange(backing)
    (mount / "one").write_bytes(b"one")
    (mount / "two").write_bytes(b"number two")
    renameat2(mount / "one", mount / "two", RENAME_EXCHANGE)
    for side in (mount, backing):
        assert (side / "one").read_bytes() == b"number two"
        assert (side / "two").read_bytes() == b"one"
        assert (side / "two").stat().st_size == 3


@stock_cannot(_NO_FLAGS)
def rename_exchange_swaps_a_file_and_a_directory(mount, backing):
    """RENAME_EXCHANGE takes any two kinds, and what is below moves along."""
    _require_exchange(backing)
    (mount / "file").write_bytes(b"content")
    (mount / "directory" / "sub").mkdir(parents=True)
    (mount / "directory" / "sub" / "leaf").write_bytes(b"leaf")
    renameat2(mount / "file", mount / "directory", RENAME_EXCHANGE)
    for side in (mount, backing):
        assert (side / "directory").read_bytes() == b"content"
        assert (side / "file" / "sub" / "leaf").read_bytes() == b"leaf"


@stock_cannot(_NO_FLAGS)
def rename_exchange_swaps_directories_with_all_below(mount, backing):
    """Descendants that were known by the one path are found by the other."""
    _require_exchange(backing)
    for name in ("one", "two"):
        (mount / name / "sub").mkdir(parents=True)
        (mount / name / "sub" / "leaf").write_bytes(name.encode())
    renameat2(mount / "one", mount / "two", RENAME_EXCHANGE)
    for side in (mount, backing):
        assert (side / "one" / "sub" / "leaf").read_bytes() == b"two"
        assert (side / "two" / "sub" / "leaf").read_bytes() == b"one"
    (mount / "one" / "sub" / "leaf").write_bytes(b"written after")
    assert (backing / "one" / "sub" / "leaf").read_bytes() == b"written after"


def rename_exchange_needs_both_names(mount, backing):
    """ENOENT when one is missing, and nothing moves."""
    (mount / "one").write_bytes(b"content")
    with raises_errno(errno.ENOENT):
        renameat2(mount / "one", mount / "two", RENAME_EXCHANGE)
    assert os.listdir(str(backing)) == ["one"]


def unknown_rename_flags_are_refused(mount, backing):
    """EINVAL, and nothing moves."""
    (mount / "one").write_bytes(b"content")
    with raises_errno(errno.EINVAL):
        renameat2(mount / "one", mount / "two", 1 << 20)
    assert os.listdir(str(backing)) == ["one"]

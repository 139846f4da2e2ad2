"""open: what each flag does."""

import errno
import mmap
import os

import pytest

from .descriptors import opened, read_all
from .expectations import raises_errno
from .registry import stock_cannot

_BELIEVES = "libfuse's open says ENOENT, and the kernel goes on to believe in the name for a second"


def creat_makes_a_missing_file(mount, backing):
    """O_CREAT makes an empty file on both sides before anything is written."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_WRONLY):
        assert (backing / "file").stat().st_size == 0
        assert (mount / "file").stat().st_size == 0


def creat_opens_an_existing_file_with_its_content(mount, backing):
    """O_CREAT alone neither truncates nor changes the mode."""
    (backing / "file").write_bytes(b"content")
    (backing / "file").chmod(0o640)
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR, 0o777) as descriptor:
        assert os.read(descriptor, 100) == b"content"
    assert (backing / "file").stat().st_mode & 0o7777 == 0o640


def excl_refuses_an_existing_name(mount, backing):
    """O_CREAT with O_EXCL is EEXIST, also for a dangling symlink and for a directory."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    os.symlink("nowhere", str(mount / "link"))
    for name in ("file", "directory", "link"):
        with raises_errno(errno.EEXIST):
            os.open(str(mount / name), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (backing / "file").read_bytes() == b"content"
    assert not (backing / "nowhere").exists()


def excl_refuses_a_name_made_on_the_backing_side(mount, backing):
    """EEXIST also while the mount remembers that there was no such file."""
    assert not (mount / "lock").exists()
    (backing / "lock").write_bytes(b"content")
    with raises_errno(errno.EEXIST):
        os.open(str(mount / "lock"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert (backing / "lock").read_bytes() == b"content"


def creat_follows_a_dangling_symlink(mount, backing):
    """O_CREAT without O_EXCL makes the file that the link leads to."""
    os.symlink("target", str(mount / "link"))
    with opened(str(mount / "link"), os.O_CREAT | os.O_WRONLY) as descriptor:
        os.write(descriptor, b"content")
    assert (backing / "target").read_bytes() == b"content"
    assert (backing / "link").is_symlink()


def opening_a_missing_file_fails(mount, backing):
    """ENOENT without O_CREAT, and nothing is made."""
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        with raises_errno(errno.ENOENT):
            os.open(str(mount / "missing"), flags)
    assert os.listdir(str(backing)) == []


def trunc_empties_the_file(mount, backing):
    """O_TRUNC shows as size 0 on both sides at once."""
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT):
        (mount / "file").write_bytes(b"content")
        with opened(str(mount / "file"), flags | os.O_TRUNC):
            assert (mount / "file").stat().st_size == 0
            assert (backing / "file").stat().st_size == 0


def trunc_keeps_mode_and_inode(mount, backing):
    """The file stays the same file."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o614)
    before = (backing / "file").stat()
    with opened(str(mount / "file"), os.O_WRONLY | os.O_TRUNC):
        pass
    after = (backing / "file").stat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, 0)


def trunc_is_seen_by_an_earlier_descriptor(mount, backing):
    """Who has the file open already finds it empty."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file")) as earlier:
        with opened(str(mount / "file"), os.O_WRONLY | os.O_TRUNC):
            pass
        assert os.fstat(earlier).st_size == 0
        assert os.read(earlier, 100) == b""


def append_writes_at_the_end(mount, backing):
    """O_APPEND goes to the end wherever the position is."""
    (mount / "file").write_bytes(b"first ")
    with opened(str(mount / "file"), os.O_WRONLY | os.O_APPEND) as descriptor:
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"second")
    assert (backing / "file").read_bytes() == b"first second"


def append_by_two_descriptors_loses_nothing(mount, backing):
    """Writers in turn go on where the other stopped."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with opened(str(mount / "file"), flags) as one, opened(str(mount / "file"), flags) as two:
        for number in range(100):
            os.write(one, b"one %03d\n" % number)
            os.write(two, b"two %03d\n" % number)
    expected = b"".join(b"one %03d\ntwo %03d\n" % (number, number) for number in range(100))
    assert (backing / "file").read_bytes() == expected
    assert (mount / "file").read_bytes() == expected


def append_goes_behind_what_the_backing_side_appended(mount, backing):
    """A writer on the backing side and one on the mount overwrite nothing of each other."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with opened(str(mount / "file"), flags) as one, opened(str(backing / "file"), flags) as two:
        for number in range(20):
            os.write(one, b"mount %02d\n" % number)
            os.write(two, b"backing %02d\n" % number)
    expected = b"".join(b"mount %02d\nbacking %02d\n" % (number, number) for number in range(20))
    assert (backing / "file").read_bytes() == expected


def append_reads_from_the_beginning(mount, backing):
    """O_RDWR with O_APPEND starts reading at 0."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR | os.O_APPEND) as descriptor:
        assert os.read(descriptor, 3) == b"con"
        os.write(descriptor, b"ed")
    assert (backing / "file").read_bytes() == b"contented"


def a_write_only_descriptor_cannot_read(mount, backing):
    """EBADF."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_WRONLY) as descriptor:
        os.write(descriptor, b"content")
        with raises_errno(errno.EBADF):
            os.read(descriptor, 1)
        with raises_errno(errno.EBADF):
            os.pread(descriptor, 1, 0)


def a_read_only_descriptor_cannot_write(mount, backing):
    """EBADF, and EINVAL for ftruncate (ftruncate(2))."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        with raises_errno(errno.EBADF):
            os.write(descriptor, b"x")
        with raises_errno(errno.EINVAL, errno.EBADF):
            os.ftruncate(descriptor, 0)
    assert (backing / "file").read_bytes() == b"content"


def nofollow_refuses_a_symlink(mount, backing):
    """O_NOFOLLOW is ELOOP for a link and nothing for a file."""
    (mount / "file").write_bytes(b"content")
    os.symlink("file", str(mount / "link"))
    with raises_errno(errno.ELOOP):
        os.open(str(mount / "link"), os.O_RDONLY | os.O_NOFOLLOW)
    with opened(str(mount / "file"), os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        assert os.read(descriptor, 100) == b"content"


def directory_refuses_a_file(mount, backing):
    """O_DIRECTORY is ENOTDIR for a file and nothing for a directory."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.ENOTDIR):
        os.open(str(mount / "file"), os.O_RDONLY | os.O_DIRECTORY)
    with opened(str(mount), os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        assert os.listdir(descriptor) == ["file"]


def path_descriptors_lead_to_the_file(mount, backing):
    """O_PATH gives fstat and no reading."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_PATH) as descriptor:
        assert os.fstat(descriptor).st_size == 7
        with raises_errno(errno.EBADF):
            os.read(descriptor, 1)
        with opened(f"/proc/self/fd/{descriptor}") as reopened:
            assert os.read(reopened, 100) == b"content"


def a_descriptor_reopened_through_proc_works(mount, backing):
    """/proc/self/fd opens the same file again, with other flags."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        with opened(f"/proc/self/fd/{descriptor}", os.O_WRONLY) as writer:
            os.write(writer, b"CON")
        assert os.read(descriptor, 100) == b"CONtent"
    assert (backing / "file").read_bytes() == b"CONtent"


def synchronous_writes_arrive(mount, backing):
    """O_SYNC and O_DSYNC are accepted and write."""
    for number, flag in enumerate((os.O_SYNC, os.O_DSYNC)):
        name = f"file{number}"
        with opened(str(mount / name), os.O_CREAT | os.O_WRONLY | flag) as descriptor:
            os.write(descriptor, b"content")
            assert (backing / name).read_bytes() == b"content"


def nonblocking_open_of_a_file_changes_nothing(mount, backing):
    """O_NONBLOCK has no effect on regular files."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR | os.O_NONBLOCK) as descriptor:
        assert os.read(descriptor, 100) == b"content"
        os.write(descriptor, b" more")
    assert (backing / "file").read_bytes() == b"content more"


def direct_io_reads_and_writes_aligned_blocks(mount, backing):
    """O_DIRECT works where the backing filesystem has it."""
    (backing / "file").write_bytes(b"")
    try:
        with opened(str(backing / "file"), os.O_RDWR | os.O_DIRECT):
            pass
    except OSError:
        pytest.skip("the backing filesystem has no O_DIRECT")
    with mmap.mmap(-1, 65536) as block:  # anonymous memory starts at a page
        block.write(bytes(range(256)) * 256)
        with opened(str(mount / "file"), os.O_RDWR | os.O_DIRECT) as descriptor:
            assert os.write(descriptor, block) == 65536
            assert (backing / "file").read_bytes() == bytes(range(256)) * 256
            os.lseek(descriptor, 4096, os.SEEK_SET)
            with mmap.mmap(-1, 8192) as target, os.fdopen(os.dup(descriptor), "rb", 0) as stream:
                assert stream.readinto(target) == 8192
                assert target[:] == bytes(range(256)) * 32


def a_trailing_slash_asks_for_a_directory(mount, backing):
    """ENOTDIR for a file with a slash behind it, EISDIR when it is to be created."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.ENOTDIR):
        os.open(str(mount / "file") + "/", os.O_RDONLY)
    with raises_errno(errno.EISDIR):
        os.open(str(mount / "missing") + "/", os.O_CREAT | os.O_WRONLY)


def many_files_are_open_at_a_time(mount, backing):
    """200 descriptors keep their files apart."""
    descriptors = []
    try:
        for number in range(200):
            flags = os.O_CREAT | os.O_RDWR
            descriptors.append(os.open(str(mount / f"file{number}"), flags))
        for number, descriptor in enumerate(descriptors):
            os.write(descriptor, b"%d" % number)
        for number, descriptor in enumerate(descriptors):
            os.lseek(descriptor, 0, os.SEEK_SET)
            assert read_all(descriptor) == b"%d" % number
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert (backing / "file123").read_bytes() == b"123"


@stock_cannot(_BELIEVES)
def creat_makes_what_was_just_removed_on_the_backing_side(mount, backing):
    """A name that the mount still remembers is looked up again."""
    (mount / "file").write_bytes(b"old")
    assert (mount / "file").exists()
    (backing / "file").unlink()
    (mount / "file").write_bytes(b"new")
    assert (backing / "file").read_bytes() == b"new"


@stock_cannot(_BELIEVES)
def opening_what_was_just_removed_ends_the_belief_in_it(mount, backing):
    """The name is gone for every call after an open has missed it."""
    (mount / "file").write_bytes(b"old")
    assert (mount / "file").exists()
    (backing / "file").unlink()
    with raises_errno(errno.ENOENT):
        os.open(str(mount / "file"), os.O_RDONLY)
    assert not (mount / "file").exists()


def trailing_slashes_are_for_directories(mount, backing):
    """mkdir, rename, rmdir and lstat take them for directories, and nothing does for files."""
    os.mkdir(f"{mount}/directory/")
    os.rename(f"{mount}/directory/", f"{mount}/renamed/")
    (mount / "file").write_bytes(b"")
    (mount / "link").symlink_to("renamed")
    assert os.path.isdir(f"{mount}/link/")
    for function in (os.lstat, os.unlink, lambda path: os.rename(path, f"{mount}/other")):
        with raises_errno(errno.ENOTDIR):
            function(f"{mount}/file/")
    with raises_errno(errno.EISDIR):
        os.open(f"{mount}/new/", os.O_CREAT | os.O_WRONLY)
    os.rmdir(f"{mount}/renamed/")
    assert sorted(os.listdir(str(backing))) == ["file", "link"]

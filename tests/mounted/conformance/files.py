"""read, write, lseek, truncate, fsync."""

import errno
import os
import select
import subprocess

from . import libc
from .descriptors import opened, read_all, write_all
from .expectations import raises_errno

_RDWR = os.O_CREAT | os.O_RDWR


def what_is_written_is_read_back(mount, backing):
    """Bytes come back as they were given, on both sides."""
    data = bytes(range(256)) * 10
    (mount / "file").write_bytes(data)
    assert (mount / "file").read_bytes() == data
    assert (backing / "file").read_bytes() == data


def what_the_backing_side_wrote_is_read(mount, backing):
    """A file that was there before is read as it is."""
    data = os.urandom(100000)
    (backing / "file").write_bytes(data)
    assert (mount / "file").read_bytes() == data


def a_write_is_on_the_backing_side_before_the_file_is_closed(mount, backing):
    """Nothing waits in the filesystem."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        for number in range(1, 6):
            os.write(descriptor, b"line\n")
            assert (backing / "file").read_bytes() == b"line\n" * number
            assert os.fstat(descriptor).st_size == 5 * number
            assert (mount / "file").stat().st_size == 5 * number


def a_write_is_read_by_another_descriptor_at_once(mount, backing):
    """Two opens of a file see each other's writes."""
    with opened(str(mount / "file"), _RDWR) as one, opened(str(mount / "file"), _RDWR) as two:
        for number in range(20):
            os.pwrite(one, b"%04d" % number, 0)
            assert os.pread(two, 4, 0) == b"%04d" % number
            os.pwrite(two, b"%04d" % -number, 100000)
            assert os.pread(one, 4, 100000) == b"%04d" % -number


def reading_at_the_end_gives_nothing(mount, backing):
    """Zero bytes at the end and far behind it, no error."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file")) as descriptor:
        assert os.pread(descriptor, 100, 7) == b""
        assert os.pread(descriptor, 100, 1 << 40) == b""
        assert os.read(descriptor, 100) == b"content"
        assert os.read(descriptor, 100) == b""


def reading_across_the_end_gives_what_is_there(mount, backing):
    """A short read at the end of the file."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file")) as descriptor:
        assert os.pread(descriptor, 100, 4) == b"ent"
        assert os.pread(descriptor, 2, 4) == b"en"


def reading_an_empty_file_gives_nothing(mount, backing):
    """No bytes, no error."""
    (mount / "file").write_bytes(b"")
    assert (mount / "file").read_bytes() == b""


def writing_no_bytes_changes_nothing(mount, backing):
    """A write of length 0 returns 0."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_WRONLY) as descriptor:
        assert os.write(descriptor, b"") == 0
    assert (backing / "file").read_bytes() == b"content"


def pwrite_writes_in_place_and_leaves_the_position(mount, backing):
    """pread and pwrite have nothing to do with the file position."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"0123456789")
        os.pwrite(descriptor, b"ab", 3)
        assert os.pread(descriptor, 4, 2) == b"2ab5"
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 10
    assert (backing / "file").read_bytes() == b"012ab56789"


def writing_behind_the_end_leaves_zeros_between(mount, backing):
    """A gap reads as zeros on both sides."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"begin")
        os.pwrite(descriptor, b"end", 10000)
    expected = b"begin" + b"\0" * 9995 + b"end"
    assert (mount / "file").read_bytes() == expected
    assert (backing / "file").read_bytes() == expected


def offsets_beyond_four_gibibytes_work(mount, backing):
    """Sizes and offsets have 64 bits; the file is sparse."""
    offset = (5 << 30) + 12345
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.pwrite(descriptor, b"far", offset)
        os.pwrite(descriptor, b"near", 0)
        assert os.pread(descriptor, 10, offset) == b"far"
        assert os.pread(descriptor, 10, offset - 5) == b"\0" * 5 + b"far"
        assert os.lseek(descriptor, 0, os.SEEK_END) == offset + 3
    assert (mount / "file").stat().st_size == (backing / "file").stat().st_size == offset + 3
    with opened(str(backing / "file")) as descriptor:
        assert os.pread(descriptor, 10, offset) == b"far"
        assert os.pread(descriptor, 5, 0) == b"near\0"


def lseek_moves_from_start_position_and_end(mount, backing):
    """SEEK_SET, SEEK_CUR and SEEK_END."""
    (mount / "file").write_bytes(b"0123456789")
    with opened(str(mount / "file")) as descriptor:
        assert os.lseek(descriptor, 4, os.SEEK_SET) == 4
        assert os.read(descriptor, 1) == b"4"
        assert os.lseek(descriptor, 2, os.SEEK_CUR) == 7
        assert os.read(descriptor, 1) == b"7"
        assert os.lseek(descriptor, -1, os.SEEK_END) == 9
        assert os.read(descriptor, 1) == b"9"
        assert os.lseek(descriptor, 100, os.SEEK_END) == 110


def lseek_before_the_start_fails(mount, backing):
    """EINVAL, and the position stays."""
    (mount / "file").write_bytes(b"0123456789")
    with opened(str(mount / "file")) as descriptor:
        os.lseek(descriptor, 5, os.SEEK_SET)
        with raises_errno(errno.EINVAL):
            os.lseek(descriptor, -6, os.SEEK_CUR)
        assert os.read(descriptor, 1) == b"5"


def duplicated_descriptors_share_a_position(mount, backing):
    """dup gives a second number for the same open file."""
    (mount / "file").write_bytes(b"0123456789")
    with opened(str(mount / "file")) as descriptor:
        duplicate = os.dup(descriptor)
        try:
            assert os.read(descriptor, 3) == b"012"
            assert os.read(duplicate, 3) == b"345"
        finally:
            os.close(duplicate)
        assert os.read(descriptor, 3) == b"678"


def large_writes_of_odd_sizes_arrive_whole(mount, backing):
    """5 MiB and a bit, in pieces that fit no page and no request."""
    data = os.urandom(5 * (1 << 20) + 12345)
    for number, size in enumerate((len(data), 1048575, 131073, 65537)):
        name = f"file{number}"
        with opened(str(mount / name), _RDWR) as descriptor:
            for offset in range(0, len(data), size):
                write_all(descriptor, data[offset : offset + size])
        assert (backing / name).read_bytes() == data


def large_reads_of_odd_sizes_are_whole(mount, backing):
    """5 MiB and a bit, in pieces that fit no page and no request."""
    data = os.urandom(5 * (1 << 20) + 12345)
    (backing / "file").write_bytes(data)
    for size in (len(data), 1048577, 131071, 65537):
        with opened(str(mount / "file")) as descriptor:
            assert read_all(descriptor, size) == data


def scattered_writes_end_up_where_they_belong(mount, backing):
    """Overlapping writes backwards through the file give what they give in memory."""
    expected = bytearray(300000)
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.ftruncate(descriptor, len(expected))
        for number in range(150):
            offset = (299000 - number * 1999) % 290000
            data = bytes([number + 1]) * (1 + number * 61)
            os.pwrite(descriptor, data, offset)
            expected[offset : offset + len(data)] = data
            assert os.pread(descriptor, len(data), offset) == data
    assert (backing / "file").read_bytes() == bytes(expected)
    assert (mount / "file").read_bytes() == bytes(expected)


def truncate_shortens_a_file(mount, backing):
    """The rest is cut off on both sides at once."""
    (mount / "file").write_bytes(b"0123456789")
    os.truncate(str(mount / "file"), 4)
    assert (mount / "file").stat().st_size == 4
    assert (mount / "file").read_bytes() == b"0123"
    assert (backing / "file").read_bytes() == b"0123"


def truncate_extends_a_file_with_zeros(mount, backing):
    """The new part reads as zeros, also where there were bytes once."""
    (mount / "file").write_bytes(b"0123456789")
    os.truncate(str(mount / "file"), 4)
    os.truncate(str(mount / "file"), 8)
    assert (mount / "file").read_bytes() == b"0123\0\0\0\0"
    assert (backing / "file").read_bytes() == b"0123\0\0\0\0"


def truncate_to_more_than_four_gibibytes_works(mount, backing):
    """Sizes have 64 bits."""
    (mount / "file").write_bytes(b"")
    os.truncate(str(mount / "file"), (6 << 30) + 1)
    assert (mount / "file").stat().st_size == (6 << 30) + 1
    assert (backing / "file").stat().st_size == (6 << 30) + 1


def truncate_of_a_directory_fails(mount, backing):
    """EISDIR."""
    (mount / "directory").mkdir()
    with raises_errno(errno.EISDIR):
        os.truncate(str(mount / "directory"), 0)


def truncate_to_a_negative_size_fails(mount, backing):
    """EINVAL, and the file stays as it is."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.EINVAL):
        os.truncate(str(mount / "file"), -1)
    assert (backing / "file").read_bytes() == b"content"


def ftruncate_changes_the_size_of_an_open_file(mount, backing):
    """Shorter and longer, seen by the descriptor, by path and on the backing side."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"0123456789")
        for size in (4, 100000, 0, 7):
            os.ftruncate(descriptor, size)
            assert os.fstat(descriptor).st_size == size
            assert (mount / "file").stat().st_size == size
            assert (backing / "file").stat().st_size == size


def ftruncate_leaves_the_position(mount, backing):
    """A write after it goes where the position was, with zeros before."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"01234")
        os.ftruncate(descriptor, 2)
        os.write(descriptor, b"56")
    assert (backing / "file").read_bytes() == b"01\0\0\x0056"


def truncate_is_seen_by_another_descriptor(mount, backing):
    """Who has the file open reads to the new end and no further."""
    (mount / "file").write_bytes(b"0123456789")
    with opened(str(mount / "file")) as descriptor:
        assert os.pread(descriptor, 100, 0) == b"0123456789"
        os.truncate(str(mount / "file"), 3)
        assert os.pread(descriptor, 100, 0) == b"012"


def fsync_and_fdatasync_work(mount, backing):
    """Both return, and the bytes are on the backing side."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"content")
        os.fsync(descriptor)
        os.write(descriptor, b" more")
        os.fdatasync(descriptor)
        assert (backing / "file").read_bytes() == b"content more"


def fsync_works_on_a_descriptor_opened_for_reading(mount, backing):
    """Whoever may open may sync (fsync(2))."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def fstat_of_an_open_file_is_stat_of_its_path(mount, backing):
    """Both give the same attributes, those of the backing file."""
    with opened(str(mount / "file"), _RDWR, 0o640) as descriptor:
        os.write(descriptor, b"content")
        by_descriptor, by_path = os.fstat(descriptor), (mount / "file").stat()
        on_backing = (backing / "file").stat()
    for field in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size"):
        expected = getattr(on_backing, field)
        assert getattr(by_descriptor, field) == getattr(by_path, field) == expected
    assert by_descriptor.st_ino == by_path.st_ino


def writev_and_readv_scatter_and_gather(mount, backing):
    """Several buffers in one call."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        assert os.writev(descriptor, [b"one", b"", b"three", b"x" * 70000]) == 70008
        os.lseek(descriptor, 0, os.SEEK_SET)
        buffers = [bytearray(2), bytearray(6), bytearray(80000)]
        assert os.readv(descriptor, buffers) == 70008
    assert bytes(buffers[0] + buffers[1]) == b"onethree"
    assert (backing / "file").read_bytes() == b"onethree" + b"x" * 70000


def sendfile_copies_into_a_pipe(mount, backing):
    """The kernel takes the bytes out of the mount by itself (splice)."""
    data = os.urandom(20000)
    (backing / "file").write_bytes(data)
    reader, writer = os.pipe()
    try:
        with opened(str(mount / "file")) as descriptor:
            assert os.sendfile(writer, descriptor, 100, 15000) == 15000
        copied = b""
        while len(copied) < 15000:
            copied += os.read(reader, 20000)
        assert copied == data[100:15100]
    finally:
        os.close(reader)
        os.close(writer)


def a_file_is_always_ready_for_poll(mount, backing):
    """poll(2) of a regular file reports reading and writing as possible."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLOUT)
        assert poll.poll(0) == [(descriptor, select.POLLIN | select.POLLOUT)]


def cp_and_cmp_agree(mount, backing):
    """The system's own tools copy within the mount, in and out."""
    data = os.urandom(300000)
    (backing / "file").write_bytes(data)
    subprocess.check_call(["cp", str(mount / "file"), str(mount / "copy")])
    subprocess.check_call(["cmp", str(mount / "copy"), str(backing / "file")])
    assert (backing / "copy").read_bytes() == data


def unlink_removes_the_name_on_both_sides(mount, backing):
    """The file is gone at once."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").unlink()
    assert os.listdir(str(mount)) == os.listdir(str(backing)) == []
    with raises_errno(errno.ENOENT):
        (mount / "file").stat()


def a_file_made_anew_has_nothing_of_the_old_one(mount, backing):
    """Size, content and mode of a removed file do not come back with its name."""
    (mount / "file").write_bytes(b"x" * 100000)
    (mount / "file").chmod(0o600)
    (mount / "file").unlink()
    with opened(str(mount / "file"), _RDWR | os.O_EXCL, 0o444) as descriptor:
        assert os.fstat(descriptor).st_size == 0
        os.write(descriptor, b"new")
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == b"new"
    assert (mount / "file").stat().st_mode == (backing / "file").stat().st_mode


def sendfile_copies_into_a_file(mount, backing):
    """And out of one, within the mount."""
    content = os.urandom(300000)
    (mount / "source").write_bytes(content)
    with opened(str(mount / "source")) as source:
        with opened(str(mount / "target"), os.O_CREAT | os.O_WRONLY) as target:
            copied = 0
            while copied < len(content):
                copied += os.sendfile(target, source, copied, len(content) - copied)
    assert (backing / "target").read_bytes() == content


def splice_moves_between_files_and_pipes(mount, backing):
    """splice(2) reads and writes at the offsets it is given."""
    (mount / "source").write_bytes(bytes(1000) + b"content")
    hears, says = os.pipe()
    try:
        with opened(str(mount / "source")) as source:
            assert libc.splice(source, 1000, says, None, 100) == 7
        with opened(str(mount / "target"), os.O_CREAT | os.O_WRONLY) as target:
            assert libc.splice(hears, None, target, 5, 7) == 7
    finally:
        os.close(hears)
        os.close(says)
    assert (backing / "target").read_bytes() == bytes(5) + b"content"

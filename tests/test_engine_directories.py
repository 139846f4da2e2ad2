"""fusepy_legacy.kernel.engine, byte by byte: requests about open directories."""

import errno
import os
import stat
import types
from typing import Any, Iterator

import pytest

from tests.kernel_side import DIRECTORY, FILE, IDENTIFIED, Kernel, OpenFile, attr, error_of
from tests.wire import dirent, entry_out, i32, read_in, release_in, reply, u32, u64


def entry(name: str, kind: int, ino: int = 0, offset: int = 0) -> Any:
    """Return what fuse.Direntry holds."""
    return types.SimpleNamespace(name=name, type=kind, ino=ino, offset=offset)


DOTS = [entry(".", stat.S_IFDIR), entry("..", stat.S_IFDIR)]
TYPES = {"directory": 4, "file": 8}  # dirent.h: DT_DIR, DT_REG


def test_opendir_lets_the_kernel_keep_the_listing() -> None:
    """When the object says so of itself; a change then has to be told."""
    opened = OpenFile()
    opened.keep_cache = True
    kernel = Kernel(opendir=opened, getattr=DIRECTORY)
    answer = kernel.sends(27, u32(os.O_RDONLY) + u32(0), node=kernel.looks_up("d"))
    # FOPEN_KEEP_CACHE, FOPEN_CACHE_DIR
    assert answer == reply(u64(1), u32(1 << 1 | 1 << 3), i32(0))


def test_opendir_returns_a_handle() -> None:
    """The handler gets the path alone."""
    opened = OpenFile()
    kernel = Kernel(opendir=opened, getattr=DIRECTORY)
    answer = kernel.sends(
        27,  # FUSE_OPENDIR
        u32(os.O_RDONLY | os.O_DIRECTORY),  # flags
        u32(0),  # open_flags
        node=kernel.looks_up("d"),
    )
    assert answer == reply(
        u64(1),  # fh
        u32(0),  # open_flags
        i32(0),  # backing_id
    )
    assert kernel.calls() == [("opendir", "/d")]


def test_opendir_that_fails_late_is_closed() -> None:
    """The kernel will not ask for it."""

    class Failing:
        @property
        def keep_cache(self) -> bool:
            raise ZeroDivisionError("a defect in the filesystem")

    kernel = Kernel(opendir=Failing(), releasedir=None)
    assert error_of(kernel.sends(27, u32(0) + u32(0))) == errno.EIO
    assert kernel.calls()[-1][:2] == ("releasedir", "/")
    assert len(kernel.engine.handles) == 0


def test_readdir_lists_entries() -> None:
    """struct fuse_dirent for each, its name filled up to 8 bytes."""
    opened = OpenFile()
    listing = [*DOTS, entry("a name", stat.S_IFREG), entry("12345678", stat.S_IFDIR)]
    kernel = Kernel({"readdir_ino": True}, opendir=opened, readdir=listing)
    listing[2].ino = 55
    fh = kernel.opens_directory()
    answer = kernel.sends(28, read_in(fh, 0, 4096))  # FUSE_READDIR
    assert answer == reply(
        u64(0xFFFFFFFF) + u64(1) + u32(1) + u32(4) + b".\0\0\0\0\0\0\0",
        u64(0xFFFFFFFF) + u64(2) + u32(2) + u32(4) + b"..\0\0\0\0\0\0",
        u64(55) + u64(3) + u32(6) + u32(8) + b"a name\0\0",
        u64(0xFFFFFFFF) + u64(4) + u32(8) + u32(4) + b"12345678",
    )
    assert kernel.calls() == [("readdir", "/", 0, opened)]
    assert kernel.sends(28, read_in(fh, 4, 4096)) == reply()


def test_readdir_goes_on_where_it_stopped() -> None:
    """A handler without offsets is asked once, and again after rewinddir(3)."""
    listing = [entry(f"file{number}", stat.S_IFREG) for number in range(5)]
    kernel = Kernel(opendir=None, readdir=listing)
    fh = kernel.opens_directory()
    records = [
        dirent(0xFFFFFFFF, number + 1, b"file%d" % number, TYPES["file"]) for number in range(5)
    ]
    assert kernel.sends(28, read_in(fh, 0, 70)) == reply(*records[:2])
    assert kernel.sends(28, read_in(fh, 2, 70)) == reply(*records[2:4])
    assert kernel.sends(28, read_in(fh, 4, 70)) == reply(records[4])
    assert kernel.sends(28, read_in(fh, 5, 70)) == reply()
    assert kernel.sends(28, read_in(fh, 3, 4096)) == reply(*records[3:])  # seekdir(3)
    assert kernel.calls() == [("readdir", "/", 0)]
    assert kernel.sends(28, read_in(fh, 0, 70)) == reply(*records[:2])
    assert kernel.calls() == [("readdir", "/", 0)]


def test_readdir_with_the_handlers_own_offsets() -> None:
    """It is asked with each request, from where the reader is: libfuse's way."""
    offsets = [1 << 50, 7, 99]
    names = ["one", "two", "three"]

    def readdir(path: str, offset: int) -> Iterator[Any]:
        start = offsets.index(offset) + 1 if offset else 0
        for name, following in zip(names[start:], offsets[start:]):
            yield entry(name, stat.S_IFREG, offset=following)

    kernel = Kernel(opendir=None, readdir=readdir)
    fh = kernel.opens_directory()
    one, two, three = (
        dirent(0xFFFFFFFF, offset, os.fsencode(name), TYPES["file"])
        for name, offset in zip(names, offsets)
    )
    assert kernel.sends(28, read_in(fh, 0, 40)) == reply(one)
    assert kernel.sends(28, read_in(fh, 1 << 50, 40)) == reply(two)
    assert kernel.sends(28, read_in(fh, 7, 40)) == reply(three)
    assert kernel.sends(28, read_in(fh, 99, 40)) == reply()
    assert kernel.calls() == [("readdir", "/", offset) for offset in (0, 1 << 50, 7, 99)]
    assert kernel.sends(28, read_in(fh, 1 << 50, 4096)) == reply(two, three)
    assert kernel.calls() == [("readdir", "/", 1 << 50)]


@pytest.mark.parametrize("offsets", [True, False])
def test_a_listing_holds_nothing_while_others_are_asked(offsets: bool) -> None:
    """A generator has ended, or was closed, before getattr is called for its entries."""
    events = []

    def readdir(path: str, offset: int) -> Iterator[Any]:
        events.append("begin")
        try:
            for number in range(offset, 3):
                yield entry(f"file{number}", stat.S_IFREG, offset=number + 1 if offsets else 0)
        finally:
            events.append("end")

    def getattr_(path: str) -> Any:
        events.append(path)
        return FILE if path != "/" else DIRECTORY

    kernel = Kernel(opendir=None, readdir=readdir, getattr=getattr_)
    fh = kernel.opens_directory()
    events.clear()
    assert error_of(kernel.sends(44, read_in(fh, 0, 350))) == 0
    assert events == ["begin", "end", "/file0", "/file1"]


@pytest.mark.parametrize("nothing", [None, 0])
def test_a_handler_that_returns_nothing_lists_nothing(nothing: Any) -> None:
    """fuse-python takes it for an empty directory."""
    kernel = Kernel(opendir=None, readdir=nothing)
    assert kernel.sends(28, read_in(kernel.opens_directory(), 0, 4096)) == reply()


def test_names_may_be_bytes() -> None:
    """Programs that were written for Python 2 have such."""
    name: Any = b"\xc3\xa9"
    kernel = Kernel(opendir=None, readdir=[entry(name, stat.S_IFREG)], getattr=FILE)
    fh = kernel.opens_directory()
    assert kernel.sends(28, read_in(fh, 0, 4096)) == reply(
        dirent(0xFFFFFFFF, 1, b"\xc3\xa9", TYPES["file"])
    )
    kernel.sends(44, read_in(fh, 0, 4096))
    assert kernel.calls()[-1] == ("getattr", "/é")


def test_a_listing_without_offsets_can_be_begun_anywhere() -> None:
    """The kernel keeps positions over a close: NFS, and seekdir(3) in a directory opened anew."""
    listing = [entry(f"file{number}", stat.S_IFREG) for number in range(3)]
    kernel = Kernel(opendir=None, readdir=listing)
    fh = kernel.opens_directory()
    expected = dirent(0xFFFFFFFF, 3, b"file2", TYPES["file"])
    assert kernel.sends(28, read_in(fh, 2, 4096)) == reply(expected)


def test_readdir_that_fails_late() -> None:
    """What came before the error is delivered; the error is for the next request."""

    def readdir(path: str, offset: int) -> Iterator[Any]:
        yield entry("one", stat.S_IFREG, offset=1)
        raise OSError(errno.EBADMSG, "bad metadata")

    kernel = Kernel(opendir=None, readdir=readdir)
    fh = kernel.opens_directory()
    for _ in range(2):  # rewinddir(3) forgets it
        assert kernel.sends(28, read_in(fh, 0, 4096)) == reply(dirent(0xFFFFFFFF, 1, b"one", 8))
    assert kernel.sends(28, read_in(fh, 1, 4096)) == reply(error=-errno.EBADMSG)


def test_readdirplus_lists_entries_with_attributes() -> None:
    """struct fuse_direntplus; . and .. have no node, and count no lookup."""
    kernel = Kernel(
        *IDENTIFIED,
        opendir=None,
        readdir=[*DOTS, entry("file", stat.S_IFREG, ino=501)],
        getattr=FILE,
    )
    fh = kernel.opens_directory()
    answer = kernel.sends(44, read_in(fh, 0, 4096))  # FUSE_READDIRPLUS
    assert answer == reply(
        bytes(128),  # entry_out
        dirent(0xFFFFFFFF, 1, b".", TYPES["directory"]),
        bytes(128),  # entry_out
        dirent(0xFFFFFFFF, 2, b"..", TYPES["directory"]),
        entry_out(2, kernel.generation, attr(FILE, ino=501)),
        dirent(501, 3, b"file", TYPES["file"]),
    )
    assert kernel.calls() == [("readdir", "/", 0), ("getattr", "/file")]
    assert kernel.engine.nodes.by_id[2].lookups == 1


def test_readdirplus_asks_the_open_directory() -> None:
    """fstatat, where there is one; an entry that is gone by now has no node, and is listed."""
    opened = OpenFile()
    kernel = Kernel(
        opendir=opened,
        readdir=[entry("file", stat.S_IFREG)],
        fstatat=OSError(errno.ENOENT, ""),
    )
    fh = kernel.opens_directory()
    answer = kernel.sends(44, read_in(fh, 0, 4096))
    assert answer == reply(bytes(128), dirent(0xFFFFFFFF, 1, b"file", TYPES["file"]))
    assert kernel.calls() == [("readdir", "/", 0, opened), ("fstatat", "/", "file", opened)]


def test_readdirplus_that_fails_counts_no_lookups() -> None:
    """Whatever the exception: the kernel never learns of entries in a reply that was not sent."""

    def readdir(path: str, offset: int) -> Iterator[Any]:
        yield entry("one", stat.S_IFREG, offset=1)
        raise RuntimeError("a defect in the filesystem")

    kernel = Kernel(opendir=None, readdir=readdir, getattr=FILE)
    fh = kernel.opens_directory()
    assert error_of(kernel.sends(44, read_in(fh, 0, 4096))) == errno.EIO
    assert len(kernel.engine.nodes) == 1


def test_releasedir_closes_the_directory() -> None:
    """The handle is gone."""
    opened = OpenFile()
    kernel = Kernel(opendir=opened, releasedir=None)
    fh = kernel.opens_directory()
    assert kernel.sends(29, release_in(fh)) == reply()
    assert kernel.calls() == [("releasedir", "/", opened)]
    assert len(kernel.engine.handles) == 0


@pytest.mark.parametrize(("fsync_flags", "datasync"), [(0, False), (1, True)])
def test_fsyncdir_brings_a_directory_to_the_disk(fsync_flags: int, datasync: bool) -> None:
    """As fsync of a file."""
    opened = OpenFile()
    kernel = Kernel(opendir=opened, fsyncdir=None)
    fh = kernel.opens_directory()
    assert kernel.sends(30, u64(fh) + u32(fsync_flags) + u32(0)) == reply()
    assert kernel.calls() == [("fsyncdir", "/", datasync, opened)]

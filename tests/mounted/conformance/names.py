"""Which names work: bytes, lengths, depth."""

import errno
import os

from .descriptors import opened
from .expectations import raises_errno


def _join(directory, *names):
    return b"/".join((os.fsencode(str(directory)), *names))


def _keeps_the_name(mount, backing, name):
    """A file under the name is listed, found, renamed and removed, on both sides."""
    with opened(_join(mount, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
        os.write(descriptor, name)
    for side in (mount, backing):
        assert os.listdir(_join(side)) == [name]
        with open(_join(side, name), "rb") as stream:
            assert stream.read() == name
    os.rename(_join(mount, name), _join(mount, b"plain"))
    assert os.listdir(_join(backing)) == [b"plain"]
    os.rename(_join(mount, b"plain"), _join(mount, name))
    assert os.listdir(_join(backing)) == [name]
    os.unlink(_join(mount, name))
    assert os.listdir(_join(mount)) == os.listdir(_join(backing)) == []


def names_of_255_bytes_work(mount, backing):
    """NAME_MAX is the longest name."""
    _keeps_the_name(mount, backing, b"n" * 255)


def names_of_256_bytes_are_refused(mount, backing):
    """One byte more is ENAMETOOLONG, for whatever is to be made or found."""
    name = str(mount / ("n" * 256))
    for call in (os.stat, os.mkdir, os.unlink, os.listdir, os.mkfifo):
        with raises_errno(errno.ENAMETOOLONG):
            call(name)
    with raises_errno(errno.ENAMETOOLONG):
        os.open(name, os.O_CREAT | os.O_WRONLY)
    (mount / "file").write_bytes(b"")
    for call in (os.rename, os.link, os.symlink):
        with raises_errno(errno.ENAMETOOLONG):
            call(str(mount / "file"), name)
    assert os.listdir(str(backing)) == ["file"]


def names_of_255_bytes_in_unicode_count_bytes(mount, backing):
    """85 characters of three bytes fit, 86 do not."""
    _keeps_the_name(mount, backing, ("中" * 85).encode())
    with raises_errno(errno.ENAMETOOLONG):
        os.mkdir(_join(mount, ("中" * 86).encode()))


def names_of_one_byte_work(mount, backing):
    """The shortest name is one byte."""
    _keeps_the_name(mount, backing, b"n")


def names_that_are_not_utf8_keep_their_bytes(mount, backing):
    """A name is bytes; Latin-1, broken sequences and lone surrogates come back as given."""
    for name in (b"caf\xe9", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", bytes(range(128, 256))):
        _keeps_the_name(mount, backing, name)


def names_with_spaces_and_newlines_work(mount, backing):
    """White space at either end and within is kept."""
    for name in (b" ", b" before", b"after ", b"in between", b"line\nfeed", b"tab\t", b"\r\n"):
        _keeps_the_name(mount, backing, name)


def names_with_punctuation_work(mount, backing):
    """What a shell or a mount option would trip over is a name like any other."""
    for name in (
        b"-rf",
        b"*",
        b"a,b",
        b"a=b",
        b"a:b",
        b"a\\b",
        b"'\"",
        b"%s",
        b"~",
        b"$HOME",
        b"#",
    ):
        _keeps_the_name(mount, backing, name)


def names_with_control_bytes_work(mount, backing):
    """Every byte but NUL and the slash may be in a name."""
    _keeps_the_name(mount, backing, bytes(set(range(1, 128)) - {ord("/")}))


def names_that_start_with_dots_work(mount, backing):
    """Only . and .. themselves are special."""
    for name in (b".hidden", b"...", b"..name", b". ", b".. "):
        _keeps_the_name(mount, backing, name)


def names_in_unicode_work(mount, backing):
    """Accents, other scripts, emoji and right-to-left marks are kept."""
    for name in ("Grüße", "имя", "名前", "🗂️", "\u202eeman", "\u00a0"):
        _keeps_the_name(mount, backing, name.encode())


def names_are_not_normalized(mount, backing):
    """Composed and decomposed spellings are two names."""
    composed, decomposed = "é".encode(), "e\u0301".encode()
    for name in (composed, decomposed):
        os.mkdir(_join(mount, name))
    for side in (mount, backing):
        assert sorted(os.listdir(_join(side))) == sorted([composed, decomposed])


def names_differ_by_case(mount, backing):
    """Upper and lower case are two names."""
    (mount / "name").write_bytes(b"lower")
    (mount / "NAME").write_bytes(b"upper")
    assert (backing / "name").read_bytes() == b"lower"
    assert (backing / "NAME").read_bytes() == b"upper"


def directories_may_have_any_name(mount, backing):
    """A path through directories with odd names is found."""
    parts = (b"\xff\xfe", b"line\nfeed", b" ", b"d" * 255, "名前".encode())
    for depth in range(len(parts)):
        os.mkdir(_join(mount, *parts[: depth + 1]))
    with opened(_join(mount, *parts, b"file"), os.O_CREAT | os.O_WRONLY) as descriptor:
        os.write(descriptor, b"content")
    with open(_join(backing, *parts, b"file"), "rb") as stream:
        assert stream.read() == b"content"


def names_that_are_not_utf8_work_in_every_call(mount, backing):
    """Directories, links, symlinks, nodes and extended attributes take byte names too."""
    os.mkdir(_join(mount, b"directory\xff"))
    os.mkfifo(_join(mount, b"directory\xff", b"fifo\xff"))
    os.symlink(b"target\xff", _join(mount, b"link\xff"))
    assert os.readlink(_join(mount, b"link\xff")) == b"target\xff"
    assert os.readlink(_join(backing, b"link\xff")) == b"target\xff"
    with opened(_join(mount, b"file\xff"), os.O_CREAT | os.O_WRONLY):
        pass
    os.link(_join(mount, b"file\xff"), _join(mount, b"hard\xff"))
    os.chmod(_join(mount, b"hard\xff"), 0o600)
    os.utime(_join(mount, b"hard\xff"), (5, 5))
    os.truncate(_join(mount, b"hard\xff"), 5)
    assert os.stat(_join(backing, b"file\xff")).st_size == 5
    os.unlink(_join(mount, b"directory\xff", b"fifo\xff"))
    os.rmdir(_join(mount, b"directory\xff"))
    expected = [b"file\xff", b"hard\xff", b"link\xff"]
    assert sorted(os.listdir(_join(backing))) == expected


def a_hundred_levels_of_directories_work(mount, backing):
    """A deep tree is made, written to and read."""
    deep = "/".join(f"level{number}" for number in range(100))
    os.makedirs(str(mount / deep))
    (mount / deep / "file").write_bytes(b"deep")
    assert (backing / deep / "file").read_bytes() == b"deep"
    (backing / deep / "file").write_bytes(b"deeper")
    (backing / deep / "other").write_bytes(b"other")
    assert (mount / deep / "other").read_bytes() == b"other"


def paths_longer_than_path_max_work_step_by_step(mount, backing):
    """No single path may exceed 4096 bytes, but the tree may (path_resolution(7))."""
    name = b"d" * 250

    def descend(top, make):
        current = os.open(str(top), os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(20):
            if make:
                os.mkdir(name, dir_fd=current)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        return current

    deep = descend(mount, make=True)
    try:
        with opened(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=deep) as descriptor:
            os.write(descriptor, b"far down")
        os.rename(b"file", b"renamed", src_dir_fd=deep, dst_dir_fd=deep)
        assert os.listdir(deep) == ["renamed"]
    finally:
        os.close(deep)
    deep = descend(backing, make=False)
    try:
        with opened(b"renamed", dir_fd=deep) as descriptor:
            assert os.read(descriptor, 100) == b"far down"
    finally:
        os.close(deep)

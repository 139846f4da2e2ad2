"""Extended attributes."""

import errno
import os

import pytest

from .expectations import raises_errno, require_root, require_user_attributes
from .libc import getxattr_size, listxattr_size
from .processes import run_as_nobody
from .registry import stock_cannot

_TEXT_ONLY = "fuse-python 1.0.9 passes extended attributes as UTF-8 text only"


def _file(mount, backing):
    """The file through the mount and on the backing side, if that takes user attributes."""
    require_user_attributes(backing)
    (mount / "file").write_bytes(b"content")
    return str(mount / "file"), str(backing / "file")


def _round_trip(mount, backing, value):
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.through", value)
    assert os.getxattr(on_backing, "user.through") == value
    assert os.getxattr(on_mount, "user.through") == value
    os.setxattr(on_backing, "user.directly", value)
    assert os.getxattr(on_mount, "user.directly") == value


def a_text_value_is_kept(mount, backing):
    """What is set on one side is found on both."""
    _round_trip(mount, backing, b"some text")


def a_unicode_value_is_kept(mount, backing):
    """UTF-8 comes back byte by byte."""
    _round_trip(mount, backing, "Grüße, 名前, 🗂️".encode())


def an_empty_value_is_kept(mount, backing):
    """An attribute without a value is not an attribute that is absent."""
    _round_trip(mount, backing, b"")


def a_long_value_is_kept(mount, backing):
    """2,000 bytes fit into any filesystem's attributes."""
    _round_trip(mount, backing, b"0123456789" * 200)


@stock_cannot(_TEXT_ONLY)
def a_binary_value_is_kept(mount, backing):
    """Values are bytes, not text."""
    _round_trip(mount, backing, b"\xff\xfe\x00\x80" + bytes(range(256)))


def a_value_is_replaced(mount, backing):
    """Setting again, longer and shorter, leaves nothing of the old value."""
    on_mount, on_backing = _file(mount, backing)
    for value in (b"first", b"a longer second", b"3"):
        os.setxattr(on_mount, "user.name", value)
        assert os.getxattr(on_mount, "user.name") == value
        assert os.getxattr(on_backing, "user.name") == value


def a_value_changed_on_the_backing_side_shows_at_once(mount, backing):
    """The kernel keeps no copy of extended attributes."""
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"old")
    assert os.getxattr(on_mount, "user.name") == b"old"
    os.setxattr(on_backing, "user.name", b"new")
    assert os.getxattr(on_mount, "user.name") == b"new"


def names_are_listed(mount, backing):
    """The list is that of the backing file."""
    on_mount, on_backing = _file(mount, backing)
    assert os.listxattr(on_mount) == os.listxattr(on_backing)
    os.setxattr(on_mount, "user.one", b"1")
    os.setxattr(on_backing, "user.two", b"2")
    assert sorted(os.listxattr(on_mount)) == sorted(os.listxattr(on_backing))
    assert {"user.one", "user.two"} <= set(os.listxattr(on_mount))


def removed_attributes_are_gone(mount, backing):
    """Removed through the mount, an attribute is gone on both sides."""
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"value")
    os.removexattr(on_mount, "user.name")
    for path in (on_mount, on_backing):
        assert "user.name" not in os.listxattr(path)
        with raises_errno(errno.ENODATA):
            os.getxattr(path, "user.name")


def an_absent_attribute_is_reported(mount, backing):
    """ENODATA for reading and for removing."""
    on_mount, _ = _file(mount, backing)
    for call in (os.getxattr, os.removexattr):
        with raises_errno(errno.ENODATA):
            call(on_mount, "user.absent")


def create_refuses_a_present_attribute(mount, backing):
    """XATTR_CREATE is EEXIST, and the value stays."""
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"old", os.XATTR_CREATE)
    with raises_errno(errno.EEXIST):
        os.setxattr(on_mount, "user.name", b"new", os.XATTR_CREATE)
    assert os.getxattr(on_backing, "user.name") == b"old"


def replace_refuses_an_absent_attribute(mount, backing):
    """XATTR_REPLACE is ENODATA, and nothing is set."""
    on_mount, on_backing = _file(mount, backing)
    with raises_errno(errno.ENODATA):
        os.setxattr(on_mount, "user.name", b"new", os.XATTR_REPLACE)
    assert "user.name" not in os.listxattr(on_backing)
    os.setxattr(on_mount, "user.name", b"old")
    os.setxattr(on_mount, "user.name", b"new", os.XATTR_REPLACE)
    assert os.getxattr(on_backing, "user.name") == b"new"


def getxattr_tells_the_size_and_refuses_a_small_buffer(mount, backing):
    """Size 0 asks for the length; a buffer too small is ERANGE (getxattr(2))."""
    on_mount, _ = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"0123456789")
    assert getxattr_size(on_mount, b"user.name", 0) == 10
    assert getxattr_size(on_mount, b"user.name", 10) == 10
    assert getxattr_size(on_mount, b"user.name", 5000) == 10
    with raises_errno(errno.ERANGE):
        getxattr_size(on_mount, b"user.name", 9)


def listxattr_tells_the_size_and_refuses_a_small_buffer(mount, backing):
    """Size 0 asks for the length; a buffer too small is ERANGE (listxattr(2))."""
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"value")
    size = listxattr_size(on_backing, 0)
    assert listxattr_size(on_mount, 0) == size
    assert listxattr_size(on_mount, size) == size
    with raises_errno(errno.ERANGE):
        listxattr_size(on_mount, size - 1)


def two_hundred_attributes_are_kept(mount, backing):
    """As many as one block holds are set, listed and read."""
    on_mount, on_backing = _file(mount, backing)
    # Nearly all without a value, so that they fit into one block of 4 KiB.
    expected = {f"user.{n:03}": b"%d" % n if n % 40 == 0 else b"" for n in range(200)}
    try:
        for name, value in expected.items():
            os.setxattr(on_backing, name, value)
    except OSError:
        pytest.skip("the backing filesystem has no room for 200 attributes")
    for name in expected:
        os.removexattr(on_backing, name)
    for name, value in expected.items():
        os.setxattr(on_mount, name, value)
    listed = [name for name in os.listxattr(on_mount) if name in expected]
    assert sorted(listed) == sorted(expected)
    assert {name: os.getxattr(on_mount, name) for name in expected} == expected
    assert {name: os.getxattr(on_backing, name) for name in expected} == expected


def names_of_255_bytes_work(mount, backing):
    """XATTR_NAME_MAX is the longest name; one byte more is ERANGE (xattr(7))."""
    on_mount, on_backing = _file(mount, backing)
    name = "user.".ljust(255, "n")
    os.setxattr(on_mount, name, b"value")
    assert os.getxattr(on_backing, name) == b"value"
    assert name in os.listxattr(on_mount)
    with raises_errno(errno.ERANGE):
        os.setxattr(on_mount, name + "n", b"value")


def directories_take_attributes(mount, backing):
    """Extended attributes are not for files only."""
    _file(mount, backing)
    (mount / "directory").mkdir()
    os.setxattr(str(mount / "directory"), "user.name", b"value")
    assert os.getxattr(str(backing / "directory"), "user.name") == b"value"
    assert "user.name" in os.listxattr(str(mount / "directory"))


def open_files_take_attributes(mount, backing):
    """fsetxattr, fgetxattr, flistxattr and fremovexattr."""
    on_mount, on_backing = _file(mount, backing)
    with open(on_mount, "rb") as stream:
        os.setxattr(stream.fileno(), "user.name", b"value")
        assert os.getxattr(stream.fileno(), "user.name") == b"value"
        assert "user.name" in os.listxattr(stream.fileno())
        assert os.getxattr(on_backing, "user.name") == b"value"
        os.removexattr(stream.fileno(), "user.name")
    assert "user.name" not in os.listxattr(on_backing)


def symlinks_take_trusted_attributes_of_their_own(mount, backing):
    """Without following, the link's attribute is not its target's."""
    require_root()
    on_mount, on_backing = _file(mount, backing)
    os.symlink("file", str(mount / "link"))
    try:
        os.setxattr(str(backing / "link"), "trusted.probe", b"", follow_symlinks=False)
    except OSError:
        pytest.skip("the backing filesystem has no trusted extended attributes on symlinks")
    os.setxattr(str(mount / "link"), "trusted.name", b"value", follow_symlinks=False)
    for side in (mount, backing):
        assert os.getxattr(str(side / "link"), "trusted.name", follow_symlinks=False) == b"value"
    assert "trusted.name" not in os.listxattr(on_backing)
    assert "trusted.name" not in os.listxattr(on_mount)


def trusted_attributes_are_for_root(mount, backing):
    """Root sets them; an ordinary user may neither set nor read them (xattr(7))."""
    require_root()
    on_mount, on_backing = _file(mount, backing)
    (mount / "file").chmod(0o666)
    os.setxattr(on_mount, "trusted.name", b"value")
    assert os.getxattr(on_backing, "trusted.name") == b"value"
    with raises_errno(errno.EPERM):
        run_as_nobody(mount, lambda: os.setxattr("file", "trusted.name", b"other"))
    with raises_errno(errno.ENODATA, errno.EPERM):
        run_as_nobody(mount, lambda: os.getxattr("file", "trusted.name"))


def attributes_follow_the_permissions_of_the_file(mount, backing):
    """user attributes need r to be read and w to be set (xattr(7))."""
    on_mount, on_backing = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"value")
    (mount / "file").chmod(0o644)
    assert run_as_nobody(mount, lambda: os.getxattr("file", "user.name")) == b"value"
    with raises_errno(errno.EACCES):
        run_as_nobody(mount, lambda: os.setxattr("file", "user.name", b"other"))
    (mount / "file").chmod(0o600)
    with raises_errno(errno.EACCES):
        run_as_nobody(mount, lambda: os.getxattr("file", "user.name"))
    assert os.getxattr(on_backing, "user.name") == b"value"


def attributes_survive_a_rename(mount, backing):
    """They belong to the file, not to its name."""
    on_mount, _ = _file(mount, backing)
    os.setxattr(on_mount, "user.name", b"value")
    (mount / "file").rename(mount / "renamed")
    for side in (mount, backing):
        assert os.getxattr(str(side / "renamed"), "user.name") == b"value"


def attributes_of_a_missing_file_are_reported_as_such(mount, backing):
    """ENOENT, not ENODATA."""
    for call in (os.listxattr, lambda path: os.getxattr(path, "user.name")):
        with raises_errno(errno.ENOENT):
            call(str(mount / "missing"))

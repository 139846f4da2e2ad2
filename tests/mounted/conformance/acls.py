"""POSIX access control lists (acl(5))."""

import errno
import os
import stat
import struct

import pytest

from .descriptors import opened
from .expectations import raises_errno, require_root, umask
from .processes import NOBODY, run_as_nobody
from .registry import stock_cannot

_ACCESS = "system.posix_acl_access"
_DEFAULT = "system.posix_acl_default"

# linux/posix_acl.h: tags and the id of entries that name nobody
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_UNDEFINED = 0xFFFFFFFF

_TEXT_ONLY = "an ACL is a binary extended attribute; fuse-python 1.0.9 takes UTF-8 text only"


def _acl(owner, nobody, group, mask, other):
    """The list of linux/posix_acl_xattr.h that gives the user nobody rights of its own."""
    entries = (
        (_USER_OBJ, owner, _UNDEFINED),
        (_USER, nobody, NOBODY),
        (_GROUP_OBJ, group, _UNDEFINED),
        (_MASK, mask, _UNDEFINED),
        (_OTHER, other, _UNDEFINED),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _require_acls(backing):
    require_root()
    probe = backing / "probe"
    probe.write_bytes(b"")
    try:
        os.setxattr(str(probe), _ACCESS, _acl(6, 4, 0, 4, 0))
    except OSError:
        pytest.skip("the backing filesystem has no ACLs")
    finally:
        probe.unlink()


@stock_cannot(_TEXT_ONLY)
def an_access_acl_is_kept(mount, backing):
    """Set through the mount, it is the same on both sides."""
    _require_acls(backing)
    (mount / "file").write_bytes(b"content")
    acl = _acl(6, 4, 0, 4, 0)
    os.setxattr(str(mount / "file"), _ACCESS, acl)
    for side in (mount, backing):
        assert os.getxattr(str(side / "file"), _ACCESS) == acl
        assert _ACCESS in os.listxattr(str(side / "file"))


@stock_cannot(_TEXT_ONLY)
def an_acl_of_the_backing_side_is_shown(mount, backing):
    """Set on the backing side, it is read through the mount."""
    _require_acls(backing)
    (backing / "file").write_bytes(b"content")
    acl = _acl(6, 6, 4, 6, 0)
    os.setxattr(str(backing / "file"), _ACCESS, acl)
    assert os.getxattr(str(mount / "file"), _ACCESS) == acl


@stock_cannot(_TEXT_ONLY)
def an_access_acl_grants(mount, backing):
    """A user named in the list gets in where the mode alone would refuse."""
    _require_acls(backing)
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o600)

    def read():
        with opened("file") as descriptor:
            return os.read(descriptor, 100)

    with raises_errno(errno.EACCES):
        run_as_nobody(mount, read)
    os.setxattr(str(mount / "file"), _ACCESS, _acl(6, 4, 0, 4, 0))
    assert run_as_nobody(mount, read) == b"content"


@stock_cannot(_TEXT_ONLY)
def an_access_acl_denies(mount, backing):
    """A user named in the list without rights is refused what all others may."""
    _require_acls(backing)
    (mount / "file").write_bytes(b"content")
    os.setxattr(str(mount / "file"), _ACCESS, _acl(6, 0, 4, 4, 4))
    with raises_errno(errno.EACCES):
        run_as_nobody(mount, lambda: os.open("file", os.O_RDONLY))


@stock_cannot(_TEXT_ONLY)
def an_acl_shows_in_the_mode(mount, backing):
    """The group bits of the mode are the mask, and chmod sets the mask (acl(5))."""
    _require_acls(backing)
    (mount / "file").write_bytes(b"content")
    os.setxattr(str(mount / "file"), _ACCESS, _acl(6, 6, 4, 6, 0))
    assert stat.S_IMODE((mount / "file").stat().st_mode) == 0o660
    (mount / "file").chmod(0o640)
    for side in (mount, backing):
        assert os.getxattr(str(side / "file"), _ACCESS) == _acl(6, 6, 4, 4, 0)


@stock_cannot(_TEXT_ONLY)
def a_default_acl_is_inherited_by_files(mount, backing):
    """A new file gets the directory's list, limited by the mode given and not by the umask."""
    _require_acls(backing)
    (mount / "directory").mkdir()
    os.setxattr(str(mount / "directory"), _DEFAULT, _acl(7, 6, 5, 7, 0))
    with umask(0o077), opened(str(mount / "directory" / "file"), os.O_CREAT | os.O_WRONLY, 0o666):
        pass
    for side in (mount, backing):
        found = side / "directory" / "file"
        assert os.getxattr(str(found), _ACCESS) == _acl(6, 6, 5, 6, 0)
        assert stat.S_IMODE(found.stat().st_mode) == 0o660


@stock_cannot(_TEXT_ONLY)
def a_default_acl_is_inherited_by_directories(mount, backing):
    """A new directory gets the list twice: to obey it and to pass it on."""
    _require_acls(backing)
    (mount / "directory").mkdir()
    acl = _acl(7, 6, 5, 7, 0)
    os.setxattr(str(mount / "directory"), _DEFAULT, acl)
    with umask(0o077):
        (mount / "directory" / "sub").mkdir()
    for side in (mount, backing):
        found = str(side / "directory" / "sub")
        assert os.getxattr(found, _DEFAULT) == acl
        assert os.getxattr(found, _ACCESS) == acl


@stock_cannot(_TEXT_ONLY)
def a_removed_acl_is_gone(mount, backing):
    """The mode alone counts again."""
    _require_acls(backing)
    (mount / "file").write_bytes(b"content")
    os.setxattr(str(mount / "file"), _ACCESS, _acl(6, 4, 0, 4, 0))
    os.removexattr(str(mount / "file"), _ACCESS)
    for side in (mount, backing):
        with raises_errno(errno.ENODATA):
            os.getxattr(str(side / "file"), _ACCESS)
    (mount / "file").chmod(0o600)
    with raises_errno(errno.EACCES):
        run_as_nobody(mount, lambda: os.open("file", os.O_RDONLY))

"""What an ordinary user may not do (allow_other, default_permissions)."""

import errno
import os
import stat

from .descriptors import opened
from .expectations import raises_errno, require_root
from .processes import NOBODY, run_as_nobody


def _refused(mount, function, *numbers, **keywords):
    with raises_errno(*numbers):
        run_as_nobody(mount, function, **keywords)


def _read(path):
    with opened(path) as descriptor:
        return os.read(descriptor, 100)


def _write(path):
    with opened(path, os.O_WRONLY) as descriptor:
        return os.write(descriptor, b"written")


def reading_needs_the_r_bit(mount, backing):
    """EACCES without it, the content with it."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o600)
    _refused(mount, lambda: _read("file"), errno.EACCES)
    (mount / "file").chmod(0o604)
    assert run_as_nobody(mount, lambda: _read("file")) == b"content"


def writing_needs_the_w_bit(mount, backing):
    """EACCES without it, also for truncation; with it, the bytes arrive."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o644)
    _refused(mount, lambda: _write("file"), errno.EACCES)
    _refused(mount, lambda: os.truncate("file", 0), errno.EACCES)
    _refused(mount, lambda: os.open("file", os.O_RDONLY | os.O_TRUNC), errno.EACCES)
    assert (backing / "file").read_bytes() == b"content"
    (mount / "file").chmod(0o646)
    assert run_as_nobody(mount, lambda: _write("file")) == 7
    assert (backing / "file").read_bytes() == b"written"


def the_owner_is_judged_by_the_bits_for_the_owner(mount, backing):
    """EACCES for the owner without a bit that all others have (path_resolution(7))."""
    require_root()
    (mount / "file").write_bytes(b"content")
    os.chown(str(mount / "file"), NOBODY, NOBODY)
    (mount / "file").chmod(0o044)
    _refused(mount, lambda: _read("file"), errno.EACCES)
    (mount / "file").chmod(0o400)
    assert run_as_nobody(mount, lambda: _read("file")) == b"content"


def a_supplementary_group_lets_in(mount, backing):
    """The caller's further groups count for reading and for creating."""
    require_root()
    (mount / "directory").mkdir()
    os.chown(str(mount / "directory"), 0, 4242)
    (mount / "directory").chmod(0o770)

    def create():
        with opened("directory/file", os.O_CREAT | os.O_WRONLY, 0o600) as descriptor:
            return os.write(descriptor, b"content")

    _refused(mount, create, errno.EACCES)
    assert run_as_nobody(mount, create, groups=[4242]) == 7
    found = (backing / "directory" / "file").stat()
    assert (found.st_uid, found.st_gid, found.st_size) == (NOBODY, NOBODY, 7)


def every_kind_of_creation_works_through_a_supplementary_group(mount, backing):
    """Directories, nodes, links, renames and removals too."""
    require_root()
    (mount / "directory").mkdir()
    os.chown(str(mount / "directory"), 0, 4242)
    (mount / "directory").chmod(0o770)

    def work():
        os.chdir("directory")
        os.mkdir("sub")
        os.mkfifo("fifo")
        os.symlink("target", "symlink")
        with opened("file", os.O_CREAT | os.O_WRONLY):
            pass
        os.link("file", "link")
        os.rename("file", "sub/file")
        os.unlink("link")
        os.mkdir("gone")
        os.rmdir("gone")

    run_as_nobody(mount, work, groups=[4242])
    assert sorted(os.listdir(str(backing / "directory"))) == ["fifo", "sub", "symlink"]
    for name in ("fifo", "sub", "symlink", "sub/file"):
        assert os.lstat(str(backing / "directory" / name)).st_uid == NOBODY


def listing_needs_the_r_bit_of_the_directory(mount, backing):
    """EACCES without it, though a name that is known can be opened."""
    (mount / "directory").mkdir()
    (mount / "directory" / "file").write_bytes(b"content")
    (mount / "directory").chmod(0o711)
    _refused(mount, lambda: os.listdir("directory"), errno.EACCES)
    assert run_as_nobody(mount, lambda: _read("directory/file")) == b"content"


def walking_through_needs_the_x_bit_of_the_directory(mount, backing):
    """EACCES for everything below without it, at any depth."""
    (mount / "directory" / "sub").mkdir(parents=True)
    (mount / "directory" / "sub" / "file").write_bytes(b"content")
    (mount / "directory").chmod(0o766)
    for name in ("directory/sub", "directory/sub/file", "directory/missing"):
        _refused(mount, lambda name=name: os.stat(name), errno.EACCES)
    (mount / "directory").chmod(0o711)
    assert run_as_nobody(mount, lambda: _read("directory/sub/file")) == b"content"


def making_and_removing_names_needs_the_w_bit_of_the_directory(mount, backing):
    """EACCES for every kind of name without it."""
    mount.chmod(0o755)
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o666)
    (mount / "directory").mkdir()
    for function in (
        lambda: os.open("new", os.O_CREAT | os.O_WRONLY),
        lambda: os.mkdir("new"),
        lambda: os.mkfifo("new"),
        lambda: os.symlink("target", "new"),
        lambda: os.link("file", "new"),
        lambda: os.rename("file", "new"),
        lambda: os.unlink("file"),
        lambda: os.rmdir("directory"),
    ):
        _refused(mount, function, errno.EACCES, errno.EPERM)
    assert sorted(os.listdir(str(backing))) == ["directory", "file"]


def running_needs_the_x_bit(mount, backing):
    """EACCES without it."""
    (mount / "script").write_bytes(b"#!/bin/sh\nexit 0\n")
    (mount / "script").chmod(0o744)
    _refused(mount, lambda: os.execv("script", ["script"]), errno.EACCES)


def chmod_is_for_the_owner(mount, backing):
    """EPERM for others, also where they may write."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o666)
    _refused(mount, lambda: os.chmod("file", 0o777), errno.EPERM)
    assert stat.S_IMODE((backing / "file").stat().st_mode) == 0o666
    os.chown(str(mount / "file"), NOBODY, NOBODY)
    run_as_nobody(mount, lambda: os.chmod("file", 0o640))
    assert stat.S_IMODE((backing / "file").stat().st_mode) == 0o640


def giving_a_file_away_is_for_root(mount, backing):
    """EPERM for the owner itself (chown(2))."""
    require_root()
    (mount / "file").write_bytes(b"content")
    os.chown(str(mount / "file"), NOBODY, NOBODY)
    _refused(mount, lambda: os.chown("file", 1234, -1), errno.EPERM)
    _refused(mount, lambda: os.chown("file", -1, 1234), errno.EPERM)
    found = (backing / "file").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)


def the_owner_may_choose_among_its_groups(mount, backing):
    """A group that the owner is in is allowed (chown(2))."""
    require_root()
    (mount / "file").write_bytes(b"content")
    os.chown(str(mount / "file"), NOBODY, NOBODY)
    run_as_nobody(mount, lambda: os.chown("file", -1, 4242), groups=[4242])
    assert (mount / "file").stat().st_gid == (backing / "file").stat().st_gid == 4242


def taking_a_file_is_refused(mount, backing):
    """EPERM for who is not the owner."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o666)
    _refused(mount, lambda: os.chown("file", NOBODY, NOBODY), errno.EPERM)
    assert (backing / "file").stat().st_uid == 0


def a_sticky_directory_protects_names(mount, backing):
    """Only the owner of a file or of the directory may remove or rename it (unlink(2))."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    mount.chmod(0o1777)
    for function in (
        lambda: os.unlink("file"),
        lambda: os.rename("file", "new"),
        lambda: os.rmdir("directory"),
    ):
        _refused(mount, function, errno.EPERM, errno.EACCES)

    def own():
        with opened("own", os.O_CREAT | os.O_WRONLY):
            pass
        os.rename("own", "mine")
        os.unlink("mine")

    run_as_nobody(mount, own)
    assert sorted(os.listdir(str(backing))) == ["directory", "file"]


def a_sticky_directory_protects_from_being_replaced(mount, backing):
    """A rename over another's file is refused too."""
    (mount / "file").write_bytes(b"content")
    mount.chmod(0o1777)

    def replace():
        with opened("own", os.O_CREAT | os.O_WRONLY):
            pass
        os.rename("own", "file")

    _refused(mount, replace, errno.EPERM, errno.EACCES)
    assert (backing / "file").read_bytes() == b"content"


def device_nodes_are_for_root(mount, backing):
    """EPERM for others, even where they may create."""
    mount.chmod(0o777)
    device = os.makedev(1, 3)
    _refused(mount, lambda: os.mknod("null", stat.S_IFCHR | 0o666, device), errno.EPERM)
    assert os.listdir(str(backing)) == []


def root_is_refused_nothing(mount, backing):
    """Modes without a bit do not stop root from reading, writing, listing and creating."""
    require_root()
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    for name in ("file", "directory"):
        os.chown(str(mount / name), 1234, 5678)
        (mount / name).chmod(0)
    assert (mount / "file").read_bytes() == b"content"
    (mount / "file").write_bytes(b"written")
    (mount / "directory" / "sub").mkdir()
    assert os.listdir(str(mount / "directory")) == ["sub"]
    assert (backing / "file").read_bytes() == b"written"

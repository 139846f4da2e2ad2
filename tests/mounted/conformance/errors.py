"""The errno of calls that cannot work, whoever makes them."""

import errno
import os

from .expectations import eventually, raises_errno

_CALLS_BY_PATH = (
    os.stat,
    os.lstat,
    os.readlink,
    os.listdir,
    os.unlink,
    os.rmdir,
    lambda path: os.open(path, os.O_RDONLY),
    lambda path: os.chmod(path, 0o600),
    lambda path: os.chown(path, -1, -1),
    lambda path: os.utime(path, (0, 0)),
    lambda path: os.truncate(path, 0),
    lambda path: os.rename(path, path + "2"),
    lambda path: os.link(path, path + "2"),
)

_CREATIONS = (
    os.mkdir,
    os.mkfifo,
    lambda path: os.symlink("target", path),
    lambda path: os.open(path, os.O_CREAT | os.O_WRONLY),
)


def a_missing_name_is_reported(mount, backing):
    """ENOENT from every call that needs the name to be there."""
    for call in _CALLS_BY_PATH:
        with raises_errno(errno.ENOENT):
            call(str(mount / "missing"))
    assert os.listdir(str(backing)) == []


def a_missing_directory_in_a_path_is_reported(mount, backing):
    """ENOENT from every call, also from those that create."""
    for call in _CALLS_BY_PATH + _CREATIONS:
        with raises_errno(errno.ENOENT):
            call(str(mount / "missing" / "name"))
    assert os.listdir(str(backing)) == []


def a_file_in_place_of_a_directory_in_a_path_is_reported(mount, backing):
    """ENOTDIR from every call."""
    (mount / "file").write_bytes(b"content")
    for call in _CALLS_BY_PATH + _CREATIONS:
        with raises_errno(errno.ENOTDIR):
            call(str(mount / "file" / "name"))
    assert (backing / "file").read_bytes() == b"content"


def a_taken_name_is_reported(mount, backing):
    """EEXIST from every call that needs the name to be free, whatever has it."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    os.symlink("nowhere", str(mount / "link"))
    os.mkfifo(str(mount / "fifo"))
    for name in ("file", "directory", "link", "fifo"):
        for call in _CREATIONS[:3]:
            with raises_errno(errno.EEXIST):
                call(str(mount / name))
    assert sorted(os.listdir(str(backing))) == ["directory", "fifo", "file", "link"]


def an_empty_path_is_reported(mount, backing):
    """ENOENT (path_resolution(7)), relative to the mount."""
    directory = os.open(str(mount), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with raises_errno(errno.ENOENT):
            os.mkdir("", dir_fd=directory)
        with raises_errno(errno.ENOENT):
            os.stat("", dir_fd=directory)
    finally:
        os.close(directory)


def a_path_longer_than_path_max_is_reported(mount, backing):
    """ENAMETOOLONG for more than 4095 bytes at once."""
    path = str(mount) + "/." * 2100
    with raises_errno(errno.ENAMETOOLONG):
        os.stat(path)


def a_failed_call_changes_nothing(mount, backing):
    """After errors of every kind the directory is as it was, and its mtime too."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    os.utime(str(mount), (1000000000, 1000000000))
    for call, error in (
        (lambda: os.mkdir(str(mount / "file")), errno.EEXIST),
        (lambda: os.rmdir(str(mount / "file")), errno.ENOTDIR),
        (lambda: os.unlink(str(mount / "directory")), errno.EISDIR),
        (lambda: os.unlink(str(mount / "missing")), errno.ENOENT),
        (lambda: os.rename(str(mount / "missing"), str(mount / "new")), errno.ENOENT),
    ):
        with raises_errno(error):
            call()
    assert sorted(os.listdir(str(backing))) == ["directory", "file"]
    assert int((mount).stat().st_mtime) == int((backing).stat().st_mtime) == 1000000000


def a_name_can_be_used_after_an_error(mount, backing):
    """A failed lookup is not remembered against a name that is made afterwards."""
    for _ in range(3):
        with raises_errno(errno.ENOENT):
            (mount / "name").stat()
        (mount / "name").write_bytes(b"content")
        assert (mount / "name").read_bytes() == b"content"
        (mount / "name").unlink()
    assert eventually(lambda: os.listdir(str(backing)) == [])

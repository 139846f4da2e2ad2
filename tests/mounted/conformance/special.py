"""Fifos, sockets and device nodes."""

import errno
import os
import socket
import stat

import pytest

from .descriptors import opened
from .expectations import raises_errno, require_root
from .processes import Child, run
from .registry import stock_cannot


def _kind_and_mode(path):
    return os.lstat(str(path)).st_mode


def a_fifo_carries_bytes_between_processes(mount, backing):
    """One process opens it for writing, another for reading."""
    os.mkfifo(str(mount / "fifo"), 0o640)
    assert stat.S_ISFIFO(_kind_and_mode(backing / "fifo"))

    def write():
        with opened(str(mount / "fifo"), os.O_WRONLY) as writer:
            return os.write(writer, b"through the fifo")

    # Opened without waiting, so a child that fails cannot block this process.
    with opened(str(mount / "fifo"), os.O_RDONLY | os.O_NONBLOCK) as reader:
        with Child(write) as child:
            assert child.result() == 16
        assert os.read(reader, 100) == b"through the fifo"
        assert os.read(reader, 100) == b""


def a_fifo_open_waits_for_the_other_end(mount, backing):
    """A writer without a reader gets ENXIO when it will not wait (fifo(7))."""
    os.mkfifo(str(mount / "fifo"))
    with raises_errno(errno.ENXIO):
        os.open(str(mount / "fifo"), os.O_WRONLY | os.O_NONBLOCK)
    assert os.lstat(str(backing / "fifo")).st_size == 0


@stock_cannot("libfuse 2.9 asks for attributes by a path that is gone")
def a_fifo_that_was_unlinked_is_still_a_file(mount, backing):
    """A shell makes a pipe of a fifo so; who uses it asks for its attributes and may change them."""
    os.mkfifo(str(mount / "fifo"))
    with opened(str(mount / "fifo"), os.O_RDWR) as descriptor:
        os.unlink(str(mount / "fifo"))
        (mount / "fifo").write_bytes(b"another file")
        os.fchmod(descriptor, 0o640)
        os.utime(descriptor, (1000, 2000))
        found = os.fstat(descriptor)
        assert found.st_mode == stat.S_IFIFO | 0o640
        assert (found.st_nlink, found.st_mtime) == (0, 2000)
        with opened(f"/proc/self/fd/{descriptor}", os.O_WRONLY) as writer:
            os.write(writer, b"through the pipe")
        assert os.read(descriptor, 100) == b"through the pipe"
    assert stat.S_ISREG(_kind_and_mode(backing / "fifo"))


def mkfifo_over_an_existing_name_fails(mount, backing):
    """EEXIST."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.EEXIST):
        os.mkfifo(str(mount / "file"))
    assert (backing / "file").read_bytes() == b"content"


def a_fifo_made_on_the_backing_side_is_a_fifo(mount, backing):
    """Kind and mode are the same on both sides."""
    os.mkfifo(str(backing / "fifo"), 0o640)
    assert _kind_and_mode(mount / "fifo") == _kind_and_mode(backing / "fifo")


def a_socket_accepts_connections(mount, backing):
    """bind makes a node on the backing side, connect finds it through the mount."""

    def converse():
        # A relative name: a socket's path has at most 107 bytes (unix(7)).
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            server.listen(1)
            client.connect("socket")
            accepted = server.accept()[0]
            with accepted:
                client.sendall(b"hello")
                return accepted.recv(100)

    assert run(converse, directory=mount) == b"hello"
    for side in (mount, backing):
        assert stat.S_ISSOCK(_kind_and_mode(side / "socket"))


def a_socket_can_be_bound_only_once(mount, backing):
    """EADDRINUSE while the name is there, also when nobody listens any more."""

    def bind():
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")

    run(bind, directory=mount)
    with raises_errno(errno.EADDRINUSE):
        run(bind, directory=mount)
    (mount / "socket").unlink()
    run(bind, directory=mount)
    assert stat.S_ISSOCK(_kind_and_mode(backing / "socket"))


def _make_devices(mount, backing, kind, numbers):
    require_root()
    try:
        os.mknod(str(backing / "probe"), kind | 0o600, os.makedev(*numbers[0]))
    except OSError:
        pytest.skip("the backing filesystem takes no device nodes")
    for index, number in enumerate(numbers):
        os.mknod(str(mount / f"device{index}"), kind | 0o640, os.makedev(*number))
        for side in (mount, backing):
            found = os.lstat(str(side / f"device{index}"))
            assert stat.S_IFMT(found.st_mode) == kind
            assert stat.S_IMODE(found.st_mode) == 0o640
            assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == number


def a_character_device_has_its_number(mount, backing):
    """mknod by root keeps major and minor on both sides."""
    _make_devices(mount, backing, stat.S_IFCHR, [(1, 3), (0, 0), (5, 255), (240, 1000)])


def a_block_device_has_its_number(mount, backing):
    """mknod by root keeps major and minor on both sides."""
    _make_devices(mount, backing, stat.S_IFBLK, [(7, 0), (8, 17), (259, 70000)])


def a_device_made_on_the_backing_side_has_its_number(mount, backing):
    """tar reads st_rdev on the mount."""
    require_root()
    try:
        os.mknod(str(backing / "device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError:
        pytest.skip("the backing filesystem takes no device nodes")
    assert os.lstat(str(mount / "device")).st_rdev == os.makedev(1, 3)


def mknod_makes_a_regular_file(mount, backing):
    """An empty file that can be written afterwards."""
    os.mknod(str(mount / "file"), stat.S_IFREG | 0o640)
    for side in (mount, backing):
        assert stat.S_ISREG(_kind_and_mode(side / "file"))
        assert stat.S_IMODE(_kind_and_mode(side / "file")) == 0o640
        assert (side / "file").read_bytes() == b""
    (mount / "file").write_bytes(b"content")
    assert (backing / "file").read_bytes() == b"content"


def nodes_take_modes_and_owners(mount, backing):
    """chmod and chown work on what is no file."""
    require_root()
    os.mkfifo(str(mount / "fifo"))
    os.chmod(str(mount / "fifo"), 0o604)
    os.chown(str(mount / "fifo"), 1234, 5678)
    found = os.lstat(str(backing / "fifo"))
    assert stat.S_IMODE(found.st_mode) == 0o604
    assert (found.st_uid, found.st_gid) == (1234, 5678)


def unlink_removes_nodes(mount, backing):
    """Fifos go as files do."""
    os.mkfifo(str(mount / "fifo"))
    (mount / "fifo").unlink()
    assert os.listdir(str(mount)) == os.listdir(str(backing)) == []

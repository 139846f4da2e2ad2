"""Who leaves reading and writing to the kernel, and how backing ids are shared."""

import errno
import os
from pathlib import Path
from typing import Any, List, Optional, Set

import pytest

from fusepy_legacy import Passthrough, PassthroughFile
from fusepy_legacy.kernel import notifications
from fusepy_legacy.kernel.backing import Backings
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.views.decrypted import DecryptedFile
from tests.kernel_side import FILE, IDENTIFIED, Kernel, OpenFile
from tests.wire import i32, open_out, release_in, reply, u32, u64


class Plain(PassthroughFile):
    def flush(self) -> None:
        """Not about data."""


class Reading(PassthroughFile):
    def read(self, length: int, offset: int) -> bytes:
        return super().read(length, offset).upper()


class Writing(PassthroughFile):
    def write(self, data: bytes, offset: int) -> int:
        return super().write(data.lower(), offset)


class BelowReading(Reading):
    pass


class Declaring(Reading):
    kernel_io = True


class Refusing(PassthroughFile):
    kernel_io = False


class Undeclared:
    def __init__(self, path: str, flags: int, *mode: int) -> None:
        self.fd = -1

    def fileno(self) -> int:
        return self.fd

    def read(self, length: int, offset: int) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("file_class", "expected"),
    [
        (PassthroughFile, True),
        (Plain, True),
        (Reading, False),
        (Writing, False),
        (BelowReading, False),
        (Declaring, True),
        (Refusing, False),
        (Undeclared, False),
    ],
)
def test_a_class_with_its_own_read_or_write_is_asked(file_class: Any, expected: bool) -> None:
    """Kernel I/O is for who declared it of the very read and write that would be called."""
    assert leaves_io_to_kernel(Passthrough, file_class) is expected


@pytest.mark.parametrize("name", ["open", "create", "read", "write"])
def test_a_filesystem_with_a_method_of_its_own_is_asked(name: str) -> None:
    """fuse-python calls a method of the filesystem before one of the file class, inherited or not."""
    base = type("Base", (Passthrough,), {name: lambda self, *arguments: None})
    assert not leaves_io_to_kernel(base, PassthroughFile)
    assert not leaves_io_to_kernel(type("Below", (base,), {}), PassthroughFile)


class Copying(Reading):
    def copy_file_range(self, offset: int, target: Any, *arguments: int) -> int:
        return 0


@pytest.mark.parametrize(
    ("file_class", "offered"),
    [
        (PassthroughFile, {"copy_file_range", "fallocate", "lseek"}),
        (Plain, {"copy_file_range", "fallocate", "lseek"}),
        (Reading, set()),
        (Writing, set()),
        (BelowReading, set()),
        (Copying, {"copy_file_range"}),
        (DecryptedFile, {"copy_file_range", "fallocate", "lseek"}),
    ],
)
def test_nothing_goes_past_a_class_with_its_own_read_or_write(
    file_class: Any, offered: Set[str]
) -> None:
    """What reaches the data without them is not inherited, but may be defined beside them."""
    filesystem: Any = Passthrough()
    filesystem.methproxy.set_file_class(filesystem._bound(file_class))
    assert {"copy_file_range", "fallocate", "lseek"} & set(filesystem._callbacks()) == offered


def leaves_io_to_kernel(filesystem_class: Any, file_class: Any) -> bool:
    """Tell whether a filesystem with this file class offers its descriptors to the kernel."""
    filesystem = filesystem_class()
    filesystem.methproxy.set_file_class(filesystem._bound(file_class))
    return "backing" in filesystem._callbacks()


class Device:
    """Backing ids from 1 on, and what was given back; `refuses` is an errno."""

    def __init__(self) -> None:
        self.last = 0
        self.closed: List[int] = []
        self.refuses: Optional[int] = None

    def open(self, descriptor: int) -> int:
        if self.refuses is not None:
            raise OSError(self.refuses, "")
        self.last += 1
        return self.last


@pytest.fixture
def device() -> Device:
    """A device that grants everything."""
    return Device()


@pytest.fixture
def backings(device: Device) -> Backings:
    """Backing ids from that device."""
    backings = Backings()
    backings.open = device.open
    backings.close = device.closed.append
    return backings


def test_opens_of_a_node_share_an_id_until_the_last(device: Device, backings: Backings) -> None:
    """The kernel allows one at a time for each inode."""
    one, two = Node(2, None), Node(3, None)
    assert backings.opened(one, 7, os.O_RDONLY) == backings.opened(one, 8, os.O_WRONLY) == 1
    assert backings.opened(two, 9, os.O_RDONLY) == 2
    backings.released(one, os.O_RDONLY)
    assert device.closed == []
    backings.released(one, os.O_WRONLY)
    assert device.closed == [1]
    assert backings.opened(one, 7, os.O_RDONLY) == 3


def test_a_node_is_mappable_until_its_last_open_for_reading_and_writing(backings: Backings) -> None:
    """mmap(2): a shared mapping to write through takes O_RDWR."""
    node = Node(2, None)
    backings.opened(node, 7, os.O_RDONLY)
    backings.opened(node, 7, os.O_WRONLY)
    assert node.id not in backings.mappable
    backings.opened(node, 7, os.O_RDWR | os.O_CREAT)
    backings.opened(node, 7, os.O_RDWR)
    backings.released(node, os.O_RDWR)
    backings.released(node, os.O_WRONLY)
    assert node.id in backings.mappable
    backings.released(node, os.O_RDWR | os.O_CREAT)
    assert node.id not in backings.mappable
    backings.released(node, os.O_RDONLY)
    assert backings.mappable == set()


def test_a_node_that_uses_the_page_cache_stays_with_it(backings: Backings) -> None:
    """Until its last such open is closed: the two do not mix."""
    node = Node(2, None)
    node.opens = {1: None}
    assert backings.opened(node, 7, os.O_RDONLY) == 0
    node.opens = None
    assert backings.opened(node, 7, os.O_RDONLY) == 1


def test_a_node_without_an_id_gets_none_without_a_descriptor(backings: Backings) -> None:
    """It is somebody's to share only; and that goes on when nothing more is granted."""
    node = Node(2, None)
    assert backings.opened(node, None, os.O_RDONLY) == 0
    assert backings.opened(node, 7, os.O_RDONLY) == 1
    backings.open = None
    assert backings.opened(node, None, os.O_RDONLY) == backings.opened(node, 8, os.O_RDONLY) == 1


def test_a_refusal_for_one_file_is_not_one_for_all(device: Device, backings: Backings) -> None:
    """ELOOP, a stacked filesystem below, concerns that file; EPERM everything to come."""
    device.refuses = errno.ELOOP
    assert backings.opened(Node(2, None), 7, os.O_RDONLY) == 0
    device.refuses = None
    assert backings.opened(Node(3, None), 7, os.O_RDONLY) == 1
    device.refuses = errno.EPERM
    assert backings.opened(Node(4, None), 7, os.O_RDONLY) == 0
    device.refuses = None
    assert backings.opened(Node(5, None), 7, os.O_RDONLY) == 0


@pytest.mark.parametrize(
    ("flags", "forgotten"),
    [(os.O_RDWR, 1), (os.O_RDONLY, 0), (os.O_WRONLY, 0), (os.O_RDWR | os.O_CREAT, 0)],
)
def test_attributes_are_forgotten_where_a_mapping_can_be_made(
    tmp_path: Path, flags: int, forgotten: int
) -> None:
    """Those that were cached before; of a new file there are none."""
    path = tmp_path / "file"
    path.touch()
    with path.open() as file:
        kernel = Kernel(*IDENTIFIED, open=(OpenFile(), True), getattr=FILE, backing=file.fileno())
        kernel.engine.backings.open = lambda descriptor: 7
        told: List[bytes] = []
        kernel.engine.notify = told.append
        node = kernel.looks_up("file")
        kernel.opens(node, flags)
        assert told == [notifications.inval_inode(node, data=False)] * forgotten


@pytest.mark.parametrize("how", ["direct_io", "fileno"])
def test_a_file_that_is_to_be_asked_shares_the_id(tmp_path: Path, how: str) -> None:
    """The kernel wants it of all opens of a node; with FOPEN_DIRECT_IO it asks for data all the same."""
    path = tmp_path / "file"
    path.touch()
    plain, asked = OpenFile(), OpenFile()
    asked.direct_io = how == "direct_io"  # type: ignore[attr-defined]
    with path.open() as file:
        kernel = Kernel(
            *IDENTIFIED,
            open=lambda path, flags: (asked if flags & os.O_SYNC else plain, True),
            getattr=FILE,
            backing=lambda value: None if value is asked and how == "fileno" else file.fileno(),
        )
        kernel.engine.backings.open = lambda descriptor: 7
        node = kernel.looks_up("file")
        sync, other = u32(os.O_SYNC) + u32(0), u32(0) + u32(0)
        direct = 1 if how == "direct_io" else 0
        assert kernel.sends(14, sync, node=node) == reply(open_out(1, direct))
        kernel.sends(18, release_in(1), node=node)
        assert kernel.sends(14, other, node=node) == reply(u64(2) + u32(1 << 7) + i32(7))
        assert kernel.sends(14, sync, node=node) == reply(u64(3) + u32(1 << 7 | 1) + i32(7))
        kernel.sends(18, release_in(2), node=node)
        kernel.sends(18, release_in(3), node=node)
        assert not kernel.engine.backings.is_shared(kernel.engine.nodes.by_id[node])


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_a_file_with_set_id_bits_is_left_to_its_object(tmp_path: Path, mode: int) -> None:
    """A write has to clear them, and the kernel does not; one that gets them while it is open stays."""
    path = tmp_path / "file"
    path.touch(mode=0o755)
    with path.open() as file:
        kernel = Kernel(*IDENTIFIED, open=(OpenFile(), True), getattr=FILE, backing=file.fileno())
        kernel.engine.backings.open = lambda descriptor: 7
        node = kernel.looks_up("file")
        path.chmod(mode)
        assert kernel.sends(14, u32(0) + u32(0), node=node) == reply(open_out(1))
        kernel.sends(18, release_in(1), node=node)
        path.chmod(0o755)
        shared = u32(1 << 7) + i32(7)  # FOPEN_PASSTHROUGH, backing_id
        assert kernel.sends(14, u32(0) + u32(0), node=node) == reply(u64(2) + shared)
        path.chmod(mode)
        assert kernel.sends(14, u32(0) + u32(0), node=node) == reply(u64(3) + shared)

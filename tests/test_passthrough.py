"""fusepy_legacy.passthrough without a mount: what its file objects do with their descriptors."""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from fusepy_legacy import passthrough
from fusepy_legacy.identity import Caller
from fusepy_legacy.kernel.context import current
from fusepy_legacy.passthrough import Passthrough, PassthroughFile
from fusepy_legacy.root import Root, Rules
from tests.errnos import raises_errno

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602  # linux/fs.h, FS_IOC_

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Passthrough]:
    """A mirror of a directory with the file "file", which is asked by user 1234."""
    (tmp_path / "file").write_bytes(b"abc")
    mirror = Passthrough()
    mirror.beneath = Root(str(tmp_path))
    mirror.caller = lambda: Caller(1234, 2345, os.getpid())  # type: ignore[method-assign]
    yield mirror
    mirror.beneath.close()


@pytest.fixture(autouse=True)
def at_offset(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say of the writes that follow whether their offset counts in spite of O_APPEND; first it does not."""

    def set_at_offset(value: bool) -> None:
        monkeypatch.setattr(current, "at_offset", value)

    set_at_offset(False)
    return set_at_offset


def opened(mirror: Passthrough, flags: int) -> Any:
    """Open the file."""
    return mirror._bound(PassthroughFile)("/file", flags)


def test_what_is_written_after_o_append_goes_to_the_end(
    mirror: Passthrough, tmp_path: Path
) -> None:
    """Whatever the offset, as write(2) has it."""
    file = opened(mirror, os.O_RDWR | os.O_APPEND)
    file.write(b"X", 0)
    file.release(0)
    assert (tmp_path / "file").read_bytes() == b"abcX"


def test_what_stays_where_it_was_needs_no_further_right(
    mirror: Passthrough,
    tmp_path: Path,
    at_offset: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has created a file that nobody may write to by its mode has it open all the same."""
    file = opened(mirror, os.O_RDWR | os.O_APPEND)
    try:
        os.pwritev(file.fd, [b"a"], 0, 0x20)  # RWF_NOAPPEND, Linux 6.9
    except (AttributeError, OSError):
        file.release(0)
        pytest.skip("this Python or this kernel has to open the file again")
    at_offset(True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *arguments: pytest.fail("it was opened again"))
        assert file.write(b"X", 0) == 1
    file.release(0)
    assert (tmp_path / "file").read_bytes() == b"Xbc"


def test_what_was_changed_through_mmap_stays_where_it_was(
    mirror: Passthrough, tmp_path: Path, at_offset: Callable[[bool], None]
) -> None:
    """After O_APPEND too: the kernel writes pages back to their places."""
    at_offset(True)
    file = opened(mirror, os.O_RDWR | os.O_APPEND)
    file.write(b"X", 0)
    file.release(0)
    assert (tmp_path / "file").read_bytes() == b"Xbc"


def test_o_direct_is_between_the_program_and_the_kernel(mirror: Passthrough) -> None:
    """Here it would ask for buffers at addresses that Python's do not have."""
    file = opened(mirror, os.O_RDONLY | os.O_DIRECT)
    assert not fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_DIRECT
    assert file.read(10, 0) == b"abc"
    file.release(0)


@as_root
def test_inode_flags_are_set_with_the_rights_of_the_caller(
    mirror: Passthrough, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backing filesystem refuses who may not, such as all but root for chattr +i."""
    users: List[str] = []

    def ioctl(*arguments: Any) -> bytes:
        with open("/proc/thread-self/status", encoding="ascii") as status:
            users.extend(line.split()[4] for line in status if line.startswith("Uid:"))
        return bytes(8)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert mirror.ioctl("/file", SETFLAGS, bytes(8), 0) == 0
    assert mirror.ioctl("/file", GETFLAGS, None, 0) == bytes(8)
    assert users == ["1234", "0"]


def test_inode_flags_of_what_is_read_only(mirror: Passthrough, tmp_path: Path) -> None:
    """They can be asked for, and not be set; no other ioctl is known."""
    mirror.beneath.close()
    mirror.beneath = Root(str(tmp_path), rules=Rules(read_only=True))
    with raises_errno(errno.EROFS):
        mirror.ioctl("/file", SETFLAGS, bytes(8), 0)
    with raises_errno(errno.ENOTTY):
        mirror.ioctl("/file", 1, None, 0)


def test_the_numbers_of_inode_flags_have_the_size_of_a_long() -> None:
    """As linux/fs.h has them, FS_IOC_ and FS_IOC32_: 64 bits wide on 64-bit kernels, 32 on others."""
    attributes = {0x801C581F: 28, 0x401C5820: 0}
    wide = {GETFLAGS: 8, SETFLAGS: 0, 0x80087601: 8, **attributes}
    assert passthrough._inode_flags(8) == wide
    narrow = {0x80046601: 4, 0x40046602: 0, 0x80047601: 4, **attributes}
    assert passthrough._inode_flags(4) == narrow
    own = wide if struct.calcsize("l") == 8 else {**wide, **narrow}
    assert own == passthrough._INODE_FLAGS

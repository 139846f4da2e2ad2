"""fusepy_legacy.inodes: numbers of several filesystems in one."""

import os
from pathlib import Path

import pytest

from fusepy_legacy.inodes import InodeNumbers, numbered, virtual_number


class Statvfs:
    """What fstatvfs says."""

    def __init__(self, fsid: int) -> None:
        self.f_fsid = fsid


@pytest.fixture
def fsids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a descriptor's number be the fsid of its filesystem."""
    monkeypatch.setattr("fusepy_legacy.inodes.os.fstatvfs", Statvfs)


@pytest.mark.usefixtures("fsids")
def test_the_first_filesystem_keeps_its_numbers_and_others_get_bits() -> None:
    """48 to 62, whatever st_dev they have this time."""
    numbers = InodeNumbers()
    numbers.keep(1)
    assert numbers.learn(1, 111) == 0
    bits = numbers.learn(2, 222)
    assert bits & ~(0x7FFF << 48) == 0
    assert bits not in (0, 0x7FFF << 48)
    another = InodeNumbers()
    another.keep(9)
    assert another.learn(8, 222) == bits == numbers.learn(2, 333)  # it is known by then


@pytest.mark.usefixtures("fsids")
def test_no_two_filesystems_have_the_same_bits() -> None:
    """Also where their fsids make the same value."""
    numbers = InodeNumbers()
    numbers.keep(0)
    seen = {numbers.learn(device, 1000 + device) for device in range(2000)}
    assert len(seen) == 2000
    assert virtual_number("/") >> 48 << 48 not in seen


@pytest.mark.usefixtures("fsids")
def test_without_an_fsid_it_is_the_device() -> None:
    """Two filesystems without one are still two, whichever was met first."""
    one, other = InodeNumbers(), InodeNumbers()
    bits = one.learn(1, 0), one.learn(2, 0)
    assert (other.learn(2, 0), other.learn(1, 0)) == bits[::-1]
    assert bits[0] != bits[1]


def test_virtual_numbers_are_the_paths_own() -> None:
    """The same at every mount, and positive as a signed number."""
    assert virtual_number("/") == virtual_number("/")
    assert len({virtual_number(path) for path in ("/", "/a", "/a/b", "/ab")}) == 4
    assert 0 < virtual_number("/") < 1 << 63


def test_only_number_and_device_change(tmp_path: Path) -> None:
    """All other fields of the attributes stay, nanoseconds too."""
    os.utime(str(tmp_path), ns=(1500000000123456789, 1600000000987654321))
    status = os.stat(str(tmp_path))
    changed = numbered(status, 12345, 67890)
    assert (changed.st_ino, changed.st_dev) == (12345, 67890)
    names = [name for name in dir(status) if name.startswith("st_")]
    assert len(names) > 15
    for name in set(names) - {"st_ino", "st_dev"}:
        assert getattr(changed, name) == getattr(status, name)

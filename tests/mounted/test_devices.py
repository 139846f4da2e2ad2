"""Filesystems mounted inside the root: the mirror shows them as one device."""

import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.mounted.commands import output_of
from tests.mounted.mounting import Mirror, Sides, passthrough, tmpfs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")

DEVICES = ("one", "two")


@pytest.fixture
def devices(sides: Sides) -> Iterator[Mirror]:
    """Two filesystems in memory, whose files have the same inode numbers, and hard links to each."""
    for name in DEVICES:
        (sides.backing / name).mkdir()
    with tmpfs(sides.backing / "one", "size=1m"), tmpfs(sides.backing / "two", "size=1m"):
        for name in DEVICES:
            (sides.backing / name / "file").write_text(name)
            os.link(str(sides.backing / name / "file"), str(sides.backing / name / "link"))
        assert len({(sides.backing / name / "file").stat().st_ino for name in DEVICES}) == 1
        (sides.backing / "file").write_text("root")
        with passthrough(sides.backing, sides.mount) as server:
            yield Mirror(sides.mount, sides.backing, server)


def inodes(tree: Path) -> Dict[str, int]:
    """Return the inode number of each file below a directory."""
    return {
        os.path.relpath(os.path.join(directory, name), str(tree)): os.lstat(
            os.path.join(directory, name)
        ).st_ino
        for directory, _, names in os.walk(str(tree))
        for name in names
    }


def test_hard_links_are_told_from_files_of_another_device(devices: Mirror) -> None:
    """By (st_dev, st_ino); the root's own device shows the numbers that it has."""
    shown = inodes(devices.mount)
    assert shown["one/file"] == shown["one/link"] != shown["two/file"] == shown["two/link"]
    assert shown["file"] == (devices.backing / "file").stat().st_ino
    assert len({path.stat().st_dev for path in devices.mount.iterdir()}) == 1
    assert listed(devices.mount / "one") == {"file": shown["one/file"], "link": shown["one/link"]}


def listed(directory: Path) -> Dict[str, int]:
    """Return d_ino of each entry (readdir(3))."""
    with os.scandir(str(directory)) as entries:
        return {entry.name: entry.inode() for entry in entries}


def test_the_next_mount_shows_the_same_numbers(devices: Mirror, tmp_path: Path) -> None:
    """Backups compare them from one time to the next."""
    before = inodes(devices.mount)
    again = tmp_path / "again"
    again.mkdir()
    with passthrough(devices.backing, again):
        os.stat(str(again / "two"))  # another order than before
        assert inodes(again) == before


def test_copies_keep_what_is_linked_and_what_is_not(devices: Mirror, tmp_path: Path) -> None:
    """With cp -a, rsync -H and tar."""
    for number, command in enumerate((["cp", "-a"], ["rsync", "-aH"])):
        copy = tmp_path / f"copy{number}"
        subprocess.check_call([*command, f"{devices.mount}/.", str(copy)])
        check_copy(copy)
    archive = tmp_path / "archive.tar"
    output_of("tar", "-cf", archive, "-C", devices.mount, ".")
    with tarfile.open(str(archive)) as members:
        links: List[str] = [f"{one.name} {one.linkname}" for one in members if one.islnk()]
    assert len(links) == 2
    assert all(link.split("/")[1] == link.split("/")[3] for link in links), links


def check_copy(tree: Path) -> None:
    """AssertionError unless each device's two names are one file with its content."""
    for name in DEVICES:
        file, link = (tree / name / "file").stat(), (tree / name / "link").stat()
        assert os.path.samestat(file, link)
        assert (tree / name / "file").read_text() == name


def test_a_name_may_come_to_lie_on_another_device(devices: Mirror) -> None:
    """EXDEV for a rename or a link across, as on the backing side, so that mv copies."""
    for function in (os.rename, os.link):
        with pytest.raises(OSError, match="cross-device"):
            function(str(devices.mount / "one" / "file"), str(devices.mount / "two" / "other"))
    output_of("mv", devices.mount / "one" / "file", devices.mount / "two" / "moved")
    assert (devices.backing / "two" / "moved").read_text() == "one"
    assert stat.S_ISREG((devices.mount / "one" / "link").stat().st_mode)

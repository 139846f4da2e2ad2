"""Nothing outside the root is reached, and a mirror may be mounted on or inside what it mirrors."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.mounted.conformance.processes import run
from tests.mounted.mounting import Mirror, Sides, is_mounted, passthrough

SECONDS = 5.0

# Swaps a directory for a symlink that leads outside, and back, as fast as it can.
SWAP = """
import os, sys
inside, away, outside = sys.argv[1:]
while True:
    os.rename(inside, away)
    os.symlink(outside, inside)
    os.unlink(inside)
    os.rename(away, inside)
"""


@pytest.fixture
def swapped(shared_free_mirror: Mirror, tmp_path: Path) -> Iterator[Mirror]:
    """A mirror below which somebody swaps `a/b` for a symlink to a directory outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (shared_free_mirror.backing / "a" / "b").mkdir(parents=True)
    (shared_free_mirror.backing / "a" / "b" / "secret").write_text("public")
    directory = shared_free_mirror.backing / "a"
    command = [sys.executable, "-c", SWAP, *map(str, (directory / "b", directory / "c", outside))]
    attacker = subprocess.Popen(command)
    try:
        yield shared_free_mirror
    finally:
        attacker.kill()
        attacker.wait()


@pytest.fixture
def shared_free_mirror(engine: str, sides: Sides) -> Iterator[Mirror]:
    """A mirror that believes nothing for longer than a request."""
    options = ("entry_timeout=0", "attr_timeout=0")
    with passthrough(sides.backing, sides.mount, *options, engine=engine) as server:
        yield Mirror(sides.mount, sides.backing, server)


def test_a_swapped_directory_leads_nowhere_else(swapped: Mirror, tmp_path: Path) -> None:
    """For as long as it lasts, no byte outside is read, written, created or removed.

    The one who works on the mirror has it as root directory (chroot(2)), so that only the mirror's process
    can be led outside by a link.
    """
    outside = tmp_path / "outside"
    assert run(lambda: work_below(swapped.mount)) > 20
    assert os.listdir(str(outside)) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_mode & 0o777 == 0o644


def work_below(mount: Path) -> int:
    """Use every kind of call below the swapped directory; return how many went well."""
    os.chroot(str(mount))
    inside = Path("/a/b")
    attempts = (
        lambda: read_public(inside / "secret"),
        lambda: (inside / "new").write_text("new"),
        lambda: (inside / "directory").mkdir(),
        lambda: os.link(str(inside / "secret"), str(inside / "link")),
        lambda: (inside / "secret").chmod(0o600),
        lambda: os.truncate(str(inside / "secret"), 6),
        lambda: os.listdir(str(inside)),
        lambda: (inside / "link").unlink(),
        lambda: (inside / "directory").rmdir(),
        lambda: (inside / "new").rename(inside / "newer"),
    )
    well = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for attempt in attempts:
            with contextlib.suppress(OSError):  # what there is not at the moment
                attempt()
                well += 1
    return well


def read_public(path: Path) -> None:
    """Read a file, and fail for good when it is the one outside."""
    if path.read_text() != "public":
        raise AssertionError("read outside the root")


@pytest.mark.parametrize("switches", [[], ["-s"]], ids=["threads", "alone"])
def test_the_mount_point_may_be_the_root(engine: str, tmp_path: Path, switches: list) -> None:
    """The directory is mirrored onto itself; no recursion and no deadlock."""
    (tmp_path / "file").write_text("below")
    with passthrough(tmp_path, tmp_path, "nonempty", engine=engine, switches=switches):
        assert (tmp_path / "file").read_text() == "below"
        (tmp_path / "new").write_text("new")
        assert sorted(os.listdir(str(tmp_path))) == ["file", "new"]
    assert not is_mounted(tmp_path)
    assert (tmp_path / "new").read_text() == "new"


@pytest.mark.parametrize("switches", [[], ["-s"]], ids=["threads", "alone"])
def test_the_mount_point_may_lie_in_the_root(engine: str, tmp_path: Path, switches: list) -> None:
    """In the mirror it is the directory that the mount covers, also in listings with attributes."""
    mountpoint = tmp_path / "directory" / "mirror"
    mountpoint.mkdir(parents=True)
    (mountpoint / "covered").write_text("covered")
    with passthrough(tmp_path, mountpoint, "nonempty", engine=engine, switches=switches):
        again = mountpoint / "directory" / "mirror"
        assert os.listdir(str(again)) == ["covered"]
        assert (again / "covered").read_text() == "covered"
        listing = subprocess.run(
            ["ls", "-laR", str(mountpoint)], stdout=subprocess.PIPE, timeout=20
        )
        assert listing.stdout.count(b"covered") == 1
        (again / "new").write_text("new")
        # Renaming what the mount point lies in takes the mount along.
        (mountpoint / "directory").rename(mountpoint / "renamed")
        moved = tmp_path / "renamed" / "mirror"
        assert (moved / "renamed" / "mirror" / "new").read_text() == "new"
        (moved / "renamed").rename(moved / "directory")
    assert (mountpoint / "new").read_text() == "new"

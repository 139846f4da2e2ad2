"""Nothing outside the root is reached, and a mirror may be mounted on or inside what it mirrors."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from fusepy_legacy import syscalls
from tests.mounted.commands import wait_until
from tests.mounted.conformance.descriptors import opened
from tests.mounted.conformance.processes import Child
from tests.mounted.mounting import Mirror, Sides, is_mounted, passthrough, unmount

# How long each attack lasts; a minute of it is for a search by hand.
SECONDS = float(os.environ.get("FUSEPY_LEGACY_ATTACK_SECONDS", 0.8))

# Each does one thing to a/b, the directory that is worked in, and undoes it, as fast as it can.
ATTACKS = {
    "symlink": """
        os.rename(inside, away)
        os.symlink(outside, inside)
        os.unlink(inside)
        os.rename(away, inside)
    """,
    "relative symlink": """
        os.rename(inside, away)
        os.symlink("../../outside", inside)
        os.unlink(inside)
        os.rename(away, inside)
    """,
    "symlink in one step": """
        if not os.path.islink(away):
            os.symlink(outside, away)
        exchange(inside, away)
        exchange(inside, away)
    """,
    "symlinked parent": """
        os.rename(above, above + ".away")
        os.symlink(os.path.dirname(outside), above)
        os.unlink(above)
        os.rename(above + ".away", above)
    """,
    "moved out": """
        os.rename(above, os.path.join(os.path.dirname(outside), "above"))
        os.rename(os.path.join(os.path.dirname(outside), "above"), above)
    """,
    "symlinked file": """
        os.symlink(outside + "/secret", inside + "/swapped")
        os.rename(inside + "/swapped", inside + "/secret")
        write_public()
    """,
    "bind mount": """
        mount = ["mount", "--bind", inside, inside]
        subprocess.call(mount, stderr=subprocess.DEVNULL)
        subprocess.call(["umount", "-l", inside], stderr=subprocess.DEVNULL)
    """,
}
ATTACKER = """
import ctypes, os, subprocess, sys

above, inside, away, outside = sys.argv[1:]

def exchange(one, two):
    ctypes.CDLL(None).renameat2(-100, os.fsencode(one), -100, os.fsencode(two), 2)

def write_public():
    with open(inside + "/new-secret", "w") as file:
        file.write("public")
    os.rename(inside + "/new-secret", inside + "/secret")

while True:
    try:
{attack}
    except OSError:  # what the worker did; the next round finds it as it should be
        for path in (inside, above):
            if os.path.islink(path):
                os.unlink(path)
        if not os.path.lexists(above):
            for place in (above + ".away", os.path.join(os.path.dirname(outside), "above")):
                if os.path.lexists(place):
                    os.rename(place, above)
        if os.path.lexists(away) and not os.path.islink(away) and not os.path.lexists(inside):
            os.rename(away, inside)
"""


@pytest.fixture(params=sorted(ATTACKS))
def attacked(request: pytest.FixtureRequest, engine: str, sides: Sides) -> Iterator[Mirror]:
    """A mirror that believes nothing for longer than a request, and somebody at work below it."""
    outside = sides.backing.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    above = sides.backing / "a"
    (above / "b").mkdir(parents=True)
    (above / "b" / "secret").write_text("public")
    attack = "".join(f"    {line}\n" for line in ATTACKS[request.param].splitlines())
    command = [sys.executable, "-c", ATTACKER.replace("{attack}", attack)]
    paths = [str(path) for path in (above, above / "b", above / "c", outside)]
    options = ("entry_timeout=0", "attr_timeout=0")
    with passthrough(sides.backing, sides.mount, *options, engine=engine) as server:
        attacker = subprocess.Popen([*command, *paths], start_new_session=True)
        try:
            yield Mirror(sides.mount, sides.backing, server)
            assert attacker.poll() is None
        finally:
            os.killpg(attacker.pid, signal.SIGKILL)
            attacker.wait()
            wait_until(lambda: is_over(attacker.pid), "the end of what the attacker has started")
            while unmounted(above / "b"):
                pass


def is_over(group: int) -> bool:
    """Tell whether a process group has no process any more."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def unmounted(directory: Path) -> bool:
    """Take a mount away that the attacker has left; tell whether there was one."""
    command = ["umount", "-l", str(directory)]
    return subprocess.call(command, stderr=subprocess.DEVNULL) == 0


def test_an_attack_from_below_leads_nowhere_else(attacked: Mirror, tmp_path: Path) -> None:
    """For as long as it lasts, no byte outside is read, written, created or removed.

    The one who works on the mirror has it as root directory (chroot(2)), so that only the mirror's process
    can be led outside by a link.
    """
    outside = tmp_path / "outside"
    with Child(lambda: work_below(attacked.mount)) as worker:
        assert worker.result(SECONDS + 20) > 0
    assert os.listdir(str(outside)) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_mode & 0o777 == 0o644
    assert "Traceback" not in attacked.server.errors


def work_below(mount: Path) -> int:
    """Use every kind of call below the attacked directory; return how many went well."""
    signal.alarm(int(SECONDS) + 20)
    os.chroot(str(mount))
    inside = Path("/a/b")
    attempts = (
        lambda: read_public(inside / "secret"),
        lambda: (inside / "new").write_text("new"),
        lambda: (inside / "directory").mkdir(),
        lambda: os.link(str(inside / "secret"), str(inside / "link")),
        lambda: (inside / "secret").chmod(0o600),
        lambda: os.chown(str(inside / "secret"), 0, 0),
        lambda: os.utime(str(inside / "secret")),
        lambda: os.truncate(str(inside / "secret"), 6),
        lambda: os.setxattr(str(inside / "secret"), "user.name", b"value"),
        lambda: os.symlink("target", str(inside / "symlink")),
        lambda: os.mknod(str(inside / "node")),
        lambda: os.listdir(str(inside)),
        lambda: read_public(inside / ".." / "b" / "secret"),
        *(remover(inside / name) for name in ("link", "symlink", "node", "new", "newer")),
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


def make_tree(directory: Path) -> None:
    """Make directories in directories, with files in all of them."""
    for number in range(6):
        (directory / f"sub{number}" / "deeper").mkdir(parents=True)
        for name in ("one", "two", "deeper/three", "deeper/four"):
            (directory / f"sub{number}" / name).write_text("content")


def files_below(directory: Path) -> List[str]:
    """Return the files in a tree."""
    return sorted(str(path) for path in directory.rglob("*") if path.is_file())


def remove_below(directory: int) -> None:
    """Remove what is in an open directory, as rm -r does; what cannot be is left."""
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=directory)
                continue
            with opened(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory) as below:
                remove_below(below)
            os.rmdir(name, dir_fd=directory)


def test_removing_a_tree_takes_nothing_from_one_that_is_put_in_its_place(sides: Sides) -> None:
    """However often, and whenever, the two change places in the backing directory."""
    kept = sides.backing / "kept"
    make_tree(kept)
    files = files_below(kept)

    def swap() -> None:
        with opened(str(sides.backing), os.O_PATH) as root:
            for _ in range(50):
                for _ in "there", "back":
                    syscalls.renameat2(root, "tree", root, "kept", syscalls.RENAME_EXCHANGE)
                    time.sleep(0.001)

    with passthrough(sides.backing, sides.mount):
        for number in range(8):
            make_tree(sides.backing / "tree")
            with opened(str(sides.mount / "tree"), os.O_RDONLY) as directory:
                with Child(swap) as swapper:
                    for _ in range(5):
                        remove_below(directory)
                    swapper.result()
            assert files_below(kept) == files
            (sides.backing / "tree").rename(sides.backing / f"removed{number}")


def is_waiting(pid: int) -> bool:
    """Tell whether a process runs cat and sleeps in the kernel: proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat") as file:
        name, _, rest = file.read().rpartition(")")
    return name.endswith("(cat") and rest.split()[0] in "SD"


def test_a_fifo_in_a_files_place_stops_nobody(engine: str, sides: Sides) -> None:
    """Who opens it may wait for its other end, but not the server, and so not the others."""
    (sides.backing / "file").write_bytes(b"content")
    with passthrough(sides.backing, sides.mount, engine=engine, switches=["-s"]):
        assert (sides.mount / "file").is_file()
        (sides.backing / "file").unlink()
        os.mkfifo(str(sides.backing / "file"))
        command = ["cat", str(sides.mount / "file")]
        reader = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: reader.poll() is not None or is_waiting(reader.pid), "a reader")
            with Child(lambda: os.listdir(str(sides.mount))) as other:
                assert other.result(10) == ["file"]
        finally:
            reader.kill()
            reader.wait()


def remover(path: Path) -> Callable[[], None]:
    """Return a function that removes a name."""
    return path.unlink


def read_public(path: Path) -> None:
    """Read a file, and fail for good when it is the one outside."""
    if path.read_text() not in ("public", ""):
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


@pytest.mark.parametrize("switches", [[], ["-s"]], ids=["threads", "alone"])
def test_the_mount_point_may_be_moved_past_the_mirror(
    engine: str, tmp_path: Path, switches: list
) -> None:
    """Whoever renames what it lies in takes the mount along; it is not entered by its new path either."""
    root = tmp_path / "root"
    mountpoint = root / "directory" / "mirror"
    mountpoint.mkdir(parents=True)
    (mountpoint / "covered").write_text("covered")
    with passthrough(root, mountpoint, "nonempty", engine=engine, switches=switches) as server:
        try:
            assert os.listdir(str(mountpoint / "directory" / "mirror")) == ["covered"]
            (root / "directory").rename(root / "renamed")
            moved = root / "renamed" / "mirror"
            assert walked(moved)[-1] == "covered"
            assert (moved / "renamed" / "mirror" / "covered").read_text() == "covered"
            (root / "renamed").rename(tmp_path / "away")
            assert os.listdir(str(tmp_path / "away" / "mirror")) == []
        finally:
            for place in (root / "renamed", tmp_path / "away"):
                unmount(place / "mirror")
            server.wait()


def walked(directory: Path) -> List[str]:
    """Return the names that find(1) prints; it ends only where nothing is entered twice."""
    found = subprocess.run(
        ["find", str(directory), "-ls"], stdout=subprocess.PIPE, timeout=20, check=True
    )
    return [line.rpartition("/")[2] for line in found.stdout.decode().splitlines()]

"""What `-o watch` promises: others' changes are seen at once, although the kernel may cache for an hour."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from fusepy_legacy.errors import EXIT_USAGE
from tests.mounted.commands import wait_until
from tests.mounted.mounting import Sides, is_mounted, passthrough

pytestmark = pytest.mark.parametrize("engine", ["kernel"], indirect=True)

AT_ONCE = 0.9  # seconds; before anything is said a second time


@pytest.fixture
def watched(sides: Sides, engine: str) -> Iterator[Sides]:
    """A mirror that watches; the directory "known" with "file" in it is in the kernel's cache."""
    (sides.backing / "known").mkdir()
    (sides.backing / "known" / "file").write_text("old")
    with passthrough(sides.backing, sides.mount, "watch") as server:
        known = sides.mount / "known"
        assert (known / "file").read_text() == "old"
        assert not (known / "missing").exists()
        yield sides
    assert server.errors == ""


def test_the_kernel_does_not_ask_again(sides: Sides, engine: str) -> None:
    """What nobody changed is answered from the cache, attributes and missing names alike."""
    file, missing = sides.mount / "file", sides.mount / "missing"
    (sides.backing / "file").write_text("data")
    with passthrough(sides.backing, sides.mount, "watch", "debug") as server:
        status = os.stat(str(file))
        assert not missing.exists()
        asked = server.errors
        assert "LOOKUP" in asked
        for _ in range(3):
            assert os.stat(str(file)) == status
            assert not missing.exists()
        assert server.errors == asked


def test_a_new_file_is_there(watched: Sides) -> None:
    """A name that the kernel remembers as missing appears."""
    (watched.backing / "known" / "missing").write_text("new")
    wait_until((watched.mount / "known" / "missing").exists, "the new file", AT_ONCE)


def test_a_removed_file_is_gone(watched: Sides) -> None:
    """A name that the kernel knows goes, and its directory has another time."""
    shown, real = watched.mount / "known", watched.backing / "known"
    (watched.backing / "known" / "file").unlink()
    wait_until(lambda: not (watched.mount / "known" / "file").exists(), "the removal", AT_ONCE)
    new = real.stat().st_mtime_ns
    wait_until(lambda: shown.stat().st_mtime_ns == new, "the directory's new time", AT_ONCE)


def test_a_renamed_directory_has_moved(watched: Sides) -> None:
    """What is below a renamed directory is found by its new path only."""
    (watched.backing / "known").rename(watched.backing / "other")
    wait_until((watched.mount / "other" / "file").exists, "the new path", AT_ONCE)
    wait_until(lambda: not (watched.mount / "known").exists(), "the end of the old", AT_ONCE)


@pytest.mark.parametrize("kernel_io", [True, False])
def test_other_content(sides: Sides, engine: str, kernel_io: bool) -> None:
    """Data and size are the new ones, also in the page cache."""
    (sides.backing / "file").write_text("old")
    options = ["watch", "kernel_cache"] if kernel_io else ["watch", "kernel_cache", "no_kernel_io"]
    with passthrough(sides.backing, sides.mount, *options):
        shown = sides.mount / "file"
        assert shown.read_text() == "old"
        (sides.backing / "file").write_text("newer")
        wait_until(lambda: shown.read_text() == "newer", "the new content", AT_ONCE)
        assert shown.stat().st_size == len("newer")


def test_another_link(watched: Sides) -> None:
    """The link count is right through the name that was there before."""
    os.link(str(watched.backing / "known" / "file"), str(watched.backing / "second"))
    shown = watched.mount / "known" / "file"
    wait_until(lambda: shown.stat().st_nlink == 2, "the second link", AT_ONCE)
    (watched.backing / "second").unlink()
    wait_until(lambda: shown.stat().st_nlink == 1, "the second link's end", AT_ONCE)


def test_attributes(watched: Sides) -> None:
    """chmod on a file and on a directory is seen."""
    for name in "known/file", "known":
        (watched.backing / name).chmod(0o700)
        wait_until(
            lambda name=name: (watched.mount / name).stat().st_mode & 0o777 == 0o700,
            f"the mode of {name}",
            AT_ONCE,
        )


def test_many_changes(watched: Sides) -> None:
    """Thousands of changes by another process end in the same tree on both sides."""
    program = """if True:
        import os, random
        r = random.Random(1)
        for number in range(3000):
            name, other = f"f{r.randrange(50)}", f"f{r.randrange(50)}"
            try:
                [lambda: open(name, "a").write("x"), lambda: os.rename(name, other),
                 lambda: os.unlink(name), lambda: os.mkdir(name + "d")][r.randrange(4)]()
            except OSError:
                pass
    """
    shown, real = watched.mount / "known", watched.backing / "known"
    changing = subprocess.Popen([sys.executable, "-c", program], cwd=str(real))
    try:
        while changing.poll() is None:
            listing(shown)
    finally:
        changing.kill()
        changing.wait()
    wait_until(lambda: listing(shown) == listing(real), "the same tree")


def listing(directory: Path) -> object:
    """Return names, sizes and kinds as stat(2) by name tells, missing names included."""
    entries = []
    for number in range(50):
        for name in f"f{number}", f"f{number}d":
            try:
                status = os.stat(str(directory / name))
            except FileNotFoundError:
                entries.append((name, 0, 0))
            else:
                size = status.st_size if not name.endswith("d") else 0
                entries.append((name, status.st_mode, size))
    return entries


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("root={},watch,engine=stock", "engine=kernel only"),
        ("roots={}/file,watch", "root=DIR only"),
    ],
)
def test_what_it_does_not_go_with(sides: Sides, engine: str, options: str, said: str) -> None:
    """The user is told in one line, and nothing is mounted."""
    (sides.backing / "file").write_text("[label]\npath = /usr\n")
    words = ["-m", "fusepy_legacy", str(sides.mount), "-o", options.format(sides.backing)]
    ended = subprocess.run([sys.executable, *words], stderr=subprocess.PIPE, timeout=20)
    assert ended.returncode == EXIT_USAGE
    assert said in ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1
    assert not is_mounted(sides.mount)

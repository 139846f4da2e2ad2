"""What `-o watch` promises: others' changes are seen at once, although the kernel may cache for an hour."""

import mmap
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Iterator

import pytest

from fusepy_legacy.errors import EXIT_ROOT, EXIT_USAGE
from tests.mounted.commands import wait_until
from tests.mounted.mounting import (
    Mounted,
    Sides,
    is_mounted,
    passthrough,
    roots_mount,
    tmpfs,
    unmount,
    write_roots,
)

pytestmark = pytest.mark.parametrize("engine", ["kernel"], indirect=True)

AT_ONCE = 0.9  # seconds; before anything is said a second time


@pytest.fixture(params=["root", "roots"])
def watched(sides: Sides, engine: str, request: pytest.FixtureRequest) -> Iterator[Sides]:
    """A mirror that watches; the directory "known" with "file" in it is in the kernel's cache.

    It is the root, or the second of two roots on different filesystems.
    """
    (sides.backing / "known").mkdir()
    (sides.backing / "known" / "file").write_text("old")
    with ExitStack() as stack:
        if request.param == "root":
            shown = sides.mount
            server = stack.enter_context(passthrough(sides.backing, sides.mount, "watch"))
        else:
            shown = sides.mount / "second"
            first = another_filesystem(sides, stack)
            file = write_roots(sides.mount.parent / "roots", first=[first], second=[sides.backing])
            server = stack.enter_context(roots_mount(file, sides.mount, "watch"))
        known = shown / "known"
        assert (known / "file").read_text() == "old"
        assert not (known / "missing").exists()
        yield Sides(shown, sides.backing)
    assert server.errors == ""


def another_filesystem(sides: Sides, stack: ExitStack, name: str = "tmpfs") -> Path:
    """Mount a filesystem beside the two directories."""
    directory = sides.mount.parent / name
    directory.mkdir()
    stack.enter_context(tmpfs(directory, "size=1m"))
    return directory


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


@pytest.mark.parametrize("through_the_mount", [True, False])
def test_a_mapping_that_was_written_through(watched: Sides, through_the_mount: bool) -> None:
    """Writing makes no event; the times and the content are the new ones when it is closed and unmapped."""
    shown, real = watched.mount / "known" / "file", watched.backing / "known" / "file"
    with (shown if through_the_mount else real).open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 3)
    os.utime(str(shown), (0, 0))
    assert shown.stat().st_mtime == 0
    mapping[:] = b"new"
    mapping.close()
    wait_until(lambda: shown.stat().st_mtime > 0, "the new time", AT_ONCE)
    assert shown.stat().st_mtime_ns == real.stat().st_mtime_ns
    assert shown.read_text() == real.read_text() == "new"


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


def test_a_file_has_the_inode_number_of_a_directory(watched: Sides) -> None:
    """That was removed a moment before: what is said of the directory a second time is of no file."""
    directory, names = watched.backing / "directory", [f"file-{number}" for number in range(20)]
    directory.mkdir()
    number = (watched.mount / "directory").stat().st_ino
    inner = watched.mount / "directory" / "name"
    assert not inner.exists()
    (directory / "name").touch()
    wait_until(inner.exists, "the name", AT_ONCE)
    (directory / "name").unlink()
    directory.rmdir()
    for name in names:
        (watched.backing / name).touch()
    if number not in [(watched.mount / name).stat().st_ino for name in names]:
        pytest.skip("this filesystem does not use a number again so soon")
    time.sleep(1.5)  # all has been said again
    (watched.backing / names[0]).unlink()
    wait_until(lambda: not (watched.mount / names[0]).exists(), "its end", AT_ONCE)


UNWATCHED = """
import os, sys
from fusepy_legacy.passthrough import Passthrough
from fusepy_legacy.root import Root
def look(root):
    raise ValueError("a defect")
Root.await_missing = look
sys.exit(Passthrough().run())
"""


def test_without_its_thread_the_kernel_asks_again_soon(sides: Sides, engine: str) -> None:
    """Nobody tells of changes any more, so nothing is cached for longer than a second."""
    (sides.backing / "file").write_text("old")
    program = ["-c", UNWATCHED]
    with passthrough(sides.backing, sides.mount, "watch", program=program) as server:
        wait_until(lambda: "not noticed any more" in server.errors, "the end of the thread")
        file, missing = sides.mount / "file", sides.mount / "missing"
        assert file.stat().st_size == 3
        assert not missing.exists()
        (sides.backing / "file").write_text("newer")
        (sides.backing / "missing").touch()
        wait_until(lambda: file.stat().st_size == 5, "the new size", 1 + AT_ONCE)
        wait_until(missing.exists, "the new file", 1 + AT_ONCE)


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        ("root={},watch,engine=stock", "engine=kernel only", EXIT_USAGE),
        ("roots={}/file,watch,engine=stock", "engine=kernel only", EXIT_USAGE),
        ("root=/proc,watch", "root /proc: -o watch: ", EXIT_ROOT),
        ("roots={}/file,watch", "/file:2: /proc: -o watch: ", EXIT_ROOT),
    ],
)
def test_what_it_does_not_go_with(
    sides: Sides, engine: str, options: str, said: str, code: int
) -> None:
    """The user is told in one line, and nothing is mounted; /proc has no file handles."""
    (sides.backing / "file").write_text("[label]\npath = /proc\n")
    words = ["-m", "fusepy_legacy", str(sides.mount), "-o", options.format(sides.backing)]
    ended = subprocess.run([sys.executable, *words], stderr=subprocess.PIPE, timeout=20)
    assert ended.returncode == code
    assert said in ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1
    assert not is_mounted(sides.mount)


# Several roots


def reload(server: Mounted, word: str = ": reloaded") -> None:
    """Send the signal and wait until the log says what came of it."""
    before = server.errors.count(word)
    os.kill(server.pid, signal.SIGUSR1)
    wait_until(lambda: server.errors.count(word) > before, f"{word}: {server.errors}")


def marks(server: Mounted) -> int:
    """Return how many filesystems the server watches."""
    return server.descriptors().count("anon_inode:[fanotify]")


def test_each_root_is_watched(sides: Sides, engine: str) -> None:
    """On one filesystem or on several, and two that show the same directory both."""
    with ExitStack() as stack:
        other = another_filesystem(sides, stack)
        (sides.backing / "inner").mkdir()
        roots = {"one": sides.backing, "two": other, "same": sides.backing}
        roots["inner"] = sides.backing / "inner"
        roots["nested/label"] = other
        file = write_roots(
            sides.mount.parent / "roots",
            **{
                label: [path, "read_only = yes", "overlapping = yes"]
                for label, path in roots.items()
            },
        )
        server = stack.enter_context(roots_mount(file, sides.mount, "watch"))
        assert marks(server) == 2
        for label in roots:
            assert not (sides.mount / label / "new").exists()
        for path in (sides.backing, sides.backing / "inner", other):
            (path / "new").write_text("new")
        for label in roots:
            shown = sides.mount / label / "new"
            wait_until(shown.exists, f"the new file in {label}", AT_ONCE)
            assert shown.stat().st_size == 3
        for path in (sides.backing, sides.backing / "inner", other):
            (path / "new").write_text("newer")
        for label in roots:
            shown = sides.mount / label / "new"
            wait_until(lambda shown=shown: shown.stat().st_size == 5, f"{label}'s size", AT_ONCE)


def test_roots_come_and_go(sides: Sides, engine: str) -> None:
    """Labels that the kernel remembers as missing, or as there; what comes is watched, what goes not."""
    with ExitStack() as stack:
        new = another_filesystem(sides, stack)
        file = sides.mount.parent / "roots"
        write_roots(file, one=[sides.backing])
        server = stack.enter_context(roots_mount(file, sides.mount, "watch"))
        shown = sides.mount / "nested" / "two"
        assert os.listdir(str(sides.mount)) == ["one"]
        assert not shown.exists()
        assert marks(server) == 1

        write_roots(file, one=[sides.backing], **{"nested/two": [new]})
        reload(server)
        wait_until(shown.exists, "the new root", AT_ONCE)
        assert os.listdir(str(sides.mount)) == ["one", "nested"]
        assert marks(server) == 2
        assert not (shown / "file").exists()
        (new / "file").touch()
        wait_until((shown / "file").exists, "the new file", AT_ONCE)
        assert not (sides.mount / "one" / "file").exists()

        (sides.backing / "file").touch()
        wait_until((sides.mount / "one" / "file").exists, "the first root's file", AT_ONCE)
        assert os.listdir(str(sides.mount / "one")) == ["file"]
        write_roots(file, one=[sides.backing, "exclude = file"])
        reload(server)
        wait_until(lambda: not (sides.mount / "nested").exists(), "the label's end", AT_ONCE)
        wait_until(lambda: not (sides.mount / "one" / "file").exists(), "the new rules", AT_ONCE)
        assert os.listdir(str(sides.mount)) == ["one"]
        assert os.listdir(str(sides.mount / "one")) == []
        wait_until(lambda: marks(server) == 1, "the end of the watch")
        unmount(new)  # nothing of it is held


def test_a_label_leads_to_another_directory(sides: Sides, engine: str) -> None:
    """What was missing in the old one, and is remembered so, is found in the new one."""
    old = sides.backing / "old"
    new = sides.backing / "new"
    for path in old, new:
        (path / "directory").mkdir(parents=True)
    (new / "directory" / "file").touch()
    file = write_roots(sides.mount.parent / "roots", label=[old])
    with roots_mount(file, sides.mount, "watch") as server:
        shown = sides.mount / "label" / "directory" / "file"
        assert not shown.exists()
        write_roots(file, label=[new])
        reload(server)
        wait_until(shown.exists, "the file", AT_ONCE)


def test_a_removed_root_goes_with_its_last_file(sides: Sides, engine: str) -> None:
    """The label is in the cache until then, and changes below it are noticed."""
    going = sides.backing / "going"
    staying = sides.backing / "staying"
    for path in going, staying:
        path.mkdir()
    file = write_roots(sides.mount.parent / "roots", going=[going], staying=[staying])
    with roots_mount(file, sides.mount, "watch") as server:
        shown = sides.mount / "going"
        with (shown / "file").open("w"):
            write_roots(file, staying=[staying])
            reload(server)
            assert os.listdir(str(sides.mount)) == ["staying", "going"]
            assert not (shown / "new").exists()
            (going / "new").touch()
            wait_until((shown / "new").exists, "the new file", AT_ONCE)
        wait_until(lambda: not shown.exists(), "the label's end", 2 * AT_ONCE)
        assert os.listdir(str(sides.mount)) == ["staying"]


def test_an_optional_root_appears(sides: Sides, engine: str) -> None:
    """Although the kernel remembers that it is missing; then it is watched."""
    missing = sides.backing / "missing"
    lines = [missing, "optional = yes"]
    file = write_roots(sides.mount.parent / "roots", later=lines, gone=["/gone", "optional = yes"])
    with roots_mount(file, sides.mount, "watch") as server:
        shown = sides.mount / "later"
        assert not shown.exists()
        assert os.listdir(str(sides.mount)) == []
        assert marks(server) == 0
        missing.mkdir()
        wait_until(shown.exists, "the root", 1 + AT_ONCE)
        assert os.listdir(str(sides.mount)) == ["later"]
        assert marks(server) == 1
        assert not (shown / "file").exists()
        (missing / "file").touch()
        wait_until((shown / "file").exists, "the file", AT_ONCE)


def test_a_root_that_cannot_be_watched_is_refused(sides: Sides, engine: str) -> None:
    """Everything stays as it is, and the log says why; an optional one stays away, and it is said once."""
    file = write_roots(sides.mount.parent / "roots", one=[sides.backing])
    later = sides.mount.parent / "later"
    with roots_mount(file, sides.mount, "watch") as server:
        write_roots(file, one=[sides.backing], two=["/proc"])
        reload(server, "not reloaded")
        assert "/roots:5: /proc: -o watch: " in server.errors
        assert os.listdir(str(sides.mount)) == ["one"]
        assert marks(server) == 1
        write_roots(file, one=[sides.backing], two=[later, "optional = yes"])
        reload(server)
        later.symlink_to("/proc")
        wait_until(lambda: "[two] skipped: " in server.errors, "the reason")
        assert not (sides.mount / "two").exists()
        assert not (sides.mount / "two").exists()
        assert server.errors.count("[two] skipped: ") == 1

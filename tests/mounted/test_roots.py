"""Several directories at one mount: labels, what is hidden, what is refused, and the file read again.

That a root of several keeps what a single one promises is test_conformance's matter.
"""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence

import pytest

from tests.mounted.commands import Word, output_of, run, wait_until
from tests.mounted.conformance.descriptors import opened
from tests.mounted.conformance.expectations import raises_errno
from tests.mounted.conformance.libc import RENAME_EXCHANGE, renameat2
from tests.mounted.mounting import Mounted, passthrough, roots_mount, tmpfs, write_roots

NOW = ("entry_timeout=0", "attr_timeout=0")  # what changes below shows at once
HIDING = [
    "exclude =",
    "    *.o",
    "    !kept.o",
    "    build/",
    "    /secret",
    "    /only/*",
    "    !/only/*/",
]


class Place(NamedTuple):
    """A directory that holds the mount point, the roots file, and the roots by their names."""

    path: Path

    @property
    def mount(self) -> Path:
        """The mount point."""
        return self.path / "mount"

    def root(self, name: str) -> Path:
        """Return a root's directory, made when it is missing."""
        (self.path / name).mkdir(exist_ok=True)
        return self.path / name

    def write(self, **roots: Sequence[Word]) -> Path:
        """Write the roots file: the directory of each label and its other lines."""
        return write_roots(self.path / "roots.ini", **roots)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    (tmp_path / "mount").mkdir()
    return Place(tmp_path)


@pytest.fixture
def two(engine: str, place: Place) -> Iterator[Mounted]:
    """A mount of the roots `one` and `two`."""
    file = place.write(one=[place.root("one")], two=[place.root("two")])
    with roots_mount(file, place.mount, *NOW, engine=engine) as server:
        yield server


@pytest.fixture
def hiding(engine: str, place: Place) -> Iterator[Path]:
    """The path on the mount of a root that hides some names; the backing directory is `one`."""
    one = place.root("one")
    for name in ("build", "only", "only/inside", "directory", "directory/build"):
        (one / name).mkdir()
    for name in ("secret", "a.o", "kept.o", "file", "build/x", "only/file", "only/inside/file"):
        (one / name).write_text("there")
    file = place.write(one=[one, *HIDING])
    with roots_mount(file, place.mount, *NOW, engine=engine):
        yield place.mount / "one"


# The directories above the roots


def test_the_top_lists_the_labels_in_the_order_of_the_file(engine: str, place: Place) -> None:
    """Nested labels have virtual directories above them; none may be written to, and their numbers stay."""
    labels = {"zebra": place.root("z"), "photos/2026": place.root("p"), "ape": place.root("a")}
    file = place.path / "roots.ini"
    file.write_text("".join(f"[{label}]\npath = {path}\n" for label, path in labels.items()))
    (place.path / "p" / "picture").write_text("picture")
    numbers = []
    for _ in range(2):
        with roots_mount(file, place.mount, engine=engine):
            assert os.listdir(str(place.mount)) == ["zebra", "photos", "ape"]
            assert (place.mount / "photos" / "2026" / "picture").read_text() == "picture"
            assert os.listdir(str(place.mount / "photos")) == ["2026"]
            found = []
            for path in place.mount, place.mount / "photos":
                status = path.stat()
                found.append(status.st_ino)
                assert status.st_mode == 0o40555
                assert status.st_mtime == int(file.stat().st_mtime) or engine == "kernel"
                assert status.st_nlink == 2 + len(os.listdir(str(path)))
                assert os.listxattr(str(path)) == []
            assert output_of("find", place.mount, "-type", "d", "-printf", "%P\n").split() == [
                "zebra",
                "photos",
                "photos/2026",
                "ape",
            ]
            numbers.append(found)
    assert numbers[0] == numbers[1]
    assert len(set(numbers[0])) == 2


def test_nothing_can_be_made_above_the_roots(two: Mounted, place: Place) -> None:
    """EROFS, also for what would take a label away; the log says where things can be made."""
    top = place.mount
    for attempt in (
        lambda: (top / "new").mkdir(),
        lambda: (top / "new").touch(),
        lambda: (top / "new").symlink_to("two"),
        lambda: (top / "one").rmdir(),
        lambda: (top / "one").rename(top / "other"),
        lambda: (top / "one").rename(top / "two"),
        lambda: top.chmod(0o777),
        lambda: os.utime(str(top)),
        lambda: os.setxattr(str(top), "user.name", b"value"),
    ):
        with raises_errno(errno.EROFS):
            attempt()
    assert not (top / "new").exists()
    assert "refused to change /new: only in the roots" in two.errors
    assert "(one, two)" in two.errors


def test_statfs_is_that_of_the_root(
    engine: str, place: Place, request: pytest.FixtureRequest
) -> None:
    """Each root answers for its own filesystem, and the top for both together."""
    if engine == "stock":
        reason = "fuse-python 1.0.9 calls statfs without the path"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    one, two = place.root("one"), place.root("two")
    with tmpfs(two, "size=8m"):
        file = place.write(one=[one], two=[two])
        with roots_mount(file, place.mount, engine=engine):
            sizes = {}
            for label in "", "one", "two":
                status = os.statvfs(str(place.mount / label))
                sizes[label] = status.f_blocks * status.f_frsize
            assert sizes["two"] == 8 << 20
            backing = os.statvfs(str(one))
            assert sizes["one"] == backing.f_blocks * backing.f_frsize
            assert abs(sizes[""] - sizes["one"] - sizes["two"]) <= 8192
            for label, size in sizes.items():
                shown = output_of("df", "-B1", "--output=size", place.mount / label).split()
                assert int(shown[1]) == size


# Between roots


def test_a_file_moves_between_roots_as_between_filesystems(two: Mounted, place: Place) -> None:
    """rename and link give EXDEV, so that mv copies; ln fails."""
    (place.mount / "one" / "file").write_text("data")
    with raises_errno(errno.EXDEV):
        (place.mount / "one" / "file").rename(place.mount / "two" / "file")
    with raises_errno(errno.EXDEV):
        os.link(str(place.mount / "one" / "file"), str(place.mount / "two" / "file"))
    output_of("mv", place.mount / "one" / "file", place.mount / "two" / "file")
    assert (place.path / "two" / "file").read_text() == "data"
    assert os.listdir(str(place.path / "one")) == []


def link_nameless(descriptor: int, directory: Path) -> None:
    """Give a file without a name one in a directory: linkat(2), which takes a directory's descriptor."""
    with opened(str(directory), os.O_RDONLY | os.O_DIRECTORY) as where:
        os.link(f"/proc/self/fd/{descriptor}", "name", dst_dir_fd=where, follow_symlinks=True)


def test_a_nameless_file_gets_no_name_in_another_root(place: Place) -> None:
    """linkat of an O_TMPFILE file works in its own root, and is EXDEV in the other."""
    file = place.write(one=[place.root("one")], two=[place.root("two")])
    with roots_mount(file, place.mount):
        descriptor = os.open(str(place.mount / "one"), os.O_TMPFILE | os.O_WRONLY)
        try:
            with raises_errno(errno.EXDEV):
                link_nameless(descriptor, place.mount / "two")
            link_nameless(descriptor, place.mount / "one")
        finally:
            os.close(descriptor)
    assert (place.path / "one" / "name").exists()


def test_files_of_two_filesystems_never_share_a_number(engine: str, place: Place) -> None:
    """Equal numbers below differ on the mount, the same at each mount; the first root keeps its own."""
    one, two = place.root("one"), place.root("two")
    with tmpfs(one, "size=1m,mode=755"), tmpfs(two, "size=1m,mode=755"):
        for directory in one, two:
            for name in "abc":
                (directory / name).write_text(name)
            os.link(str(directory / "a"), str(directory / "link"))
        below = [(directory / "a").stat().st_ino for directory in (one, two)]
        assert below[0] == below[1]  # or the test shows nothing
        file = place.write(one=[one], two=[two])
        seen = []
        for _ in range(2):
            with roots_mount(file, place.mount, engine=engine):
                numbers = {}
                for path in sorted(place.mount.rglob("*")):
                    numbers[str(path.relative_to(place.mount))] = path.stat().st_ino
                    with os.scandir(str(path.parent)) as entries:
                        listed = {entry.name: entry.inode() for entry in entries}
                    assert listed[path.name] == path.stat().st_ino
                with (place.mount / "two" / "a").open() as file_object:
                    assert os.fstat(file_object.fileno()).st_ino == numbers["two/a"]
            seen.append(numbers)
        assert seen[0] == seen[1]
        assert seen[0]["one/a"] == below[0]
        assert seen[0]["two/a"] == seen[0]["two/link"]
        assert len(set(seen[0].values())) == len(seen[0]) - 2


def test_two_labels_may_show_one_directory(engine: str, place: Place) -> None:
    """Said and read-only, a root may lie inside another; what one changes, the other shows."""
    outer = place.root("outer")
    (outer / "inner").mkdir()
    file = place.write(
        outer=[outer], inner=[outer / "inner", "read_only = yes", "overlapping = yes"]
    )
    with roots_mount(file, place.mount, *NOW, engine=engine):
        (place.mount / "outer" / "inner" / "file").write_text("one")
        assert (place.mount / "inner" / "file").read_text() == "one"
        (place.mount / "outer" / "inner" / "file").write_text("two")
        assert (place.mount / "inner" / "file").read_text() == "two"
        assert (place.mount / "outer" / "inner" / "file").read_text() == "two"
        with raises_errno(errno.EROFS):
            (place.mount / "inner" / "file").write_text("three")


# Read-only roots


def test_nothing_changes_in_a_read_only_root(engine: str, place: Place) -> None:
    """Every kind of change gives EROFS, through names and through open files; reading goes on."""
    one = place.root("one")
    (one / "directory").mkdir()
    (one / "file").write_text("data")
    os.setxattr(str(one / "file"), "user.name", b"value")
    before = (one / "file").stat()
    file = place.write(one=[one, "read_only = yes"])
    with roots_mount(file, place.mount, *NOW, engine=engine):
        root = place.mount / "one"
        path = str(root / "file")
        for attempt in (
            lambda: (root / "file").write_text("other"),
            lambda: (root / "new").write_text("new"),
            lambda: (root / "new").mkdir(),
            lambda: (root / "new").symlink_to("file"),
            lambda: os.mkfifo(str(root / "new")),
            lambda: os.link(path, str(root / "new")),
            lambda: os.rename(path, str(root / "new")),
            lambda: os.unlink(path),
            lambda: (root / "directory").rmdir(),
            lambda: os.chmod(path, 0o600),
            lambda: os.chown(path, 1, 1),
            lambda: os.utime(path, (1, 1)),
            lambda: os.truncate(path, 1),
            lambda: os.setxattr(path, "user.other", b"value"),
            lambda: os.removexattr(path, "user.name"),
        ):
            with raises_errno(errno.EROFS):
                attempt()
        assert "Read-only file system" in run(["chattr", "+d", path]).errors
        assert (root / "file").read_text() == "data"
        assert os.getxattr(path, "user.name") == b"value"
    assert (one / "file").stat().st_ctime_ns == before.st_ctime_ns
    assert sorted(os.listdir(str(one))) == ["directory", "file"]


def test_nor_in_a_file_of_it_that_has_lost_its_name(place: Place) -> None:
    """An open file's attributes cannot be changed either."""
    one = place.root("one")
    (one / "file").write_text("data")
    file = place.write(one=[one, "read_only = yes"])
    with roots_mount(file, place.mount, *NOW), (place.mount / "one" / "file").open() as file_object:
        (one / "file").unlink()
        for attempt in (
            lambda: os.fchmod(file_object.fileno(), 0),
            lambda: os.fchown(file_object.fileno(), 1, 1),
            lambda: os.utime(file_object.fileno(), (1, 1)),
        ):
            with raises_errno(errno.EROFS):
                attempt()


# Hidden names


def test_hidden_names_are_not_listed(hiding: Path) -> None:
    """Only what the patterns leave is in listings; a hidden directory hides all below it."""
    shown = output_of("find", ".", "-mindepth", "1", cwd=hiding).split()
    assert sorted(shown) == ["./directory", "./file", "./kept.o", "./only", "./only/inside"] + [
        "./only/inside/file"
    ]


@pytest.mark.parametrize(
    "name", ["secret", "a.o", "build", "build/x", "directory/build", "only/file"]
)
def test_hidden_names_are_not_found_by_guessing(hiding: Path, name: str) -> None:
    """Whatever is tried with a hidden name, it does not exist."""
    path = str(hiding / name)
    for attempt in (
        lambda: os.stat(path),
        lambda: os.open(path, os.O_RDONLY),
        lambda: os.open(path, os.O_WRONLY),
        lambda: os.listdir(path),
        lambda: os.readlink(path),
        lambda: os.unlink(path),
        lambda: os.rmdir(path),
        lambda: os.chmod(path, 0o777),
        lambda: os.truncate(path, 0),
        lambda: os.listxattr(path),
        lambda: os.rename(path, str(hiding / "visible")),
        lambda: os.link(path, str(hiding / "visible")),
    ):
        with raises_errno(errno.ENOENT):
            attempt()


def test_hidden_names_cannot_be_made(hiding: Path, place: Place) -> None:
    """Neither new nor by a new name for something else, whether there is something below or not."""
    (hiding / "empty").mkdir()
    for name in "new.o", "secret", "a.o", "only/new":
        path = str(hiding / name)
        for attempt in (
            lambda path=path: os.open(path, os.O_CREAT | os.O_WRONLY),
            lambda path=path: os.mkfifo(path),
            lambda path=path: os.symlink("file", path),
            lambda path=path: os.link(str(hiding / "file"), path),
            lambda path=path: os.rename(str(hiding / "file"), path),
        ):
            with raises_errno(errno.ENOENT):
                attempt()
    for name in "new.o", "build", "directory/build":
        with raises_errno(errno.ENOENT):
            (hiding / name).mkdir()
        with raises_errno(errno.ENOENT):
            (hiding / "empty").rename(hiding / name)
    # `build/` is about directories, `/only/*` with its negation about files.
    (hiding / "empty" / "build").write_text("a file")
    (hiding / "only" / "directory").mkdir()
    assert (place.path / "one" / "secret").read_text() == "there"
    assert (place.path / "one" / "file").read_text() == "there"


def test_names_are_not_exchanged_into_hiding(place: Place) -> None:
    """RENAME_EXCHANGE of a file and a directory is refused where one would get a hidden name by it."""
    one = place.root("one")
    (one / "sub").mkdir()
    (one / "sub" / "build").write_text("a file may be called so")
    (one / "directory").mkdir()
    with roots_mount(place.write(one=[one, "exclude = build/"]), place.mount):
        root = place.mount / "one"
        with raises_errno(errno.ENOENT):
            renameat2(root / "sub" / "build", root / "directory", RENAME_EXCHANGE)
        with raises_errno(errno.ENOENT):
            renameat2(root / "directory", root / "sub" / "build", RENAME_EXCHANGE)
    assert (one / "sub" / "build").is_file()


def test_a_directory_of_hidden_entries_is_not_empty(hiding: Path, place: Place) -> None:
    """rmdir gives ENOTEMPTY, and so does replacing it by a rename; nothing that is hidden is lost."""
    assert os.listdir(str(hiding / "directory")) == []
    with raises_errno(errno.ENOTEMPTY):
        (hiding / "directory").rmdir()
    (hiding / "other").mkdir()
    with raises_errno(errno.ENOTEMPTY):
        (hiding / "other").rename(hiding / "directory")
    assert (place.path / "one" / "directory" / "build").is_dir()


# One filesystem


@pytest.mark.parametrize("several", [False, True], ids=["root", "roots"])
def test_other_filesystems_are_shown_as_empty_directories(
    engine: str, place: Place, several: bool
) -> None:
    """With one_file_system a mount point is a directory that is empty and stays so."""
    one = place.root("one")
    for name in ("own", "own/foreign", "own/foreign/covered"):
        (one / name).mkdir()
    (one / "bound").write_text("below")
    foreign = one / "own" / "foreign"
    with tmpfs(foreign, "size=1m"):
        (foreign / "directory").mkdir()
        (foreign / "file").write_text("foreign")
        output_of("mount", "--bind", foreign / "file", one / "bound")
        try:
            if several:
                file = place.write(one=[one, "one_file_system = yes"])
                server = roots_mount(file, place.mount, *NOW, engine=engine)
                root = place.mount / "one"
            else:
                server = passthrough(one, place.mount, "one_file_system", *NOW, engine=engine)
                root = place.mount
            with server:
                shown = output_of("find", ".", "-mindepth", "1", cwd=root).split()
                assert sorted(shown) == ["./own", "./own/foreign"]
                hidden = root / "own" / "foreign"
                for name in "file", "directory", "directory/x":
                    with raises_errno(errno.ENOENT):
                        (hidden / name).stat()
                with raises_errno(errno.ENOENT):
                    (root / "bound").read_text()
                for attempt in (
                    lambda: (hidden / "new").mkdir(),
                    lambda: (hidden / "new").touch(),
                    lambda: hidden.chmod(0o700),
                ):
                    with raises_errno(errno.EROFS):
                        attempt()
                (root / "own" / "new").write_text("new")
                assert (one / "own" / "new").read_text() == "new"
        finally:
            output_of("umount", one / "bound")


def test_without_the_option_other_filesystems_show_without_colliding(
    engine: str, place: Place
) -> None:
    """Files of a filesystem below the root have numbers that no file of the root's own has."""
    one = place.root("one")
    (one / "foreign").mkdir()
    with tmpfs(one, "size=1m,mode=755"):
        (one / "foreign").mkdir()
        (one / "file").write_text("own")
        with tmpfs(one / "foreign", "size=1m"):
            (one / "foreign" / "one").write_text("foreign")
            (one / "foreign" / "two").write_text("foreign")
            assert (one / "foreign" / "two").stat().st_ino == (one / "file").stat().st_ino
            with passthrough(one, place.mount, engine=engine):
                paths = list(place.mount.rglob("*"))
                assert len({path.stat().st_ino for path in paths}) == len(paths) == 4
                number = (one / "file").stat().st_ino
                assert (place.mount / "file").stat().st_ino == number


# Read again


def reload(server: Mounted, word: str = "reloaded") -> None:
    """Send the signal and wait until the log says what came of it."""
    before = server.errors.count(word)
    os.kill(server.pid, signal.SIGUSR1)
    wait_until(lambda: server.errors.count(word) > before, f"{word}: {server.errors}")


def test_the_signal_brings_and_takes_roots(two: Mounted, place: Place) -> None:
    """An added root appears at once, a removed one goes, changed rules hold."""
    (place.path / "two" / "file.o").write_text("data")
    assert (place.mount / "two" / "file.o").exists()
    place.write(two=[place.root("two"), "exclude = *.o"], three=[place.root("three")])
    reload(two)
    assert os.listdir(str(place.mount)) == ["two", "three"]
    assert not (place.mount / "two" / "file.o").exists()
    assert not (place.mount / "one").exists()
    (place.mount / "three" / "new").write_text("new")
    assert (place.path / "three" / "new").read_text() == "new"
    assert "[three] added" in two.errors
    assert "[one] removed" in two.errors


def test_a_removed_root_stays_until_its_last_file_is_closed(
    engine: str, two: Mounted, place: Place
) -> None:
    """What is open goes on working, and the label goes with it."""
    with (place.mount / "one" / "file").open("w") as file_object:
        (place.mount / "one" / "directory").mkdir()
        place.write(two=[place.root("two")])
        reload(two)
        file_object.write("after the removal")
        file_object.flush()
        assert os.fstat(file_object.fileno()).st_size == 17
        assert os.listdir(str(place.mount)) == ["two", "one"]
        assert (place.mount / "one" / "directory").is_dir()
    wait_until(lambda: os.listdir(str(place.mount)) == ["two"], "the label to go")
    assert not (place.mount / "one").exists()
    assert (place.path / "one" / "file").read_text() == "after the removal"
    if engine == "kernel":  # the stock engine leaks the file objects of created files
        where = str(place.path / "one")
        wait_until(lambda: where not in two.descriptors(), "its descriptor to be closed")
    assert str(place.path / "two") in two.descriptors()


def test_a_wrong_file_changes_nothing(two: Mounted, place: Place) -> None:
    """The log says why, with file and line, and everything is as it was."""
    (place.mount / "one" / "file").write_text("data")
    wrong = place.write(one=[place.root("one"), "optionnal = yes"])
    reload(two, "not reloaded")
    assert f"not reloaded: {wrong}:3: unknown key: optionnal" in two.errors
    place.write(one=[place.path / "missing"])
    reload(two, "not reloaded")
    assert os.listdir(str(place.mount)) == ["one", "two"]
    assert (place.mount / "one" / "file").read_text() == "data"
    wrong.unlink()
    reload(two, "not reloaded")
    assert os.listdir(str(place.mount)) == ["one", "two"]


def test_an_optional_root_appears_when_its_directory_does(engine: str, place: Place) -> None:
    """Until then its label is not there, and a warning has said so."""
    missing = place.path / "missing"
    file = place.write(one=[place.root("one")], later=[missing, "optional = yes"])
    with roots_mount(file, place.mount, *NOW, engine=engine) as server:
        assert os.listdir(str(place.mount)) == ["one"]
        assert not (place.mount / "later").exists()
        assert f"[later] skipped until it is there: {missing}" in server.errors
        missing.mkdir()
        (missing / "file").write_text("data")
        assert (place.mount / "later" / "file").read_text() == "data"
        assert os.listdir(str(place.mount)) == ["one", "later"]


def test_the_mount_point_may_lie_in_a_root(engine: str, place: Place) -> None:
    """A root that holds the mount shows what is below it, also after the file was read again."""
    (place.mount / "covered").write_text("covered")
    (place.path / "inside").mkdir()
    file = place.path / "roots.ini"
    file.write_text(
        f"[all]\npath = {place.path}\n[below]\npath = {place.mount}\nread_only=1\noverlapping=1\n"
    )
    # On the stock engine without threads, Python's other threads never run.
    switches = ["-s"] if engine == "kernel" else []
    words = (file, place.mount, "nonempty", *NOW)
    with roots_mount(*words, engine=engine, switches=switches) as server:
        for _ in range(2):
            assert os.listdir(str(place.mount / "all" / "mount")) == ["covered"]
            assert (place.mount / "all" / "mount" / "covered").read_text() == "covered"
            assert os.listdir(str(place.mount / "below")) == ["covered"]
            reload(server)
        file.write_text(
            f"[all]\npath = {place.path}\n[loop]\npath = {place.mount}/all\nread_only=1\noverlapping=1\n"
        )
        reload(server, "not reloaded")
        assert "it is in the mount itself" in server.errors


# Starting


def start(*words: Word) -> List[str]:
    """Run the command, which must fail; return its exit code and its last line."""
    outcome = run([sys.executable, "-m", "fusepy_legacy", *words])
    return [str(outcome.code), outcome.errors.strip().splitlines()[-1]]


def test_fstab_has_a_source_that_means_nothing(engine: str, place: Place) -> None:
    """mount(8) hands on the first field of the line, which may be none."""
    file = place.write(one=[place.root("one")])
    words: List[Word] = ["none", place.mount, "-f", "-o", f"engine={engine},roots={file}"]
    with Mounted([sys.executable, "-m", "fusepy_legacy", *words], place.mount):
        assert os.listdir(str(place.mount)) == ["one"]
        with open("/proc/self/mounts") as table:
            assert f"{file} {place.mount} fuse.fusepy-passthrough" in table.read()


def test_relative_symlinks_lead_from_root_to_root(place: Place) -> None:
    """With relative_symlinks, an absolute link into any root leads to its place on the mount."""
    one, two = place.root("one"), place.root("two")
    (two / "file").write_text("data")
    (one / "link").symlink_to(two / "file")
    file = place.write(one=[one], two=[two])
    with roots_mount(file, place.mount, "relative_symlinks"):
        assert os.readlink(str(place.mount / "one" / "link")) == "../two/file"
        assert (place.mount / "one" / "link").read_text() == "data"


def test_what_is_wrong_is_one_line_and_a_code(place: Place) -> None:
    """A wrong file is 23, a missing directory 6, root beside roots 1; nothing is mounted."""
    file = place.write(one=[place.path / "missing"])
    line = f"fusepy-passthrough: {file}:2: {place.path}/missing: No such file or directory"
    assert start(place.mount, "-o", f"roots={file}") == ["6", line]
    file.write_text("path = x\n")
    line = f"fusepy-passthrough: {file}:1: no [label] before: path = x"
    assert start(place.mount, "-o", f"roots={file}") == ["23", line]
    code, line = start(place.mount, "-o", f"roots={file},root=/tmp")
    assert (code, "a mount takes one of them" in line) == ("1", True)
    assert start("--check-roots", place.path / "none")[0] == "23"


def test_a_file_can_be_looked_at_without_mounting(place: Place) -> None:
    """--check-roots says of each root where it is, on what filesystem, and how many entries are hidden."""
    one = place.root("one")
    for name in "a.o", "b.o", "c":
        (one / name).touch()
    file = place.path / "roots.ini"
    file.write_text(
        f"[one]\npath = {one}\nexclude = *.o\nread_only = yes\n"
        f"[shared/memory]\npath = /dev/shm\n[x]\npath = {one}-no\noptional = 1\n"
    )
    command = [sys.executable, "-m", "fusepy_legacy", "--check-roots", str(file)]
    lines = subprocess.check_output(command, universal_newlines=True).splitlines()
    assert lines[0].startswith(f"one: {one}, ")
    assert lines[0].endswith(", read_only, hides 2 of 3 entries at its top")
    assert lines[1] == "shared/memory: /dev/shm, tmpfs"
    assert lines[2] == f"x: {one}-no, not there; skipped until it is"

"""fusepy_legacy.roots and root: what a path of the mount leads to, without a mount."""

import contextlib
import errno
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest

from fusepy_legacy.errors import EXIT_ROOT, MountError
from fusepy_legacy.exclusion import Exclusion, Rule, parse
from fusepy_legacy.root import Root, Rules
from fusepy_legacy.roots import Roots
from fusepy_legacy.signals import SignalThread
from tests.children import in_child
from tests.errnos import raises_errno


def hiding(*patterns: str) -> Rules:
    """Make rules that hide what matches."""
    rules = [rule for rule in map(parse, patterns) if isinstance(rule, Rule)]
    return Rules(exclusion=Exclusion(rules))


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Roots]:
    """The roots a and deep/b; a file is in each."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "roots.ini").write_text("[a]\npath = a\n[deep/b]\npath = b\n")
    opened = Roots(str(tmp_path / "roots.ini"))
    yield opened
    opened.close()


def test_paths_lead_into_the_roots(roots: Roots, tmp_path: Path) -> None:
    """What is behind the label is the path in the root."""
    assert roots.at("/a/file") is roots.at("/a") is not roots.at("/deep/b/x/y")
    assert roots.stat("/deep/b/file").st_size == 1
    descriptor = roots.open("/deep/b/file", os.O_RDONLY)
    try:
        assert os.read(descriptor, 9) == b"b"
    finally:
        os.close(descriptor)
    with roots.parent("/a/file") as (directory, name):
        assert name == "file"
        assert os.path.samestat(os.fstat(directory), (tmp_path / "a").stat())
    with roots.parent("/a") as (directory, name):
        assert name == "."


@pytest.mark.parametrize("path", ["/x", "/a2", "/deep/x", "/x/y/z", "/deep/bb/file"])
def test_what_is_in_no_root_is_not_there(roots: Roots, path: str) -> None:
    """Nothing is found beside the labels."""
    for ask in (
        roots.stat,
        roots.at,
        roots.opendir,
        roots.parent,
        roots.statvfs,
        lambda path: roots.open(path, os.O_RDONLY),
        lambda path: roots.access(path, os.R_OK),
    ):
        with raises_errno(errno.ENOENT):
            ask(path)


@pytest.mark.parametrize("path", ["/x.secret", "/secrets/file", "/secrets", "/secrets/none"])
def test_a_hidden_name_is_not_there_for_anything(tmp_path: Path, path: str) -> None:
    """Whatever it is wanted for, by whatever call; a file that was held before stays."""
    (tmp_path / "secrets").mkdir()
    for name in ("x.secret", "secrets/file", "shown"):
        (tmp_path / name).write_text("x")
    root = Root(str(tmp_path), rules=hiding("*.secret", "secrets/"))
    ways: Sequence[Callable[[str], Any]] = (
        *(root.stat, root.opendir, root.statvfs, root.hold, root.check),
        *(root.parent, root.old, root.replaced, root.reference),
        lambda path: root.parent(path, change=True),
        lambda path: root.reference(path, change=True),
        lambda path: root.new(path, stat.S_IFDIR),
        lambda path: root.open(path, os.O_RDONLY),
        lambda path: root.open(path, os.O_RDWR | os.O_TMPFILE, 0o600),
        lambda path: root.access(path, os.R_OK),
        lambda path: root.check_rename(path, "/new", 0),
        lambda path: root.check_rename("/shown", f"{path}/.", 0),
    )
    try:
        for way in ways:
            with raises_errno(errno.ENOENT):
                way(path)
        with contextlib.closing(Root(str(tmp_path)).hold("/x.secret")) as held:
            root.check(held, change=True)
            assert root.stat(held).st_size == 1
            with root.old(held) as (_, name):
                assert name == ""
    finally:
        root.close()


def test_a_path_outside_the_mount_is_found_on_it(roots: Roots, tmp_path: Path) -> None:
    """For symlinks to absolute paths: the label and the path in the root."""
    assert roots.inside(f"{tmp_path}/b/x") == "/deep/b/x"
    assert roots.inside(f"{tmp_path}/a") == "/a"
    assert roots.inside(f"{tmp_path}/ab") is None


def test_the_same_file_in_two_roots_is_two_files(roots: Roots, tmp_path: Path) -> None:
    """A hard link below has one inode number and two identities: rules may differ between roots."""
    os.link(str(tmp_path / "a" / "file"), str(tmp_path / "b" / "linked"))
    one, two = roots.stat("/a/file"), roots.stat("/deep/b/linked")
    assert one.st_ino == two.st_ino == (tmp_path / "a" / "file").stat().st_ino
    assert one.st_dev != two.st_dev
    assert roots.stat("/deep/b/file").st_dev == two.st_dev


def test_a_held_path_leads_to_the_file_that_had_it(roots: Roots, tmp_path: Path) -> None:
    """Also when another file has taken the name, and in a nested root."""
    held = roots.hold("/deep/b/file")
    (tmp_path / "b" / "new").write_text("new")
    (tmp_path / "b" / "new").rename(tmp_path / "b" / "file")
    descriptor = roots.open(held, os.O_RDONLY)
    try:
        assert os.read(descriptor, 9) == b"b"
    finally:
        os.close(descriptor)
        held.close()


def test_a_directory_that_may_not_be_missing(tmp_path: Path) -> None:
    """One line with the line of its path, and the exit code of a missing root."""
    file = tmp_path / "roots.ini"
    file.write_text("[a]\n\npath = missing\n")
    with pytest.raises(MountError) as raised:
        Roots(str(file))
    assert str(raised.value) == f"{file}:3: {tmp_path}/missing: No such file or directory"
    assert raised.value.exit_code == EXIT_ROOT


def test_a_request_keeps_the_root_that_it_found(roots: Roots, tmp_path: Path) -> None:
    """After a reload its descriptor is still its own, and closed when it is done."""
    root = roots.at("/a")
    (tmp_path / "roots.ini").write_text("[b]\npath = b\n")
    roots.reload()
    assert root.stat("/file").st_size == 1
    with root.parent("/file") as (directory, _):
        del root
        assert os.path.samestat(os.fstat(directory), (tmp_path / "a").stat())
    with raises_errno(errno.ENOENT):
        roots.stat("/a/file")


def test_a_label_that_is_needed_is_given_up_at_once(roots: Roots, tmp_path: Path) -> None:
    """Though a file is open there: a root at a/new leaves no room for one at a."""
    root = roots.at("/a")
    root.opened()
    (tmp_path / "roots.ini").write_text("[a/new]\npath = a\n")
    roots.reload()
    assert list(roots.places) == ["a/new"]
    assert roots.stat("/a/new/file").st_size == root.stat("/file").st_size
    root.released()


def test_why_an_optional_directory_is_not_taken_up_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked for at each request that its label is in."""
    (tmp_path / "roots.ini").write_text("[a]\npath = a\noptional = yes\n")
    roots = Roots(str(tmp_path / "roots.ini"))
    try:
        (tmp_path / "a").touch()
        caplog.clear()
        for _ in range(3):
            with raises_errno(errno.ENOENT):
                roots.stat("/a")
        assert caplog.messages == [f"[a] skipped: {tmp_path}/a: Not a directory"]
    finally:
        roots.close()


def test_the_type_counts_where_a_pattern_asks_for_it(tmp_path: Path) -> None:
    """A file is found and made where a directory of its name would be hidden."""
    (tmp_path / "build").write_text("a file")
    (tmp_path / "sub" / "build").mkdir(parents=True)
    root = Root(str(tmp_path), rules=hiding("build/"))
    os.close(root.open("/build", os.O_RDONLY))
    with raises_errno(errno.ENOENT):
        root.stat("/sub/build")
    with raises_errno(errno.ENOENT):
        root.open("/sub/build", os.O_RDONLY | os.O_DIRECTORY)
    # Not EISDIR: that would tell that it is there.
    with raises_errno(errno.ENOENT):
        root.open("/sub/build", os.O_CREAT | os.O_WRONLY, 0o600)
    listing = root.opendir("/sub")
    assert [entry.name for entry in listing.entries(0) if entry.name[0] != "."] == []
    listing.close()


def test_a_listing_can_be_taken_up_at_any_offset(tmp_path: Path) -> None:
    """Also where entries before and behind it are hidden."""
    for number in range(500):
        (tmp_path / f"file-{number}{'.o' if number % 3 else ''}").touch()
    root = Root(str(tmp_path), rules=hiding("*.o"))
    listing = root.opendir("/")
    whole = list(listing.entries(0))
    assert len(whole) == 2 + 167
    for start in 0, 1, 50, 168:
        assert list(listing.entries(whole[start].offset)) == whole[start + 1 :]
    listing.close()


def test_a_signal_calls_a_function_until_it_is_stopped() -> None:
    """Each time, in another thread; and the signal mask is as before in the end."""
    in_child(call_on_signals)  # where there is no thread that does not block the signal


def call_on_signals() -> None:
    """Send a signal before and while a thread waits for it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    called = threading.Semaphore(0)
    thread = SignalThread(signal.SIGUSR1, lambda: called.release())
    os.kill(os.getpid(), signal.SIGUSR1)
    thread.start()
    try:
        assert called.acquire(timeout=10)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert called.acquire(timeout=10)
    finally:
        thread.stop()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert not called.acquire(blocking=False)

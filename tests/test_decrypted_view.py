"""The decrypted view's handlers, called without a mount: names, directories, and who dies in between."""

import errno
import fcntl
import inspect
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, FrozenSet, Iterator, List, Set, Tuple

import pytest

from fusepy_legacy import syscalls
from fusepy_legacy.crypt.config import (
    DIRIV,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    create,
)
from fusepy_legacy.crypt.names import NameCipher
from fusepy_legacy.identity import Caller
from fusepy_legacy.root import Rules
from fusepy_legacy.vault.config_file import write_config
from fusepy_legacy.views import stored_directories
from fusepy_legacy.views.content_file import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE
from fusepy_legacy.views.decrypted import DecryptedDirectory, DecryptedFile, DecryptedView
from fusepy_legacy.views.stored_paths import read_small_file
from tests.children import in_child
from tests.errnos import raises_errno

LONG = "l" * 200
LONGER = "m" * 255


class Tree:
    """An encrypted tree, and the view of it that would be mounted."""

    def __init__(self, root: Path, flags: FrozenSet[str], long_name_max: int = 255) -> None:
        self.root = root
        root.mkdir()
        self.config, self.key = create(b"password", flags, long_name_max, scrypt_n=1024)
        write_config(str(root), self.config.to_bytes())
        if self.config.directory_ivs:
            (root / "gocryptfs.diriv").write_bytes(bytes(range(16)))
        self.view = self.opened()

    def opened(self) -> DecryptedView:
        """Return a view as of another mount."""
        view = DecryptedView()
        view.root = str(self.root)
        view.unlock = lambda config: self.key
        view.beneath = view.open_root(view.root, None, Rules())
        return view

    def write(self, path: str, data: bytes = b"content", flags: int = 0) -> None:
        """Create a file."""
        file = self.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        file.write(data, 0)
        file.release(0)

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        file = self.open(path, os.O_RDONLY)
        try:
            return bytes(file.read(1 << 20, 0))
        finally:
            file.release(0)

    def open(self, path: str, flags: int, *mode: int) -> Any:
        """Return a file object of the view."""
        return self.view._bound(DecryptedFile)(path, flags, *mode)

    def list(self, path: str = "/", view: "DecryptedView | None" = None) -> List[str]:
        """Return the names in a directory."""
        directory = (view or self.view)._bound(DecryptedDirectory)(path)
        try:
            names = [entry.name for entry in directory.readdir(0)]
            for name in names:
                if name not in (".", ".."):
                    directory.fstatat(name)
        finally:
            directory.releasedir()
        return sorted(set(names) - {".", ".."})

    def stored(self) -> Set[str]:
        """Return what is on the disk, below the root, but for the config and the root's IV."""
        found = {path.name for path in self.root.rglob("*")}
        return found - {"gocryptfs.conf", "gocryptfs.diriv"}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A tree with the usual flags."""
    tree = Tree(tmp_path / "tree", FORWARD)
    yield tree
    tree.view.beneath.close()


def test_o_direct_is_between_the_program_and_the_kernel(tree: Tree) -> None:
    """Blocks of the encrypted file lie at no address and offset that it allows."""
    tree.write("/file", b"content")
    file = tree.open("/file", os.O_RDWR | os.O_DIRECT)
    assert not fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_DIRECT
    file.release(0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("getattr", ()), ("readlink", ()), ("unlink", ()), ("chmod", (0o600,)), ("listxattr", (0,))],
)
def test_errors_name_no_file(tree: Tree, name: str, arguments: Tuple[int, ...]) -> None:
    """The log may show them, and plain names are nothing for it."""
    with pytest.raises(FileNotFoundError) as raised:
        tree.view._callbacks()[name]("/missing", *arguments)
    assert "missing" not in str(raised.value)


def assert_no_orphans(tree: Tree) -> None:
    """Each companion has a file, and each hashed name a companion."""
    hashed = {name for name in tree.stored() if name.startswith("gocryptfs.longname.")}
    companions = {name for name in hashed if name.endswith(".name")}
    assert {name + ".name" for name in hashed - companions} == companions


# Kernel I/O


def test_the_kernel_never_reads_or_writes_by_itself(tree: Tree) -> None:
    """Every byte goes through the file object, or the kernel would show encrypted ones."""
    tree.view.methproxy.set_file_class(tree.view._bound(DecryptedFile))
    assert "backing" not in tree.view._callbacks()


# Opening


def test_whoever_writes_may_read_on_the_disk(tree: Tree) -> None:
    """O_WRONLY becomes O_RDWR; O_APPEND and O_DIRECT do not reach the encrypted file."""
    file = tree.open("/file", os.O_WRONLY | os.O_APPEND | os.O_DIRECT | os.O_CREAT, 0o200)
    try:
        flags = fcntl.fcntl(file.fd, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDWR
        assert not flags & (os.O_APPEND | os.O_DIRECT)
        file.write(b"one", 0)
        file.write(b"two", 0)
    finally:
        file.release(0)
    assert tree.read("/file") == b"onetwo"


def test_truncating_opens_empty_the_plaintext(tree: Tree) -> None:
    """O_TRUNC, for reading only too, leaves nothing, and no header."""
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        path = f"/file {flags}"
        tree.write(path)
        tree.open(path, flags | os.O_TRUNC).release(0)
        assert tree.view.getattr(path).st_size == 0
        assert tree.view.beneath.stat(path).st_size == 0


def test_a_new_file_is_not_cut(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """O_TRUNC cuts what was there, and not what is created: ext4 would write it out at close(2)."""
    cut: List[int] = []
    monkeypatch.setattr(os, "ftruncate", lambda descriptor, size: cut.append(size))
    tree.write("/file", flags=os.O_TRUNC)
    assert not cut
    tree.open("/file", os.O_WRONLY | os.O_TRUNC).release(0)
    assert cut == [0]


def test_a_damaged_file_stays_as_it_is(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever would read its header, or a block to change a part of it, is EIO, and logged."""
    tree.write("/file", b"x" * 5000)
    (stored,) = (path for path in tree.root.iterdir() if not path.name.startswith("gocryptfs"))
    data = stored.read_bytes()
    file = tree.open("/file", os.O_RDWR)
    calls: List[Callable[[], object]] = [
        lambda: file.read(10, 0),
        lambda: file.write(b"y", 10),
        lambda: file.ftruncate(10),
        lambda: tree.view.truncate("/file", 10),
        lambda: file.fallocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 10, 10),
    ]
    whole = [lambda: file.lseek(0, os.SEEK_DATA), lambda: file.fallocate(0, 0, 9000)]
    for place, failing in ((0, calls + whole), (100, calls)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        stored.write_bytes(damaged)
        for call in failing:
            caplog.clear()
            with raises_errno(errno.EIO):
                call()
            assert len(caplog.records) == 1
        assert stored.read_bytes() == damaged
    file.release(0)


def as_owner(function: Callable[[], None]) -> None:
    """Call a function as one who may not read what the mode says that the owner may not: not as root."""

    def unprivileged() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        function()

    in_child(unprivileged)


@pytest.fixture
def own_tree() -> Iterator[Path]:
    """Where whoever is not root can make a tree."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory) / "tree"


def test_a_file_that_may_only_be_written_is_written(own_tree: Path) -> None:
    """Its owner writes a part of a block, though its mode is 0200, which stays."""

    def write() -> None:
        tree = Tree(own_tree, FORWARD)
        tree.write("/file", b"x" * 5000)
        tree.view.chmod("/file", 0o200)
        file = tree.open("/file", os.O_WRONLY)
        file.write(b"y", 0)
        file.release(0)
        assert stat.S_IMODE(tree.view.getattr("/file").st_mode) == 0o200
        for mode in (0o200, 0o000):
            tree.view.chmod("/file", mode)
            with raises_errno(errno.EACCES):
                tree.open("/file", os.O_WRONLY if not mode else os.O_RDONLY)
        tree.view.chmod("/file", 0o600)
        assert tree.read("/file") == b"y" + b"x" * 4999

    as_owner(write)


def test_many_open_a_file_that_may_only_be_written(own_tree: Path) -> None:
    """At the same time, after all have met that it cannot be read; none of them fails."""

    def write() -> None:
        tree = Tree(own_tree, FORWARD)
        tree.write("/file")
        tree.view.chmod("/file", 0o200)
        real, together = tree.view.beneath.open, threading.Barrier(4, timeout=10)

        def open_together(path: str, flags: int, mode: int = 0) -> int:
            try:
                return real(path, flags, mode)
            finally:
                if flags & os.O_RDWR:
                    together.wait()

        tree.view.beneath.open = open_together
        done = []

        def open_often() -> None:
            try:
                for _ in range(100):
                    tree.open("/file", os.O_WRONLY).release(0)
                done.append(True)
            except BaseException:
                together.abort()
                raise

        threads = [threading.Thread(target=open_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == len(threads)
        assert stat.S_IMODE(tree.view.getattr("/file").st_mode) == 0o200

    as_owner(write)


# Attributes


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100000])
def test_sizes_are_those_of_the_plaintext(tree: Tree, size: int) -> None:
    """getattr, fgetattr and listings say the same, and all else is as on the disk."""
    tree.write("/file", b"x" * size)
    file = tree.open("/file", os.O_RDONLY)
    directory = tree.view._bound(DecryptedDirectory)("/")
    try:
        on_disk = os.fstat(file.fd)
        for status in (tree.view.getattr("/file"), file.fgetattr(), directory.fstatat("file")):
            assert status.st_size == size
            for name in (
                "st_ino",
                "st_mode",
                "st_mtime_ns",
                "st_ctime_ns",
                "st_blocks",
                "st_nlink",
            ):
                assert getattr(status, name) == getattr(on_disk, name)
    finally:
        file.release(0)
        directory.releasedir()


@pytest.mark.parametrize("target", ["t", "target", "t" * 3039, "\udcff\udcfe", "/absolute"])
def test_symlinks_have_the_size_of_their_target(tree: Tree, target: str) -> None:
    """A link reads as it was made, and its size is its target's."""
    tree.view.symlink(target, "/link")
    assert tree.view.readlink("/link") == target
    assert tree.view.getattr("/link").st_size == len(os.fsencode(target))
    with pytest.raises(OSError, match="File name too long"):
        tree.view.symlink("t" * 3040, "/other")
    assert tree.list() == ["link"]


def test_a_damaged_symlink_can_be_removed(tree: Tree) -> None:
    """Its target is EIO; it is listed and has attributes, as a damaged file has."""
    tree.view.symlink("target", "/link")
    [stored] = tree.stored()
    (tree.root / stored).unlink()
    (tree.root / stored).symlink_to("A" * 64)
    assert tree.list() == ["link"]
    assert tree.view.getattr("/link").st_size == 0
    with pytest.raises(OSError, match="Input/output error"):
        tree.view.readlink("/link")
    tree.view.unlink("/link")
    assert tree.stored() == set()


def test_attributes_are_encrypted(tree: Tree) -> None:
    """Neither name nor value is on the disk; ACLs are, because the kernel acts on them."""
    tree.write("/file")
    tree.view.setxattr("/file", "user.secret", "value", 0)
    assert tree.view.listxattr("/file", 1000) == ["user.secret"]
    assert tree.view.getxattr("/file", "user.secret", 100) == "value"
    assert tree.view.getxattr("/file", "user.secret", 0) == 5
    (stored,) = (path for path in tree.root.iterdir() if not path.name.startswith("gocryptfs"))
    (name,) = os.listxattr(str(stored))
    assert name.startswith("user.gocryptfs.")
    assert b"value" not in os.getxattr(str(stored), name)
    os.setxattr(str(stored), "user.foreign", b"not of the plain file")
    os.setxattr(str(stored), "user.gocryptfs.damaged", b"x")
    assert tree.view.listxattr("/file", 1000) == ["user.secret"]
    tree.view.removexattr("/file", "user.secret")
    assert tree.view.listxattr("/file", 1000) == []


def test_a_name_of_an_attribute_that_is_too_long(tree: Tree) -> None:
    """175 bytes fit; more is ERANGE, as xattr(7) has it."""
    tree.write("/file")
    tree.view.setxattr("/file", "user.".ljust(175, "n"), "value", 0)
    with pytest.raises(OSError, match="Numerical result out of range"):
        tree.view.setxattr("/file", "user.".ljust(176, "n"), "value", 0)


# Long names


@pytest.mark.parametrize("limit", [62, 63, 64, 100, 255])
def test_names_around_the_limit(tmp_path: Path, limit: int) -> None:
    """Names of every length are made, listed, renamed and removed; companions come and go with them."""
    tree = Tree(tmp_path / "tree", FORWARD, limit)
    lengths = {length + more for length in range(0, 255, 16) for more in (-1, 0, 1, 15)} | {62, 63}
    names = ["n" * length for length in sorted(lengths & set(range(1, 256)))]
    for name in names:
        tree.write("/" + name, name.encode())
    assert tree.list() == sorted(names)
    assert_no_orphans(tree)
    for name in names:
        assert tree.read("/" + name) == name.encode()
        tree.view.rename("/" + name, "/" + "r" * len(name))
    assert_no_orphans(tree)
    for name in names:
        tree.view.unlink("/" + "r" * len(name))
    assert tree.stored() == set()
    tree.view.beneath.close()


def test_every_kind_of_file_may_have_a_long_name(tree: Tree) -> None:
    """Directories, links, hard links and nodes too, and they lose it without a trace."""
    view = tree.view
    view.mkdir("/d" + LONG, 0o755)
    view.symlink("target", "/s" + LONG)
    view.mknod("/f" + LONG, stat.S_IFIFO | 0o600, 0)
    tree.write("/r" + LONG)
    view.link("/r" + LONG, "/h" + LONG)
    assert tree.list() == sorted(kind + LONG for kind in "dsfrh")
    assert_no_orphans(tree)
    view.rename("/r" + LONG, "/h" + LONG)  # two names of one file: nothing happens
    assert tree.list() == sorted(kind + LONG for kind in "dsfrh")
    assert_no_orphans(tree)
    view.rename("/d" + LONG, "/s" + LONG, syscalls.RENAME_EXCHANGE)
    assert_no_orphans(tree)
    view.rmdir("/s" + LONG)
    for kind in "dfrh":
        view.unlink("/" + kind + LONG)
    assert tree.stored() == set()


def test_a_failed_change_takes_its_companion_back(tree: Tree) -> None:
    """Whatever fails, no companion is left without a file, and none is lost."""
    view = tree.view
    tree.write("/" + LONG)
    view.mkdir("/directory", 0o755)
    tree.write("/directory/file")
    before = tree.stored()
    for call in (
        lambda: view.rename("/missing", "/" + LONGER),
        lambda: view.rename("/" + LONG, "/directory/" + LONGER + "/below"),
        lambda: view.rename("/directory", "/" + LONG),
        lambda: view.rename("/directory/file", "/" + LONG, syscalls.RENAME_NOREPLACE),
        lambda: view.link("/missing", "/" + LONGER),
        lambda: view.mkdir("/" + LONG, 0o755),
        lambda: view.rmdir("/" + LONG),
        lambda: view.unlink("/" + LONGER),
        lambda: tree.write("/" + LONG, flags=os.O_EXCL),
    ):
        with pytest.raises(OSError, match="Errno"):
            call()
        assert tree.stored() == before


def test_a_companion_that_was_left_behind_is_used_again(tree: Tree) -> None:
    """An empty one too, which someone left who died before writing it."""
    with tree.view.beneath.changing(made=["/" + LONG]):
        (companion,) = tree.stored()
        kept = (tree.root / companion).read_bytes()
    for content in (kept, b"", b"other"):
        (tree.root / companion).write_bytes(content)
        tree.write("/" + LONG)
        assert (tree.root / companion).read_bytes() == kept
        assert tree.list() == [LONG]
        tree.view.unlink("/" + LONG)
        assert tree.stored() == set()


# Directories


def test_a_directory_has_an_iv_and_the_mode_asked_for(tree: Tree) -> None:
    """Also where that mode would not let its owner put the IV in."""
    for mode in (0o755, 0o500, 0, 0o1755):
        tree.view.mkdir("/directory", mode)
        assert stat.S_IMODE(tree.view.getattr("/directory").st_mode) == mode
        (made,) = (path for path in tree.root.iterdir() if path.is_dir())
        assert len((made / "gocryptfs.diriv").read_bytes()) == 16
        assert stat.S_IMODE((made / "gocryptfs.diriv").stat().st_mode) == 0o444
        tree.view.rmdir("/directory")
        assert tree.stored() == set()


def become_an_ordinary_user(tree: Tree) -> None:
    """Let the process be one whose tree it is, and who is not root."""
    if os.geteuid() == 0:
        os.chown(str(tree.root), 65534, -1)
        os.setuid(65534)


@pytest.mark.parametrize("umask", [0o222, 0o300, 0o777])
def test_a_umask_may_keep_the_owner_out_of_a_new_directory(tree: Tree, umask: int) -> None:
    """It has its IV all the same."""

    def check() -> None:
        another = tree.opened()
        become_an_ordinary_user(tree)
        caller = Caller(os.geteuid(), os.getegid(), os.getpid(), umask)
        tree.view.caller = lambda: caller  # type: ignore[method-assign]
        tree.view.mkdir("/directory", 0o777)
        assert stat.S_IMODE(tree.view.getattr("/directory").st_mode) == 0o777 & ~umask
        tree.view.chmod("/directory", 0o700)
        tree.write("/directory/file")
        assert tree.list("/directory", another) == ["file"]

    in_child(check)


def test_a_directory_that_its_owner_may_not_search_is_not_damaged(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    """EACCES: its names cannot be had without the IV that is in it."""

    def check() -> None:
        views = tree.view, tree.opened()
        become_an_ordinary_user(tree)
        tree.view.mkdir("/directory", 0o700)
        tree.view.chmod("/directory", 0o600)
        for view in views:
            with raises_errno(errno.EACCES):
                tree.list("/directory", view)
        assert not caplog.records

    in_child(check)


def test_a_directory_that_cannot_get_an_iv_is_not_made(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure leaves nothing behind."""

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_directories, "write_small_file", fail)
    with pytest.raises(OSError, match="No space left"):
        tree.view.mkdir("/" + LONGER, 0o755)
    assert tree.stored() == set()


def test_a_directory_with_entries_stays_as_it_is(tree: Tree) -> None:
    """ENOTEMPTY, and its IV is where it was."""
    tree.view.mkdir("/directory", 0o755)
    tree.write("/directory/file")
    before = tree.stored()
    with pytest.raises(OSError, match="Directory not empty"):
        tree.view.rmdir("/directory")
    assert tree.stored() == before
    assert tree.read("/directory/file") == b"content"


@pytest.mark.parametrize("mode", [0, 0o300, 0o500, 0o755])
def test_whose_directory_it_is_removes_it_whatever_its_mode(tree: Tree, mode: int) -> None:
    """Its own mode does not matter for that, and stays when there are entries in it."""

    def check() -> None:
        become_an_ordinary_user(tree)
        for name in ("/empty", "/full", "/other"):
            tree.view.mkdir(name, 0o755)
        tree.view.mkdir("/full/below", 0o755)
        for name in ("/empty", "/full"):
            tree.view.chmod(name, mode)
        with pytest.raises(OSError, match="Directory not empty"):
            tree.view.rmdir("/full")
        with pytest.raises(OSError, match="Directory not empty"):
            tree.view.rename("/other", "/full")
        assert stat.S_IMODE(tree.view.getattr("/full").st_mode) == mode
        tree.view.rename("/other", "/empty")
        tree.view.chmod("/empty", mode)
        tree.view.rmdir("/empty")
        assert tree.list() == ["full"]

    in_child(check)


def test_an_iv_is_put_back_when_the_directory_cannot_be_removed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that comes while the IV is out of the way does not lose its name."""
    tree.view.mkdir("/directory", 0o755)
    before = tree.stored()

    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(OSError, match="not empty"):
        tree.view.rmdir("/directory")
    assert tree.stored() == before
    tree.write("/directory/file")
    assert tree.list("/directory") == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a directory append-only")
def test_an_iv_is_put_back_into_an_append_only_directory(tree: Tree) -> None:
    """chattr(1): such a directory takes the IV, but gives no name back."""
    tree.view.mkdir("/log", 0o755)
    (log,) = (path for path in tree.root.iterdir() if path.is_dir())
    tree.view.mkdir("/log/directory", 0o755)
    if subprocess.call(["chattr", "+a", str(log)], stderr=subprocess.DEVNULL):
        pytest.skip("the filesystem has no inode flags")
    try:
        with pytest.raises(PermissionError):
            tree.view.rmdir("/log/directory")
    finally:
        subprocess.check_call(["chattr", "-a", str(log)])
    tree.write("/log/directory/file")
    assert tree.list("/log/directory") == ["file"]
    assert tree.list("/log") == ["directory"]


def test_what_the_dead_left_keeps_no_directory_alive(tree: Tree) -> None:
    """A directory with an orphaned companion, a moved IV, or without an IV can be removed."""
    tree.view.mkdir("/directory", 0o755)
    (made,) = (path for path in tree.root.iterdir() if path.is_dir())
    (made / "gocryptfs.longname.AAAA.name").write_bytes(b"whatever")
    (made / "gocryptfs.diriv.rmdir.1234").write_bytes(bytes(16))
    (made / "gocryptfs.diriv").unlink()
    tree.view.rmdir("/directory")
    assert tree.stored() == set()


def test_a_directory_replaces_an_empty_one(tree: Tree) -> None:
    """rename(2) over an empty directory; one with entries is not replaced."""
    view = tree.view
    for name in ("/one", "/" + LONG, "/full"):
        view.mkdir(name, 0o755)
    tree.write("/one/file")
    tree.write("/full/other")
    view.rename("/one", "/" + LONG)
    assert tree.list() == sorted([LONG, "full"])
    assert tree.read(f"/{LONG}/file") == b"content"
    with pytest.raises(OSError, match="Directory not empty"):
        view.rename("/" + LONG, "/full")
    assert tree.list("/full") == ["other"]
    assert tree.list("/" + LONG) == ["file"]
    assert_no_orphans(tree)


# What others do to the tree


def test_a_directory_made_anew_by_another_mount(tree: Tree) -> None:
    """Its other IV is noticed at once, for finding and for making names."""
    other = tree.opened()
    tree.view.mkdir("/directory", 0o755)
    tree.write("/directory/file")
    other.unlink("/directory/file")
    other.rmdir("/directory")
    other.mkdir("/directory", 0o755)
    with pytest.raises(FileNotFoundError):
        tree.view.getattr("/directory/file")
    tree.write("/directory/new")
    assert tree.list("/directory", other) == ["new"]
    other.rename("/directory", "/renamed")
    other.mkdir("/directory", 0o755)
    other.mkdir("/directory/below", 0o755)
    tree.write("/directory/below/file")
    assert tree.list("/directory/below", other) == ["file"]
    assert tree.list("/renamed", other) == ["new"]
    other.beneath.close()


def test_a_renamed_directory_is_found_below(tree: Tree) -> None:
    """What is remembered of paths follows a rename above them."""
    for name in ("/a", "/a/b", "/a/b/c", "/x"):
        tree.view.mkdir(name, 0o755)
    tree.write("/a/b/c/file")
    tree.view.rename("/a", "/x/y")
    assert tree.read("/x/y/b/c/file") == b"content"
    with pytest.raises(FileNotFoundError):
        tree.view.getattr("/a/b/c/file")
    tree.view.rename("/x/y/b", "/a")
    assert tree.read("/a/c/file") == b"content"


def test_what_has_lost_its_name_is_reported(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """It is not listed, and the log has its encrypted name."""
    tree.write("/file")
    for name in ("not base64!", "QUJD", "gocryptfs.longname.AAAA"):
        (tree.root / name).write_bytes(b"")
    assert tree.list() == ["file"]
    for name in ("not base64!", "QUJD", "gocryptfs.longname.AAAA"):
        assert f"{name} has lost its name" in caplog.text


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("target"),
        pytest.param(
            lambda path: os.mknod(str(path), stat.S_IFCHR | 0o600, 0),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="a device needs root"),
        ),
    ],
)
def test_a_companion_that_is_no_file_names_nothing(
    tree: Tree, make: Callable[[Path], None]
) -> None:
    """What has it is not listed, and keeps nothing else from being listed."""
    tree.write("/file")
    (tree.root / "gocryptfs.longname.AAAA").write_bytes(b"")
    make(tree.root / "gocryptfs.longname.AAAA.name")
    (tree.root / "gocryptfs.longname.".ljust(255, "A")).write_bytes(b"")
    assert tree.list() == ["file"]


def test_a_companion_that_cannot_be_read_fails_the_listing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few descriptors, say: without its file, `rsync --delete` would take it for gone."""
    tree.write("/file")
    tree.write("/" + LONG)
    real = os.open

    def scarce(path: str, *arguments: Any, **named: Any) -> int:
        if path.endswith(".name"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", scarce)
        with raises_errno(errno.EMFILE):
            tree.list()
    assert tree.list() == ["file", LONG]


def test_a_listing_decrypts_its_names_together(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the attributes of what was listed are had without encrypting its name again."""
    names = sorted(f"file {number}" for number in range(300))
    for name in names:
        tree.write("/" + name)

    def refuse(cipher: NameCipher, name: bytes, iv: bytes) -> bytes:
        raise AssertionError("one by one")

    monkeypatch.setattr(NameCipher, "decrypt_name", refuse)
    monkeypatch.setattr(NameCipher, "encrypt_name", refuse)
    assert tree.list(view=tree.opened()) == names


@pytest.mark.parametrize("content", [b"", bytes(16), bytes(range(15))])
def test_a_directory_without_its_iv_is_an_error(tree: Tree, content: bytes) -> None:
    """EIO, for what is in it; the directory itself is still there."""
    tree.view.mkdir("/directory", 0o755)
    (made,) = (path for path in tree.root.iterdir() if path.is_dir())
    (made / "gocryptfs.diriv").unlink()
    (made / "gocryptfs.diriv").write_bytes(content)
    for call in (lambda: tree.list("/directory"), lambda: tree.write("/directory/file")):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    assert tree.list() == ["directory"]


@pytest.mark.parametrize(("fraction", "tick"), [(0, 1.0), (123456789, 0.01)])
def test_a_directory_made_anew_has_the_names_of_its_own_iv(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, fraction: int, tick: float
) -> None:
    """Its IV file may have number and times of the one before: ext4 gives them again within a tick."""
    tree.view.mkdir("/directory", 0o755)
    (made,) = (path for path in tree.root.iterdir() if path.is_dir())
    found, real = (made / "gocryptfs.diriv").stat(), os.stat
    ctime_ns = int(found.st_ctime) * 10**9 + fraction
    first = os.stat_result(found[:10], {"st_ctime_ns": ctime_ns, "st_ctime": ctime_ns / 1e9})
    monkeypatch.setattr("time.time", lambda: ctime_ns / 1e9 + tick)

    def stat_as_before(path: Any, **named: Any) -> os.stat_result:
        status = real(path, **named)
        return first if path == "gocryptfs.diriv" else status

    monkeypatch.setattr(os, "stat", stat_as_before)
    tree.write("/directory/file")
    tree.view.unlink("/directory/file")
    tree.view.rmdir("/directory")
    tree.view.mkdir("/directory", 0o755)
    tree.write("/directory/file")
    monkeypatch.undo()
    assert tree.list("/directory", view=tree.opened()) == ["file"]


def test_an_iv_is_read_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has been there for a while."""
    tree.view.mkdir("/directory", 0o755)
    read: List[str] = []

    def note(name: str, *arguments: Any) -> bytes:
        read.append(name)
        return read_small_file(name, *arguments)

    monkeypatch.setattr("fusepy_legacy.views.stored_paths.read_small_file", note)
    later = time.time() + 10
    monkeypatch.setattr("time.time", lambda: later)
    tree.write("/directory/one")
    tree.write("/directory/two")
    assert read == ["gocryptfs.diriv"] * 2  # that of the root, too


def test_a_very_deep_tree(tree: Tree) -> None:
    """Paths are walked without recursion, however long."""
    path = ""
    for _ in range(300):
        path += "/d"
        tree.view.mkdir(path, 0o755)
    tree.write(path + "/file")
    other = tree.opened()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        size = other.getattr(path + "/file").st_size
    finally:
        sys.setrecursionlimit(limit)
        other.beneath.close()
    assert size == 7


# Other flags


def test_the_config_is_out_of_reach(tmp_path: Path) -> None:
    """With plain names it is neither listed nor opened, replaced or made; elsewhere it is a name."""
    tree = Tree(tmp_path / "tree", FORWARD_PLAINTEXT_NAMES)
    tree.write("/file")
    for call in (
        lambda: tree.view.getattr("/gocryptfs.conf"),
        lambda: tree.write("/gocryptfs.conf"),
        lambda: tree.view.unlink("/gocryptfs.conf"),
        lambda: tree.view.rename("/file", "/gocryptfs.conf"),
    ):
        with pytest.raises(PermissionError):
            call()
    tree.view.mkdir("/directory", 0o755)
    tree.write("/directory/gocryptfs.conf")
    tree.write("/gocryptfs.diriv")
    assert tree.list() == ["directory", "file", "gocryptfs.diriv"]
    tree.view.beneath.close()


def test_internal_names_are_names_like_others(tree: Tree) -> None:
    """With encrypted names there is nothing that a plain file cannot be called."""
    names = [
        "gocryptfs.conf",
        "gocryptfs.diriv",
        "gocryptfs.longname.x",
        "gocryptfs.longname.x.name",
    ]
    for name in names:
        tree.write("/" + name, name.encode())
    assert tree.list() == names
    assert [tree.read("/" + name) for name in names] == [name.encode() for name in names]


def test_deterministic_names(tmp_path: Path) -> None:
    """The same name is called the same in every directory, and no IV is made."""
    tree = Tree(tmp_path / "tree", FORWARD - {DIRIV})
    tree.view.mkdir("/one", 0o755)
    tree.view.mkdir("/one/one", 0o755)
    assert len(tree.stored()) == 1
    tree.view.rmdir("/one/one")
    tree.view.mkdir("/two", 0o755)
    tree.view.rename("/two", "/one")
    assert tree.list() == ["one"]
    assert not list(tree.root.rglob("gocryptfs.diriv"))
    tree.view.beneath.close()


def test_syncing_a_directory_syncs_what_its_names_need(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of a directory writes its IV too; a companion is written when it is made."""
    synced = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    tree.write("/" + LONG)
    directory = tree.view._bound(DecryptedDirectory)("/")
    directory.fsyncdir(False)
    directory.releasedir()
    assert [path.endswith((".name", "gocryptfs.diriv")) for path in synced] == [True, True]

"""The encrypted view's objects, without a mount."""

import array
import copy
import errno
import logging
import os
import random
import stat
import time
import types
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from fusepy_legacy import secrecy
from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import REVERSE, REVERSE_CONFIG_FILE, create
from fusepy_legacy.crypt.metadata import encrypt_target, encrypted_target_size
from fusepy_legacy.crypt.reverse import hard_link_path
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.root import RootDirectory
from fusepy_legacy.vault.config_file import write_config
from fusepy_legacy.views import encrypted, encrypting
from fusepy_legacy.views.encrypted import EncryptedFile, EncryptedView
from fusepy_legacy.views.identity import Identities, made_inode
from fusepy_legacy.views.names import Names
from fusepy_legacy.views.virtual import resized
from tests.children import in_child
from tests.errnos import raises_errno


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EncryptedView]:
    """A view that is ready to be mounted, of the directory `root`."""
    monkeypatch.setattr(secrecy, "forbid_dumps", lambda: None)
    root, mountpoint = tmp_path / "root", tmp_path / "mountpoint"
    root.mkdir()
    mountpoint.mkdir()
    config, key = create(b"password", REVERSE, scrypt_n=1024)
    write_config(str(root), config.to_bytes(), REVERSE_CONFIG_FILE)
    umask = os.umask(0o22)
    try:
        made = EncryptedView()
        made.root = str(root)
        made.unlock = lambda config: key
        made.prepare(MountArguments(str(mountpoint), True, False, False, {}))
        made.methproxy.set_file_class(made._bound(made.file_class))
        made.methproxy.set_dir_class(made._bound(made.dir_class))
        yield made
        made.beneath.close()
    finally:
        os.umask(umask)


def shown(view: EncryptedView, name: str, directory: str = "/") -> str:
    """Return the path in the view of a plain name."""
    stored = view.names.shown(name, view.names.iv(directory)).stored
    return f"{directory.rstrip('/')}/{stored}"


def entries(opened: Any, offset: int = 0) -> List[Dirent]:
    """Return a directory's entries without . and .."""
    return [entry for entry in opened.readdir(offset) if entry.name not in (".", "..")]


def test_any_range_is_a_part_of_the_whole(view: EncryptedView) -> None:
    """Read by any pieces, a file is what the library makes of its content."""
    data = os.urandom(50000)
    (Path(str(view.root)) / "file").write_bytes(data)
    path = shown(view, "file")
    file: Any = view.open(path, os.O_RDONLY)
    ivs = reverse.file_ivs(os.fsencode(path[1:]))
    whole = reverse.encrypt_range(view.content, ivs, 0, 100000, data)
    assert file.fgetattr().st_size == view.getattr(path).st_size == len(whole)
    generator = random.Random(1)
    for _ in range(300):
        offset = generator.randrange(len(whole) + 5000)
        length = generator.randrange(1, 20000)
        assert file.read(length, offset) == whole[offset : offset + length]
    file.release(0)


@pytest.mark.parametrize("year", [1900, 2024, 2300])  # nanoseconds of the last need 64 bits
def test_what_another_process_reads_is_the_same(view: EncryptedView, year: int) -> None:
    """Of a job and a descriptor it makes what the open file's own read returns."""
    plain = Path(str(view.root)) / "file"
    plain.write_bytes(os.urandom(300000))
    os.utime(str(plain), ((year - 1970) * 31556952,) * 2)
    file: Any = view.open(shown(view, "file"), os.O_RDONLY)
    serve = encrypting.server(view.content)
    for offset in (0, 17, 131072, 290000, 400000):
        part = serve(file.fd, file.content.job(131072, offset))
        assert part == file.read(131072, offset)
    assert not file.content.changed
    file.release(0)


def test_a_change_is_reported_once_by_another_process(
    view: EncryptedView, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each piece, and not when it is known already."""
    plain = Path(str(view.root)) / "file"
    plain.write_bytes(bytes(300000))
    file: Any = view.open(shown(view, "file"), os.O_RDONLY)
    jobs = [file.content.job(131072, offset) for offset in (0, 131072)]
    plain.write_bytes(bytes(300001))
    serve = encrypting.server(view.content)
    for job in jobs:
        serve(file.fd, job)
    assert len(caplog.messages) == 1
    file.content.compare(file.fd)
    encrypting.server(view.content)(file.fd, file.content.job(131072, 0))
    assert len(caplog.messages) == 2  # one for each process
    file.release(0)


def test_an_empty_file_is_empty(view: EncryptedView) -> None:
    """It has no header."""
    (Path(str(view.root)) / "file").touch()
    file: Any = view.open(shown(view, "file"), os.O_RDONLY)
    assert (file.read(4096, 0), file.fgetattr().st_size) == (b"", 0)
    file.release(0)


def test_each_open_is_an_object_with_a_descriptor(
    view: EncryptedView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It outlives the name; the kernel keeps its pages while nothing has changed."""
    path = Path(str(view.root)) / "file"
    path.write_bytes(b"x" * 5000)
    os.utime(str(path), (1, 1))

    def opening() -> List[EncryptedFile]:
        return [view.open(shown(view, "file"), os.O_RDONLY) for _ in range(2)]

    too_new = opening()
    assert [file.keep_cache for file in too_new] == [False, False]
    later = types.SimpleNamespace(time=lambda: time.time() + 10)
    monkeypatch.setattr(encrypted, "time", later)
    opened = opening()
    assert all(isinstance(file, EncryptedFile) for file in opened)
    assert [file.keep_cache for file in opened] == [False, True]
    path.unlink()
    assert opened[0].read(10000, 0) == opened[1].read(10000, 0) != b""
    path.write_bytes(b"y" * 5000)
    os.utime(str(path), (1, 1))
    others = opening()
    assert [file.keep_cache for file in others] == [False, True]
    opened += too_new
    for file in opened + others:
        file.release(0)


def test_only_reading_is_possible(view: EncryptedView) -> None:
    """EROFS for all else, also of virtual files, and in case the kernel asks."""
    (Path(str(view.root)) / "file").touch()
    for path in (shown(view, "file"), "/gocryptfs.conf", "/gocryptfs.diriv"):
        for flags in (os.O_WRONLY, os.O_RDWR):
            with raises_errno(errno.EROFS):
                view.open(path, flags)
        with raises_errno(errno.EROFS):
            view.access(path, os.W_OK)
        view.access(path, os.R_OK)
    for name in ("chmod", "chown", "truncate", "utimens", "utimensat", "mknod", "mkdir", "symlink"):
        with raises_errno(errno.EROFS):
            getattr(view, name)("/file", 0, 0)
    for name in ("link", "rename", "unlink", "rmdir", "create", "tmpfile", "setxattr"):
        with raises_errno(errno.EROFS):
            getattr(view, name)("/file", "/other")
    with raises_errno(errno.EROFS):
        view.removexattr("/file", "user.x")


@pytest.mark.parametrize("change", ["grow", "rewrite", "cut", "remove"])
def test_a_change_is_reported_once(
    view: EncryptedView, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name in the view; a file that only lost its name has not changed."""
    path = Path(str(view.root)) / "plain name"
    path.write_bytes(b"x" * 20000)
    os.utime(str(path), (1, 1))
    shown_path = shown(view, "plain name")
    file: Any = view.open(shown_path, os.O_RDONLY)
    whole = file.read(100000, 0)
    if change == "remove":
        path.unlink()
    elif change == "cut":
        os.truncate(str(path), 5000)
    else:
        with open(str(path), "ab" if change == "grow" else "r+b") as writer:
            writer.write(b"y" * 10)
    with caplog.at_level(logging.WARNING):
        again, _, _ = [file.read(100000, 0) for _ in range(3)]
    file.release(0)
    assert (again == whole) == (change in ("grow", "remove"))
    messages = [record.getMessage() for record in caplog.records]
    expected = f"'{shown_path[1:]}' changed while it was read; copy it again"
    assert messages == ([] if change == "remove" else [expected])


def test_what_is_no_config_is_not_shown_as_one(view: EncryptedView, tmp_path: Path) -> None:
    """Whoever may write to the plain directory could bring a file that only root can read into the backup."""
    config, secret = Path(str(view.root)) / os.fsdecode(REVERSE_CONFIG_FILE), tmp_path / "secret"
    secret.write_text("plain text")
    assert view.open("/gocryptfs.conf", os.O_RDONLY).read(10, 0) == config.read_bytes()[:10]
    config.unlink()
    config.symlink_to(secret)
    for call in (
        lambda: view.open("/gocryptfs.conf", os.O_RDONLY),
        lambda: view.getattr("/gocryptfs.conf"),
    ):
        with raises_errno(errno.EIO):
            call()


def test_a_listing_goes_on_from_any_of_its_offsets(view: EncryptedView) -> None:
    """Virtual files first, companions behind their files, nothing twice and nothing left out."""
    for number in range(50):
        name = f"{number} " + ("n" * 200 if number % 3 == 0 else "")
        (Path(str(view.root)) / name).touch()
    opened: Any = view.methproxy.dir_class("/")
    whole = entries(opened)
    names = [entry.name for entry in whole]
    assert names[:2] == ["gocryptfs.diriv", "gocryptfs.conf"]
    assert len(names) == len(set(names)) == 2 + 50 + 17
    for position, entry in enumerate(whole):
        assert [after.name for after in entries(opened, entry.offset)] == names[position + 1 :]
        if entry.name.endswith(".name"):
            assert whole[position - 1].name == entry.name[:-5]
    with raises_errno(errno.EINVAL):
        entries(opened, 10**6)
    opened.releasedir()


def test_a_name_that_is_too_long_to_be_encrypted(
    view: EncryptedView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NTFS and CIFS have such. What is beside it is shown, and whoever copies the view meets an error."""
    (Path(str(view.root)) / ("n" * 200)).write_text("x")
    batches = RootDirectory.batches

    def with_another(directory: RootDirectory, offset: int) -> Iterator[List[Dirent]]:
        for batch in batches(directory, offset):
            yield [Dirent("\u044f" * 200, 7, stat.S_IFREG, 1), *batch]

    monkeypatch.setattr(RootDirectory, "batches", with_another)
    opened: Any = view.methproxy.dir_class("/")
    names = [entry.name for entry in entries(opened)]
    known = shown(view, "n" * 200)[1:]
    invalid = "___GOCRYPTFS_INVALID_NAME___"
    assert sorted(names) == sorted(
        [invalid, known, f"{known}.name", "gocryptfs.conf", "gocryptfs.diriv"]
    )
    for call in (lambda: opened.fstatat(invalid), lambda: view.getattr("/" + invalid)):
        with raises_errno(errno.ENAMETOOLONG):
            call()
    opened.releasedir()
    again = Names(view.beneath, view.config, view.name_cipher)
    assert again.plain("/" + known) == "/" + "n" * 200  # found among all
    assert [record.getMessage() for record in caplog.records] == [
        "'': a name is too long to be encrypted"
    ]


def test_a_listing_knows_what_getattr_says(view: EncryptedView) -> None:
    """Types, inode numbers and attributes of each entry, in any order."""
    root = Path(str(view.root))
    (root / ("n" * 200)).write_text("x")
    (root / "directory").mkdir()
    (root / "link").symlink_to("target")
    opened: Any = view.methproxy.dir_class("/")
    listed = entries(opened)
    assert len(listed) == 6
    for entry in listed + listed[::-1]:
        status = view.getattr(f"/{entry.name}")
        assert entry.type == stat.S_IFMT(status.st_mode)
        assert entry.ino == status.st_ino
        assert copy.copy(opened.fstatat(entry.name)) == copy.copy(status)
    opened.releasedir()


def test_a_listing_that_began_before_changes(view: EncryptedView) -> None:
    """Positions stay right when entries come and go, as far as the plain directory's do."""
    root = Path(str(view.root))
    for number in range(100):
        (root / str(number)).touch()
    opened: Any = view.methproxy.dir_class("/")
    some = [entry for _, entry in zip(range(20), opened.readdir(0))]
    (root / "new").touch()
    rest = list(opened.readdir(some[-1].offset))
    names = [entry.name for entry in some + rest if "." not in entry.name]
    assert len(set(names)) == len(names) >= 100
    for number in range(0, 100, 2):
        (root / str(number)).unlink()
    whole = entries(opened)  # from the start again
    assert len(whole) == 2 + 51
    for position, entry in enumerate(whole):
        assert [one.name for one in entries(opened, entry.offset)] == [
            one.name for one in whole[position + 1 :]
        ]
    opened.releasedir()


def test_symlinks_have_the_size_of_their_target(view: EncryptedView) -> None:
    """Worked out without encrypting it."""
    for length in (1, 16, 47, 1000, 3039):
        target = "t" * length
        path = Path(str(view.root)) / str(length)
        path.symlink_to(target)
        stored = shown(view, str(length))
        assert view.getattr(stored).st_size == len(view.readlink(stored))
        text = encrypt_target(view.content, view.name_cipher, target.encode(), bytes(15) + b"x")
        assert len(text) == encrypted_target_size(view.content, view.name_cipher, length)
    assert encrypted_target_size(view.content, view.name_cipher, 0) == 0


def test_hard_links_are_one_content(view: EncryptedView) -> None:
    """Of files, symlinks and attributes; one name's bytes follow from its path."""
    root = Path(str(view.root))
    (root / "one").write_bytes(b"x" * 100)
    os.setxattr(str(root / "one"), "user.name", b"value")
    (root / "link").symlink_to("target")

    def seen(*names: str) -> List[Tuple[object, ...]]:
        found = []
        for name in names:
            path = shown(view, name)
            file: Any = view.open(path, os.O_RDONLY)
            listed: Any = view.listxattr(path, 1)
            found.append((file.read(1000, 0), [view.getxattr(path, one, 1) for one in listed]))
            file.release(0)
        return found

    [single] = seen("one")
    os.link(str(root / "one"), str(root / "two"))
    first, second = seen("one", "two")
    assert first == second != single
    os.link(str(root / "link"), str(root / "link two"), follow_symlinks=False)
    assert view.readlink(shown(view, "link")) == view.readlink(shown(view, "link two"))


def test_attributes_are_encrypted(view: EncryptedView) -> None:
    """Names and values; ACLs are not; what is not there is ENODATA; a length is told for size 0."""
    path = Path(str(view.root)) / "file"
    path.touch()
    os.setxattr(str(path), "user.name", b"value")
    os.setxattr(str(path), "user.empty", b"")
    stored = shown(view, "file")
    listed: Any = view.listxattr(stored, 1)
    assert view.listxattr(stored, 0) == sum(len(name) + 1 for name in listed)
    values = {}
    for name in listed:
        value: Any = view.getxattr(stored, name, 1)
        assert view.getxattr(stored, name, 0) == len(value)
        plain = view.name_cipher.decrypt_attribute_name(name.encode())
        values[plain] = view.content.decrypt_value(value)
    assert values == {b"user.name": b"value", b"user.empty": b""}
    for name in ("user.name", "security.capability", "user.gocryptfs.x"):
        with raises_errno(errno.ENODATA):
            view.getxattr(stored, name, 0)
    assert view.listxattr("/gocryptfs.diriv", 0) == 0
    with raises_errno(errno.ENODATA):
        view.getxattr("/gocryptfs.diriv", listed[0], 0)


def test_a_status_keeps_what_is_not_changed(tmp_path: Path) -> None:
    """Nanoseconds, owner, device, inode number: only size and space are others, also in a copy."""
    os.utime(str(tmp_path), ns=(1, 10**18 + 7))
    status = os.stat(str(tmp_path))
    other = resized(status, 1000)
    same = "mode ino dev nlink uid gid rdev blksize atime_ns mtime_ns ctime_ns atime mtime ctime"
    for each in (other, copy.copy(other)):
        assert (each.st_size, each.st_blocks) == (1000, 2)
        for name in same.split():
            assert getattr(each, f"st_{name}") == getattr(status, f"st_{name}")
    assert type(copy.copy(other)) is os.stat_result


def test_made_inode_numbers_are_apart_from_real_ones() -> None:
    """They have bit 62, and no sign."""
    numbers = [made_inode(b"%d" % number) for number in range(1000)]
    assert len(set(numbers)) == 1000
    assert all(1 << 62 <= number < 1 << 63 for number in numbers)


class TwoFilesystems:
    """A root below whose directory /other another filesystem begins."""

    def stat(self, path: str) -> Any:
        return types.SimpleNamespace(st_dev=2 if f"{path}/".startswith("/other/") else 1)


def test_hard_links_on_another_filesystem_are_keyed_by_where_it_begins() -> None:
    """Not by its number, which may be another after the next boot, nor by the name that is met first."""
    linked = types.SimpleNamespace(st_dev=2, st_ino=5, st_nlink=2, st_mode=stat.S_IFREG)
    names = [("/OTHER/DEEP/A", "/other/deep/a"), ("/OTHER/B", "/other/b")]
    expected = hard_link_path(b"OTHER", 5)
    for path, plain in names:
        identities = Identities(TwoFilesystems())  # type: ignore[arg-type]
        assert identities.key_path(path, plain, linked) == expected  # type: ignore[arg-type]
        assert identities.key_path(*names[0], linked) == expected  # type: ignore[arg-type]


def test_the_end_of_a_listing_is_a_position(view: EncryptedView) -> None:
    """Going on behind the last entry gives nothing, and no error."""
    opened: Any = view.methproxy.dir_class("/")
    last = list(opened.readdir(0))[-1]
    assert list(opened.readdir(last.offset)) == []
    assert isinstance(opened._begins, array.array)
    opened.releasedir()


def test_secrecy() -> None:
    """No core file, and /proc/self is root's."""

    def check() -> None:
        import ctypes
        import resource

        secrecy.forbid_dumps()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
        assert os.listdir("/proc/self/fd")
        if os.geteuid() == 0:
            assert secrecy.lock_memory()
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
            os.setresuid(65534, 65534, 65534)
        assert not secrecy.lock_memory()

    in_child(check)


def test_plain_paths_are_not_in_errors(view: EncryptedView) -> None:
    """An engine that logs an error logs no plain name."""
    calls: List[Callable[[], object]] = [
        lambda: view._callbacks()["getattr"](shown(view, "missing plain name")),
        lambda: view._callbacks()["open"](shown(view, "missing plain name"), os.O_RDONLY),
        lambda: view._callbacks()["opendir"](shown(view, "missing plain name")),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert "plain" not in str(caught.value)
        assert caught.value.__context__ is None
